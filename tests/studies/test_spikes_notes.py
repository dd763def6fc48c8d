"""What a search for spikes cannot see: the first steps, of which nothing came before; and a replay of no spike."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinvest.core.spikes import FIRST, LEAST, seen_z, spike_z
from reinvest.dynamics.spike_report import SpikeReport
from reinvest.studies.spikes_notes import notes_of, unjudged
from reinvest.studies.spikes_result import spike_result


def report(loss: torch.Tensor, norm: torch.Tensor | None = None, **more: Any) -> SpikeReport:
    given = {"run": "x", "source": "steps", "threshold": 6.0, "window": 100, "steps_per_epoch": 10, "spikes": ()}
    none = torch.ones_like(loss)
    return SpikeReport(**{**given, "loss": loss, "gradient_norm": none if norm is None else norm, **more})


@pytest.mark.parametrize(("window", "first"), [(100, LEAST), (40, LEAST), (30, 30), (12, 12), (FIRST, FIRST)])
def test_as_many_steps_as_the_statistics_need_are_not_judged(window: int, first: int) -> None:
    assert unjudged(report(torch.rand(90), torch.rand(90), window=window)) == first


def test_a_run_shorter_than_that_is_not_judged_at_all() -> None:
    assert unjudged(report(torch.rand(20))) == 20 and unjudged(report(torch.rand(LEAST))) == LEAST
    assert unjudged(report(torch.empty(0))) == 0


def test_the_title_of_a_run_that_cannot_be_judged_denies_no_spike() -> None:
    run = SimpleNamespace(id="x", name="digits mlp", seed=3, task="digits")
    short, long = (spike_result(run, report(torch.ones(steps), torch.ones(steps)))["title"] for steps in (20, 90))
    assert short == "Loss spikes: nothing could be judged in digits mlp, seed 3"
    assert long == "Loss spikes: no spike in digits mlp, seed 3"


def test_of_epochs_it_is_fewer() -> None:
    assert unjudged(report(torch.rand(20), source="epochs")) == FIRST


@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, math.nan, math.inf, None]), min_size=1, max_size=400),
    st.integers(FIRST, 60),
    st.integers(0, 3),
)
def test_it_is_the_first_step_that_has_a_z(values: list[float | None], window: int, fill: int) -> None:
    """None: the loop asked for no loss there. The scores themselves say which step is the first."""
    values = [*values, *[1.0] * (100 * fill)]
    loss = torch.tensor([math.nan if value is None else value for value in values])
    asked = torch.tensor([value is not None for value in values])
    norm = torch.tensor([math.nan if value is None else 1.0 / value for value in values])
    z = torch.stack([seen_z(loss, asked, window), spike_z(norm, window)])
    known = (~z.isnan()).any(0).nonzero()[:, 0].tolist()
    found = unjudged(report(loss, norm, window=window, asked=asked))
    assert found == (known[0] if known else len(values))


def test_the_first_steps_are_said() -> None:
    (note,) = notes_of(report(torch.rand(90), window=40), asked=False)
    assert note == (
        "the first 30 of 90 steps cannot be judged: a step is compared with up to 40 before it, and at least 30 of them "
        "need finite values"
    )
    (note,) = notes_of(report(torch.rand(90), window=12), asked=False)
    assert note.startswith("the first 12 of 90 steps") and "at least 12 of them need" in note
    (note,) = notes_of(report(torch.rand(20)), asked=False)
    assert note.startswith("none of the 20 steps can be judged: ") and note.endswith("; train longer")
    (note,) = notes_of(report(torch.rand(20), source="epochs"), asked=False)
    assert note.startswith("the first 8 of 20 epochs cannot be judged") and "at least 8 of them need" in note
    assert notes_of(report(torch.rand(5), source="epochs"), asked=False) == [], "the hint of such a run says it"


def test_a_value_that_is_not_finite_among_them_is_said() -> None:
    loss = torch.rand(90)
    loss[7], loss[9], loss[50] = math.inf, math.nan, math.nan
    (note,) = notes_of(report(loss, torch.rand(90)), asked=False)
    assert note.endswith("; the value of step 7 is not finite")
    asked = torch.ones(90, dtype=torch.bool)
    asked[7], loss[7] = False, math.nan
    (note,) = notes_of(report(loss, torch.rand(90), asked=asked), asked=False)
    assert note.endswith("; the value of step 9 is not finite")
    (note,) = notes_of(report(loss[:12], torch.rand(12), asked=asked[:12]), asked=False)
    assert note.startswith("none of the 12 steps") and note.endswith("finite values; the value of step 9 is not finite")


def test_a_replay_of_no_spike_is_said() -> None:
    *_, note = notes_of(report(torch.rand(90)), asked=True)
    assert (
        note == "nothing was trained again, because there is no spike to replay; a lower threshold finds smaller rises"
    )
