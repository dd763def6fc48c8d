"""Suspects on input that is less than usual: losses alone, examples that were left out, no class labels."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from suspect_runs import drawn

from reinvest.core.errors import InvalidValue
from reinvest.dynamics._ranking import CONFLICT, LABEL_ERROR, ORDER
from reinvest.dynamics.clean import clean_probability
from reinvest.dynamics.suspects import find_suspects
from reinvest.dynamics.suspects_text import statements
from reinvest.dynamics.trajectories import Trajectories


def test_losses_alone_are_enough_for_high_losses():
    run, bad, _ = drawn()
    found = find_suspects(Trajectories(run.loss))
    assert found.found == {"high loss": 100} and float(bad[found.ids[:50]].float().mean()) == 1.0
    labelled = find_suspects(Trajectories(run.loss, labels=run.labels))
    assert len(labelled.of("high loss")) == 100 and labelled.found["never learned"] == 0


def test_losses_that_are_nowhere_finite_may_be_those_of_other_targets():
    nothing = torch.full((40, 5), math.nan)
    with pytest.raises(InvalidValue, match="on class labels, or with a smaller learning rate"):
        find_suspects(Trajectories(nothing, correct=nothing))
    with pytest.raises(InvalidValue, match="on class labels, or with a smaller learning rate"):
        clean_probability(nothing)


def test_doubles_of_examples_that_were_left_out_of_training_are_no_leaks():
    run, _, _ = drawn(count=100, wrong=0)
    hashes = torch.arange(100)
    hashes[3], hashes[4] = hashes[93], hashes[94]
    loss, said = run.loss.clone(), run.predicted.clone()
    loss[90:], said[90:] = math.nan, 255
    roles = torch.ones(100, dtype=torch.uint8)
    roles[94], roles[95:] = 3, 0  # 93: of the training split, but never chosen
    made = dataclasses.replace(run, loss=loss, predicted=said, hashes=hashes)
    assert find_suspects(made).leaks == 2
    assert find_suspects(dataclasses.replace(made, roles=roles)).leaks == 1


def test_the_sentence_on_probable_errors_counts_conflicts_apart():
    run, _, _ = drawn(count=300)
    found = find_suspects(run)
    kinds = found.kinds.clone()
    kinds[:10], kinds[10:20] = ORDER.index(CONFLICT), ORDER.index(LABEL_ERROR)
    some = torch.arange(20)
    columns = (
        "ids",
        "score",
        "label",
        "suggested",
        "share",
        "learned",
        "forgotten",
        "mean_loss",
        "percentile",
        "losses",
    )
    made = dataclasses.replace(
        found,
        **{name: getattr(found, name)[some] for name in columns},
        kinds=kinds[some],
        probability=torch.ones(20),
        twins=found.twins[:20],
    )
    told = " ".join(statements(made))
    assert int(made.issues().sum()) == 20
    assert "10 of them are wrong with a probability of 1/2 or more" in told and "and 10 label conflicts" in told


def test_rows_that_were_not_hashed_are_no_doubles():
    hashes = torch.arange(100)
    hashes[:50] = 0
    hashes[60] = hashes[61]
    run, _, _ = drawn(count=100, wrong=0, hashes=hashes)
    found = find_suspects(run, most=100)
    twins = dict(zip(found.ids.tolist(), found.twins, strict=True))
    assert {i: other for i, other in twins.items() if other} == {60: (61,), 61: (60,)}
