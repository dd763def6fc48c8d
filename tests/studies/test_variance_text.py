"""What the sentences of a variance say, and what they withhold: from values that are made up, without training."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinvest.core.recipe import Recipe
from reinvest.evaluation.variance import by_source
from reinvest.studies.variance_against import changed_fields
from reinvest.studies.variance_sources import compared
from reinvest.studies.variance_text import Words, source_statements

ACCURACY = Words("accuracy")


def table(runs: int, *, machine: float = 0.0, whole: float = 0.01, seed: int = 1, **sds: float) -> dict[str, Any]:
    """Sources of these standard deviations, as the study keeps them."""
    draw = np.random.default_rng(seed)
    arms = {name: (0.9 + sd * draw.standard_normal(runs)).tolist() for name, sd in sds.items()}
    none = (0.9 + machine * draw.standard_normal(runs)).tolist()
    found = by_source(arms, whole=(0.9 + whole * draw.standard_normal(runs)).tolist(), none=none)
    entry = lambda part: {**asdict(part), "sd": part.sd}  # noqa: E731
    return {
        "runs": runs,
        "parts": [entry(part) for part in found.parts],
        "whole": entry(found.whole),
        "none": entry(found.none),
        "unexplained": {"share": found.unexplained, "low": found.unexplained_low, "high": found.unexplained_high},
        "absent": ["dropout"],
        "left": ["methods"],
        "same_bits": machine == 0.0,
        "compared": compared(arms if machine == 0.0 else {**arms, "none": none}, 0.0),
    }


def said(sources: dict[str, Any]) -> str:
    return "\n".join(source_statements(sources, ACCURACY))


@given(st.sampled_from([3, 4]), st.integers(0, 10_000), st.floats(1e-4, 0.1), st.floats(1e-4, 0.1))
@settings(max_examples=40, deadline=None)
def test_below_five_runs_no_source_is_called_larger(runs: int, seed: int, one: float, other: float) -> None:
    text = said(table(runs, seed=seed, init=one, order=other))
    assert f"which source makes runs vary more cannot be said of {runs} runs each; about 24 runs each" in text
    for word in ("than with", "most", "cannot be told", "add up"):
        assert word not in text


def test_a_source_is_said_to_be_larger_where_its_interval_lies_above_one() -> None:
    sources = table(20, init=0.05, order=0.005)
    (pair,) = sources["compared"]["pairs"]
    assert pair["low"] > 1
    sds = {part["source"]: f"{100 * part['sd']:.2f} points" for part in sources["parts"]}
    assert (
        f"runs vary more with the initial weights ({sds['init']}) than with the order of the examples ({sds['order']}), "
        f"{pair['ratio']:.2f} times as much by standard deviation (95 % interval {pair['low']:.2f} to {pair['high']:.2f} times)"
    ) in said(sources)
    assert "cannot be told apart" not in said(sources)


def test_where_it_cannot_be_told_the_runs_that_would_are() -> None:
    sources = table(6, init=0.02, order=0.01)
    (pair,) = sources["compared"]["pairs"]
    assert pair["larger"] == "" and pair["needed"] > 6
    text = said(sources)
    assert "cannot be told apart at 6 runs each" in text and f"about {pair['needed']:,} runs each would tell" in text
    assert f"vary {sources['compared']['smallest']:.1f} times as much" in text and "24 runs each would tell one" in text
    assert "than with" not in text
    pair |= {"needed": None}
    assert "more than 1,000 runs each would be needed" in said(sources)


def test_of_many_pairs_the_nearest_is_said_and_the_others_counted() -> None:
    sources = table(6, init=0.02, order=0.015, augment=0.012, methods=0.01)
    pairs = sources["compared"]["pairs"]
    text = said(sources)
    assert "none of the 6 pairs of sources can be told apart at 6 runs each; nearest to it are" in text
    assert "holding for all 6 pairs together" in text
    least = min(pair["needed"] or 1001 for pair in pairs)
    assert f"about {least:,} runs each would tell" in text and text.count("runs each would tell") == 2


def test_what_is_larger_than_several_is_said_once() -> None:
    sources = table(20, init=0.5, order=0.004, augment=0.005)
    assert [pair["larger"] for pair in sources["compared"]["pairs"]] == ["init", "init", ""]
    text = said(sources)
    assert (
        text.count("runs vary more with the initial weights (") == 1
        and text.count("; than with the random views (") == 1
    )
    (open_pair,) = (pair for pair in sources["compared"]["pairs"] if not pair["larger"])
    about = {"order": "the order of the examples", "augment": "the random views"}
    assert f"\n{about[open_pair['first']]} (" in text and text.count("cannot be told apart at 20 runs each") == 1


def test_the_machine_is_one_more_source_where_it_adds_anything() -> None:
    quiet, loud = said(table(12, init=0.02)), said(table(12, init=0.02, machine=0.0002))
    assert "12 runs are equal bit for bit" in quiet and "than with" not in quiet
    assert "that is the machine itself" in loud
    assert re.search(r"runs vary more with the initial weights .* than with the machine itself \(0\.0\d points\)", loud)


def test_what_does_not_vary_is_said_as_it_is() -> None:
    still = said(table(6, init=0.0, order=0.0))
    assert "the accuracy varies neither with the initial weights nor with the order of the examples" in still
    one = said(table(6, init=0.02, order=0.0))
    assert "than with the order of the examples (0.00 points), of which the 6 runs are all equal" in one


def test_whether_the_sources_add_up_is_said_only_where_the_interval_leaves_zero_out() -> None:
    undecided = table(6, init=0.007, order=0.007)
    left = undecided["unexplained"]
    made, low, high = (f"{100 * (1 - left[end]):.0f} %" for end in ("share", "high", "low"))
    assert f"cannot be told at 6 runs each: they make {made} of it (95 % interval {low} to {high})" in said(undecided)
    little = said(table(40, init=0.0001, order=0.0001, whole=0.01))
    assert "make too little: 100 % (95 % interval 100 % to 100 %)" in little
    assert "make more than all together" in said(table(40, init=0.05, order=0.05, whole=0.01))


def test_what_is_not_drawn_from_is_not_what_the_plan_leaves_out() -> None:
    text = said(table(6, init=0.01))
    assert "this recipe draws nothing from: dropout of the modules" in text
    assert "the plan does not look at: draws of the methods" in text


@pytest.mark.parametrize(("metric", "shown"), [("accuracy", "1.00 to 2.00 points"), ("loss", "0.01 to 0.02")])
def test_intervals_have_their_unit(metric: str, shown: str) -> None:
    assert Words(metric).between(0.01, 0.02) == shown


def test_recipes_go_by_what_differs() -> None:
    base = Recipe(task="digits", model="mlp", duration="2ep")
    other = base.with_(
        "Mixup", {"name": "LabelSmoothing", "alpha": 0.2}, task={"name": "digits", "train_examples": 200}
    )
    assert changed_fields(base, base) == []
    found = {one["field"]: (one["first"], one["second"]) for one in changed_fields(base, other)}
    assert found == {
        "task.train_examples": ("default", "200"),
        "methods": ("none", "Mixup + LabelSmoothing(alpha=0.2)"),
    }
    (one,) = changed_fields(base, base.with_(batch_size=64))
    assert one == {"field": "batch_size", "first": "128", "second": "64"}
