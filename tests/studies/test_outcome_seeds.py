"""A branch of a longer run is, bit for bit, the whole run of its seed: the two are one run to whatever counts seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from advised import recipe
from reinvest.loop.train import train
from reinvest.store import Store
from reinvest.studies.outcome_runs import one_a_seed
from reinvest.studies.outcomes import outcomes

SMALL = recipe(train_examples=200)
SHORT = SMALL.with_(duration="12st", schedule={"name": "cooldown", "share": 0.25})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Whole runs of seeds 0 and 1, and a branch of seed 1."""
    made = Store(tmp_path / "runs")
    trunk = train(SHORT.with_(duration="24st", schedule={**SHORT.schedule, "forks": [0.375]}), 1, made, progress=False)
    branch = train(SHORT, 1, made, trunk=trunk, progress=False)
    for seed in (0, 1):
        train(SHORT, seed, made, progress=False)
    assert "branch" in branch.facts
    return made


def test_a_branch_counts_where_there_is_no_whole_run_of_its_seed(store: Store) -> None:
    short = [run for run in store.runs() if run.config["duration"] == "12st"]
    branch = next(run for run in short if "branch" in run.facts)
    whole = {run.seed: run for run in short if "branch" not in run.facts}
    assert len(short) == 3
    kept, left = one_a_seed(short)
    assert {run.id for run in kept} == {whole[0].id, whole[1].id}
    assert [(one.run, one.seed) for one in left] == [(branch.id, 1)] and whole[1].id in left[0].why
    assert one_a_seed([whole[0], branch]) == ([whole[0], branch], [])
    # The run that was named stays.
    kept, left = one_a_seed(short, first=branch)
    assert {run.id for run in kept} == {whole[0].id, branch.id} and left[0].run == whole[1].id
    assert one_a_seed([whole[0], whole[0]])[1] == []


def test_outcomes_over_a_recipe_count_a_seed_once(store: Store) -> None:
    first = next(run for run in store.runs() if run.config["duration"] == "12st" and run.seed == 0)
    found = outcomes([first], store=store, same_recipe=True)
    assert sorted(run.seed for run in found.runs) == [0, 1]
    assert [one.seed for one in found.left_out] == [1]
