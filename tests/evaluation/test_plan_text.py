"""What a plan says: figures with their range, and what cannot be shown or is not known."""

from __future__ import annotations

from typing import Any

import pytest

from reinvest.evaluation.plan_text import hours_text, money_text, statements


def plan(**changes: Any) -> dict[str, Any]:
    planned = {"seeds": 5, "smallest_effect": 1.12, "low": 1.08, "high": 1.3, "runs": 28, "hours": 3.4, "money": 8.5}
    return {"noise": {}, "reason": "", "currency": "USD", "planned": planned, "effects": [], "looks": None, **changes}


def effect(**changes: Any) -> dict[str, Any]:
    row = {"effect": 1.05, "seeds": 31, "seeds_low": 14, "seeds_high": 90, "runs": 220, "hours": 26.0, "money": 65.0}
    return {**row, **changes}


@pytest.mark.parametrize(
    ("hours", "text"),
    [(None, "-"), (0.001, "3.6 s"), (0.2, "12 min"), (1.0, "1 h"), (3.4, "3.4 h"), (52.0, "52 h"), (1234.0, "1,234 h")],
)
def test_hours_are_told_in_the_unit_that_reads_best(hours: float | None, text: str) -> None:
    assert hours_text(hours) == text


def test_money_has_cents_where_they_matter_and_two_digits_below() -> None:
    shown = {
        None: "-",
        1300.4: "1,300 USD",
        99.0: "99.00 USD",
        0.4: "0.40 USD",
        0.0: "0.00 USD",
        0.0123: "0.012 USD",
        0.00309: "0.0031 USD",
        0.00999: "0.010 USD",
        1.7e-05: "0.000017 USD",
    }
    assert {value: money_text(value, "USD") for value in shown} == shown


def test_what_the_planned_seeds_find_and_what_is_lacking() -> None:
    (said,) = statements(plan())
    assert said == (
        "with 5 seeds the study finds a speed-up of 1.12 four times in five (1.08 to 1.3, as far as the noise is known); "
        "28 runs are lacking, 3.4 h of training, 8.50 USD"
    )
    open_ended = plan()["planned"] | {"high": None, "hours": None, "money": None}
    assert "1.08 to any size" in statements(plan(planned=open_ended))[0]
    flat = plan()["planned"] | {"smallest_effect": None}
    assert "no speed-up can be shown, because quality hardly depends on time" in statements(plan(planned=flat))[0]


def test_what_an_effect_needs() -> None:
    found = statements(plan(effects=[effect(), effect(seeds=4), effect(seeds=None), effect(seeds_high=None)]))[1:]
    assert found[0] == (
        "a speed-up of 1.05 needs 31 seeds (14 to 90): 220 runs more than there are, 26 h of training, 65.00 USD"
    )
    assert found[1] == "a speed-up of 1.05 needs 4 seeds (14 to 90)"
    assert found[2] == "a speed-up of 1.05 cannot be shown with 10,000 seeds"
    assert "14 to more than 10,000" in found[3]


def test_looks_and_unknown_noise() -> None:
    looks = {"effects": [{"effect": 1.1, "found": 0.823, "mean_seeds": 5.75}]}
    assert (
        "is found in 82 % of studies with these looks, which end after 5.8 seeds on average"
        in statements(plan(looks=looks))[1]
    )
    unknown = plan(noise=None, reason="why; what to do")
    assert statements(unknown) == ["why; what to do", "with 5 seeds 28 runs are lacking, 3.4 h of training, 8.50 USD"]
    unknown["planned"] |= {"hours": None, "money": None}
    assert statements(unknown)[1] == "with 5 seeds 28 runs are lacking, hours of training not known yet"
