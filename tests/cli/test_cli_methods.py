"""`reinvest methods`."""

from __future__ import annotations

from calling import Call


def test_the_catalogue_is_a_table(call: Call) -> None:
    said = call("methods")
    assert said.out.splitlines()[0].split() == ["method", "phase", "cost", "per", "step", "year", "arXiv"]
    for name in ("LabelSmoothing", "SAM", "BlurPool", "EMA"):
        assert f"\n{name} " in said.out
    listed = {card["name"]: card for card in call("methods", "--json").data["methods"]}
    assert len(listed) >= 9
    assert listed["SAM"]["arxiv"] == "2010.01412"
    assert listed["SAM"]["needs_closure"] is True


def test_a_name_prints_its_card(call: Call) -> None:
    said = call("methods", "sam")
    assert said.out.startswith("SAM(rho=0.05, interval=1)")
    for expected in ("Foret", "2010.01412", "breaks:", "methods.step(closure)"):
        assert expected in said.out
    assert call("methods", "LabelSmoothing", "--json").data["arguments"] == {"alpha": 0.1}


def test_what_our_own_comparisons_found_is_on_the_card(call: Call) -> None:
    assert "\nfound:" in call("methods", "SAM").out
    assert "\nfound:" not in call("methods", "GyroDropout").out
