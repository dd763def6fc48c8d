"""Several workloads: profiles of hand-made ratios, means only where they may be taken, and refusals."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv
from workload_results import result_of

from reinvest.core.errors import InvalidValue, NotComparable, UnknownName
from reinvest.evaluation.workloads import FEWEST, geometric_mean, profile, workloads


def results(speedups: dict[str, list[float | None]], **more: Any) -> list[dict[str, Any]]:
    """One result a workload; speedups by arm."""
    count = len(next(iter(speedups.values())))
    return [result_of(f"task {k}", {arm: values[k] for arm, values in speedups.items()}, **more) for k in range(count)]


def test_the_profile_is_the_share_of_workloads_within_a_time_ratio() -> None:
    assert profile([0.5, 0.8, 0.8, math.inf]) == [(0.5, 0.25), (0.8, 0.75)]
    assert profile([math.inf, math.inf]) == []
    found = workloads(results({"a": [2.0, 1.25, None, 0.5]}))
    assert found["profiles"]["a"] == [[0.5, 0.25], [0.8, 0.5], [2.0, 0.75]]


def test_adding_an_arm_changes_nothing_for_the_others() -> None:
    alone = workloads(results({"a": [2.0, 1.25, 0.5]}))
    both = workloads(results({"a": [2.0, 1.25, 0.5], "b": [9.0, 9.0, 9.0]}))
    for key in ("profiles", "means", "counts"):
        assert both[key]["a"] == alone[key]["a"]
    assert [w["arms"]["a"] for w in both["workloads"]] == [w["arms"]["a"] for w in alone["workloads"]]


def test_a_mean_is_taken_from_six_workloads_on() -> None:
    values = [1.1, 1.3, 0.9, 1.2, 1.05, 1.4]
    few = workloads(results({"a": values[:5]}))["means"]["a"]
    assert few["speedup"] is None and "no claim beyond these workloads" in few["reason"]
    enough = workloads(results({"a": values}))["means"]["a"]
    logs = np.log(values)
    half = 2.5705818366147395 * logs.std(ddof=1) / math.sqrt(6)
    assert enough["speedup"] == pytest.approx(math.exp(logs.mean()), rel=1e-12)
    assert enough["low"] == pytest.approx(math.exp(logs.mean() - half), rel=1e-9)
    assert enough["high"] == pytest.approx(math.exp(logs.mean() + half), rel=1e-9)
    assert FEWEST == 6 and enough["workloads"] == 6


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 10.0), min_size=6, max_size=12))
def test_inverse_ratios_have_the_inverse_mean(speedups: list[float]) -> None:
    one, two = geometric_mean(speedups), geometric_mean([1 / s for s in speedups])
    assert one["speedup"] * two["speedup"] == pytest.approx(1.0, rel=1e-9)
    assert one["low"] * two["high"] == pytest.approx(1.0, rel=1e-9)
    assert one["low"] <= one["speedup"] <= one["high"]


def test_a_miss_is_infinite_in_the_profile_and_forbids_the_mean() -> None:
    found = workloads(results({"a": [1.1, 1.2, 1.3, 1.2, 1.1, None]}))
    assert found["profiles"]["a"][-1][1] == pytest.approx(5 / 6)
    mean = found["means"]["a"]
    assert mean["speedup"] is None and "task 5" in mean["reason"]
    assert found["workloads"][5]["arms"]["a"]["ratio"] is None


def test_a_bound_counts_with_what_is_known_of_it_and_forbids_the_mean() -> None:
    rows = results({"a": [1.1, 1.2, 1.3, 1.2, 1.1, 1.2]})
    rows[0]["arms"]["a"]["verdict"] |= {"speedup": None, "low": 4.0, "high": None, "verdict": "better"}
    rows[1]["arms"]["a"]["verdict"] |= {"speedup": None, "low": None, "high": 0.5, "verdict": "worse"}
    found = workloads(rows)
    assert found["profiles"]["a"][0] == [0.25, pytest.approx(1 / 6)]
    assert found["profiles"]["a"][-1][1] == pytest.approx(5 / 6), "at least twice as slow: how much is not known"
    assert "task 0" in found["means"]["a"]["reason"] and found["workloads"][0]["arms"]["a"]["bound"]


def test_what_was_not_comparable_is_a_miss_whatever_else_it_says() -> None:
    rows = results({"a": [1.1, 1.2]})
    rows[0]["arms"]["a"]["verdict"] |= {"verdict": "not comparable", "reasons": ["too few seeds"]}
    found = workloads(rows)
    assert found["workloads"][0]["arms"]["a"] == {
        "verdict": "not comparable", "speedup": None, "low": None, "high": None, "ratio": None, "bound": False,
        "reason": "too few seeds",
    }  # fmt: skip
    assert found["counts"]["a"] == {"not comparable": 1, "better": 1}


def test_the_result_is_plain_json_and_in_order() -> None:
    found = workloads(results({"a": [1.1, None]}), title="two")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [w["name"] for w in found["workloads"]] == ["task 0", "task 1"]
    assert found["kind"] == "workloads" and found["title"] == "two" and found["baseline"] == "plain"


def test_models_tell_workloads_of_one_task_apart() -> None:
    rows = [result_of("birds", {"a": 1.1}, model="small"), result_of("birds", {"a": 1.2}, model="large")]
    assert [w["name"] for w in workloads(rows)["workloads"]] == ["birds, small", "birds, large"]


def test_files_of_points_with_one_name_are_two_workloads_unless_they_hold_the_same() -> None:
    rows = [result_of("points.csv", {"a": speedup}) for speedup in (1.1, 1.2, 1.3)]
    for place, row in enumerate(rows):
        row["task"]["fingerprint"] = None
        row["arms"] = {
            name: {**arm, "recipe": None, "points": [{"seed": 0, "quality": 0.5 + place / 10}]}
            for name, arm in row["arms"].items()
        }
    assert [w["name"] for w in workloads(rows)["workloads"]] == [f"points.csv ({k})" for k in (1, 2, 3)]
    with pytest.raises(NotComparable, match=r"each workload once, got 'points.csv' twice"):
        workloads([*rows, copy.deepcopy(rows[1])])


def test_refusals() -> None:
    one, two = results({"a": [1.1, 1.2]})
    with pytest.raises(InvalidValue, match="at least 2 workloads"):
        workloads([one])
    with pytest.raises(NotComparable, match=r"each workload once, got 'task 0, net' twice"):
        workloads([one, two, copy.deepcopy(one)])
    other = copy.deepcopy(two)
    other["baseline"] = "a"
    with pytest.raises(NotComparable, match="one baseline"):
        workloads([one, other])
    other = copy.deepcopy(two)
    other["arms"]["plain"]["recipe"]["methods"] = [{"name": "Mixup"}]
    with pytest.raises(NotComparable, match=r"'plain' .*Mixup"):
        workloads([one, other])
    other = copy.deepcopy(two)
    other["arms"]["a"]["recipe"]["methods"] = [{"name": "Mixup"}]
    with pytest.raises(NotComparable, match=r"'a' .*Mixup"):
        workloads([one, other])
    other = result_of("task 9", {"b": 1.1})
    with pytest.raises(NotComparable, match="lacks 'a'"):
        workloads([one, other])
    with pytest.raises(UnknownName):
        workloads([one, two], arms=["z"])
    three = [result_of(f"t{k}", {"a": 1.1, **({"b": 1.0} if k else {})}) for k in range(2)]
    assert list(workloads(three, arms=["a"])["profiles"]) == ["a"]


def test_the_interval_of_the_mean_covers_the_truth() -> None:
    """Log ratios drawn around a true mean: the exact 99 % bound of the misses must allow 5 %."""
    rng = np.random.default_rng(0)
    trials, missed = 2000, 0
    for _ in range(trials):
        found = geometric_mean(list(np.exp(rng.normal(0.1, 0.2, size=8))))
        missed += not found["low"] <= math.exp(0.1) <= found["high"]
    assert float(betaincinv(missed, trials - missed + 1, 0.01)) <= 0.05
    assert float(betaincinv(missed + 1, trials - missed, 0.99)) >= 0.05
