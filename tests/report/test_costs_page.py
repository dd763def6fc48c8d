"""Cost at equal quality on the page of a comparison: every figure is in its twin, and what is not known is said."""

from __future__ import annotations

from typing import Any

import pytest
from page import Page, agrees, at
from sample_results import every_kind

from reinvest.evaluation.costs import Prices, costs_of, priced
from reinvest.evaluation.outcome import Verdict
from reinvest.report.costs import cost_units, cost_words, reuse_lines
from reinvest.report.html import render
from reinvest.report.text import print_verdicts

EARLIER = "old"
GPU = {"hardware": {"device": "<b>GPU", "devices": 1, "kind": "cuda"}}


class Earlier:
    """What every run of the sample used, and the one from which an arm's were made."""

    reuse: tuple[Any, ...] = ()
    facts = GPU

    def __init__(self, name: str, seconds: float, parents: tuple[str, ...], cost: dict[str, Any]) -> None:
        self.id, self.seconds, self.parents, self.cost = name, seconds, parents, cost


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The sample comparison with costs: its first arm re-uses a run of 30 s, all runs have energy and memory."""
    found = every_kind(timed=False)
    monkeypatch.setattr(
        "reinvest.evaluation.costs.find_run", lambda name, who: Earlier(name, 30.0, (), {"peak_memory": 1})
    )
    judged = {n: a["verdict"] for n, a in found["arms"].items() if a["verdict"] is not None}
    verdicts = {
        n: Verdict(
            n,
            found["baseline"],
            v["verdict"],
            speedup=v["speedup"] or float("nan"),
            low=v["low"] or 0.0,
            high=v["high"] or float("inf"),
        )
        for n, v in judged.items()
    }
    points = [{**p, "arm": n} for n, a in found["arms"].items() for p in a["points"] if p["quality"] is not None]
    first = next(n for n, v in verdicts.items() if v.verdict == "better")
    cost = {"peak_memory": 3 * 10**9, "energy_joules": 900.0, "energy_seconds": 3.0}
    runs = [Earlier(p["run"], p["seconds"], (EARLIER,) if p["arm"] == first else (), cost) for p in points]
    found["costs"] = costs_of(found["baseline"], points, points, [], verdicts, runs)
    assert found["costs"] is not None and found["costs"]["arms"][first]["reuse"] is not None
    return found


@pytest.mark.parametrize("price", [None, 1000.0, 0.001])
def test_every_figure_of_the_costs_is_in_the_twin(result: dict[str, Any], price: float | None) -> None:
    if price is not None:
        result = priced(result, Prices("EUR", {"<b>GPU": price}))
    page = Page(render(result))
    shown = {f.path: f for f in page.figures if f.path.startswith("/costs/")}
    for figure in shown.values():
        assert agrees(figure, at(result, figure.path)), figure
    for name, entry in result["costs"]["arms"].items():
        path = "/costs/arms/" + name.replace("~", "~0").replace("/", "~1")
        for axis in ("seconds", "energy", "memory", *(["money"] if price else [])):
            known = entry[axis] is not None and entry["seconds"] is not None
            assert (f"{path}/{axis}/value" in shown) == known or axis == "memory", (name, axis)
    assert ("at the prices given" in page.text) == (price is not None)
    assert ("EUR, 1,000 runs" in page.text) == (price == 0.001)
    assert "Pays from re-use k" in page.text and "allocated on the device" in page.text
    assert "The device told no energy" not in page.text


def test_a_page_without_meters_says_so_and_one_without_costs_has_no_table(result: dict[str, Any]) -> None:
    for entry in result["costs"]["arms"].values():
        entry |= {"energy": None, "memory": None, "reuse": None}
    text = Page(render(result)).text
    assert "The device told no energy." in text and "Peak memory" not in text and "paid for" not in text
    for missing in (None, "absent"):
        bare = {k: v for k, v in result.items() if k != "costs"} | ({} if missing else {"costs": None})
        assert "Cost at equal quality" not in Page(render(bare)).text


def test_headings_follow_the_size_of_what_is_shown(result: dict[str, Any]) -> None:
    assert cost_words(result) == {"money": "", "energy": "kJ", "memory": "allocated on the device"}
    assert cost_units(result)["energy"].show(11_520.0) == "11.5"
    small = priced(result, Prices("CHF", {"<b>GPU": 0.01}))
    assert cost_words(small)["money"] == "CHF, 1,000 runs" and cost_units(small)["money"].scale == 1000
    assert cost_words(priced(result, Prices("CHF", {"<b>GPU": 10.0})))["money"] == "CHF"


def test_the_terminal_shows_the_same(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(record=True, width=200, force_terminal=False)
    print_verdicts(priced(result, Prices("EUR", {"<b>GPU": 1000.0})), console)
    text = console.export_text()
    for part in ("Cost at equal quality", "EUR", "kJ", "peak memory, GB", "re-uses 1 earlier run (30.0 s)", "3.00"):
        assert part in text, part
    reuse = next(entry["reuse"] for entry in result["costs"]["arms"].values() if entry["reuse"])
    (line,) = reuse_lines(result)
    assert f"it pays from re-use {reuse['break_even']['uses']} on" in line
    reuse["break_even"] = {"uses": None, "low": None, "high": None}
    assert "saves nothing that could pay" in reuse_lines(result)[0]
    reuse |= {"full": None, "reason": "the cost of these earlier runs is not known: old"}
    assert reuse_lines(result)[0].endswith("not known: old")
