"""A real comparison whose arm re-uses a stored run: what that run cost is in the result, marginal and in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import reinvest as ri
from reinvest.core.hardware import facts
from reinvest.evaluation.costs import Prices, break_even, priced

BASE = ri.Recipe(task={"name": "digits", "train_examples": 96}, model="mlp", batch_size=32, duration="1ep")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The earlier run, and the comparison of a baseline with an arm that distils it."""
    with ri.Store(tmp_path_factory.mktemp("costs") / "runs") as store:
        past = ri.train(BASE.with_(duration="8ep"), seed=0, store=store, progress=False, device="cpu")
        arms = {"taught": BASE.with_(ri.Distill(past.id)), "smooth": BASE.with_(ri.LabelSmoothing(0.1))}
        found = ri.compare(BASE, arms, durations=["1ep", "2ep", "4ep", "8ep"], seeds=3, store=store, workers=1)
    return past, found


def test_the_earlier_run_is_charged_to_the_arm_that_re_uses_it_and_to_no_other(outcome: tuple[Any, Any]) -> None:
    past, verdicts = outcome
    costs = verdicts.result["costs"]
    reuse = costs["arms"]["taught"]["reuse"]
    assert [one["run"] for one in reuse["runs"]] == [past.id]
    assert reuse["earlier_seconds"] == pytest.approx(past.seconds)
    assert costs["arms"]["smooth"]["reuse"] is None and costs["arms"]["baseline"]["reuse"] is None
    # What its equal quality takes depends on a verdict about runs this short; where there is none, nothing is said.
    speedup = verdicts["taught"].speedup
    refused = verdicts["taught"].verdict == "not comparable"
    assert (costs["arms"]["taught"]["seconds"] is None) == (reuse["full"] is None) == refused
    if not refused and speedup == speedup:
        seconds, base = costs["arms"]["taught"]["seconds"]["value"], costs["arms"]["baseline"]["seconds"]["value"]
        assert seconds == pytest.approx(base / speedup)
        assert reuse["full"]["seconds"] == pytest.approx(seconds + past.seconds)
        assert reuse["break_even"]["uses"] == break_even(past.seconds, base, seconds)


def test_the_baselines_row_is_its_longest_cell(outcome: tuple[Any, Any], tmp_path: Path) -> None:
    _, verdicts = outcome
    costs, cells = verdicts.result["costs"], verdicts.result["arms"]["baseline"]["cells"]
    assert costs["at"]["duration"] == "8ep"
    assert costs["arms"]["baseline"]["seconds"]["value"] == pytest.approx(cells[-1]["seconds"])
    assert costs["device"]["name"] == facts()["hardware"]["device"]
    money = priced(verdicts.result, Prices("EUR", {costs["device"]["name"]: 3600.0}))["costs"]["arms"]["baseline"][
        "money"
    ]
    assert money["value"] == pytest.approx(cells[-1]["seconds"])
    page = verdicts.report(tmp_path / "r.html").read_text()
    assert "What is re-used, paid for" in page
