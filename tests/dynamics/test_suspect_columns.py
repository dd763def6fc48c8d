"""The columns that suspects are told by, each by hand."""

from __future__ import annotations

import math

import pytest
import torch
from suspect_runs import run_of

from reinvest.dynamics._histories import epochs_of, histories
from reinvest.dynamics.series import filled
from reinvest.dynamics.suspects import find_suspects

NAN = math.nan


def columns(run):
    return histories(run, epochs_of(run))


def of_three(**more):
    """Three examples in four epochs: one easy, one learned by heart after two epochs, one never seen."""
    return run_of(
        [[1.0, 0.5, 0.1, 0.1], [2.0, 3.0, 1.0, 0.2], [NAN, NAN, NAN, NAN]],
        [[0, 0, 0, 0], [2, 2, 1, 1], [-1, -1, -1, -1]],
        [0, 1, 2],
        **more,
    )


def test_columns_by_hand():
    run = of_three()
    epochs = epochs_of(run)
    assert epochs.seen.tolist() == [2, 2, 2, 2]
    assert epochs.right.tolist() == [0.5, 0.5, 1.0, 1.0]
    found = histories(run, epochs)
    assert found.mean_loss[:2].tolist() == pytest.approx([0.425, 1.55])
    assert found.mean_loss[2].isnan()
    logs = torch.tensor([[1.0, 0.5, 0.1, 0.1], [2.0, 3.0, 1.0, 0.2]]).log1p()
    assert torch.allclose(found.height[:2], (logs - logs.mean(0)).mean(1), atol=1e-6)
    assert found.confidence[:2].tolist() == pytest.approx(torch.exp(-run.loss[:2]).mean(1).tolist())
    assert found.first[:2].tolist() == [0, 2]
    assert found.learned[:2].tolist() == [0, 2]
    assert found.forgotten[:2].tolist() == [0, 0]
    assert found.suggested.tolist() == [-1, 2, -1]
    # Epochs 0 and 1 were right for half of the examples, 2 and 3 for all: they weigh 1/2, 1/2, 1, 1.
    assert found.support[:2].tolist() == pytest.approx([0, 1 / 3])
    assert found.settled[1] == 1.0
    assert found.share[1] == 0.5


def test_the_suggestion_is_of_the_time_before_the_label_was_learned_by_heart():
    said = [2, 0, 2] + [1] * 17
    run = run_of([[1.0] * 20, [0.5] * 20], [said, [0] * 20], [1, 0])
    found = columns(run)
    assert found.suggested.tolist() == [2, -1]
    assert found.learned.tolist() == [3, 0]
    assert found.settled[0] == pytest.approx(2 / 3)


def test_an_answer_counts_by_how_good_the_epoch_was():
    # Twice class 2 while everything was wrong, once class 0 in an epoch where the others were right.
    others = [[1, 1, 0, 0]] * 3
    run = run_of([[1.0] * 4] * 4, [[2, 2, 0, 1], *others], [1, 0, 0, 0])
    assert columns(run).suggested[0] == 0


def test_an_example_that_was_not_seen_early_is_not_taken_for_an_easy_one():
    falling = torch.linspace(3, 0.1, 10).expand(4, 10).clone()
    whole = run_of(falling.tolist(), [[0] * 10] * 4, [0, 0, 1, 1])
    gaps = falling.clone()
    gaps[0, :5] = NAN
    missing = run_of(gaps.tolist(), [[-1] * 5 + [0] * 5, *[[0] * 10] * 3], [0, 0, 1, 1])
    assert columns(whole).height.tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert columns(missing).height.tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert columns(missing).mean_loss[0] < columns(missing).mean_loss[1]


def test_losses_that_are_not_finite_do_not_count():
    run = run_of([[1.0, math.inf, 1.0, 1.0], [1.0] * 4], [[0] * 4, [1] * 4], [0, 1])
    assert columns(run).mean_loss.tolist() == [1.0, 1.0]


def test_epochs_after_the_end_of_a_run_are_left_out():
    loss = torch.full((2, 9), NAN)
    loss[:, :4] = 1.0
    said = torch.full((2, 9), -1)
    said[:, :4] = 0
    run = run_of(loss.tolist(), said.tolist(), [0, 1])
    assert epochs_of(run).kept.tolist() == [0, 1, 2, 3]
    found = find_suspects(run)
    assert found.epochs == 4


def test_gaps_are_filled_with_the_value_before_them_or_after_the_first():
    losses = torch.tensor([[NAN, 2.0, NAN, NAN, 5.0], [NAN] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]])
    found = filled(losses)
    assert found[0].tolist() == [2.0, 2.0, 2.0, 2.0, 5.0]
    assert found[1].isnan().all()
    assert found[2].tolist() == losses[2].tolist()
