"""Trial steps price a run as it will be: with its real length, in its own parts."""

from __future__ import annotations

import pytest

import reinvest as ri
from reinvest.core.errors import InvalidValue
from reinvest.core.recipe import Recipe
from reinvest.evaluation.estimate import estimate
from reinvest.loop.session import Session
from reinvest.loop.train import calibrate, train
from reinvest.loop.trial import trial_seconds
from reinvest.store import Store


@pytest.fixture
def taught(recipe: Recipe, store: Store) -> Recipe:
    """Nine steps an epoch; the teacher is left alone after four of eight epochs."""
    past = train(recipe, 0, store, device="cpu", progress=False)
    return recipe.with_(ri.Distill(past, until="4ep"), duration="8ep")


def test_an_estimate_takes_a_method_that_ends_after_some_epochs(recipe: Recipe, taught: Recipe, store: Store) -> None:
    study = ri.Study(baseline=recipe, arms={"taught": taught}, durations=["8ep", "16ep", "32ep", "64ep"], seeds=3)
    cost = estimate(study, store, workers=1, threads=1)
    assert (cost["runs"], cost["found"]) == (24, 0)
    assert cost["seconds_per_step"]["taught"] > 0


def test_a_length_in_minutes_takes_a_method_that_ends_after_some_epochs(taught: Recipe, store: Store) -> None:
    from dataclasses import replace

    with store.lending():
        assert calibrate(replace(taught, duration="0.2min"), 0, probes=5) > 36
        with pytest.raises(InvalidValue, match="until lies within the run, got '4ep' for a run of"):
            calibrate(replace(taught, duration="0.000001min"), 0, probes=5)


def test_trial_steps_lie_all_over_the_run(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    session, asked, step = Session(recipe, 0), [], Session.step

    def look(self, batch):  # type: ignore[no-untyped-def]
        asked.append(self.methods.context.step)
        return step(self, batch)

    monkeypatch.setattr(Session, "step", look)
    assert len(trial_seconds(session, 12, warmup=2)) == 12
    assert session.total_steps == 24 and asked == [0, 0, *range(0, 24, 2)]
