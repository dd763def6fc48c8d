"""SequenceLengthWarmup."""

from __future__ import annotations

import itertools
import os

import pytest
import torch

from reinvest.core.batch import Batch
from reinvest.core.chain import Methods
from reinvest.core.errors import InvalidValue
from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.methods.augment.sequence_length import SequenceLengthWarmup, length_share, tokens_kept, truncate
from reinvest.store import Store
from reinvest.testbed.models.gpt import gpt
from reinvest.testbed.tasks.books import books
from reinvest.testing import Setup

X = torch.arange(4 * 64).view(4, 64)
Y = X + 1


def context_at(progress, total=1000):
    setup = Setup()
    model = setup.model()
    chain = Methods()
    with chain.attach(model, setup.optimizer(model), duration=f"{total}st", data=[0], seed=0):
        found = chain.context
    found.step, found.epoch = round(progress * total), 0
    return found


def at(method, progress, x=X, targets=Y, container=None):
    return method.augment(Batch(x, targets, None, container or (x, targets)), context_at(progress))


@pytest.mark.parametrize(("start", "until"), [(0.125, 0.3), (0.5, 1.0), (0.05, 0.8)])
def test_the_length_grows_in_six_steps_whose_mean_is_the_lines(start, until):
    found = [length_share(k / 5000, start, until) for k in range(5001)]
    assert found == sorted(found) and found[0] == start and len(set(found)) == 6
    rising = found[: round(until * 5000)]
    assert sum(rising) / len(rising) == pytest.approx((1 + start) / 2, abs=2e-3)
    assert all(share == 1.0 for share in found[round(until * 5000) :])


def test_lengths_are_multiples_and_the_last_is_exact():
    assert [tokens_kept(128, s, 8) for s in (0.01, 0.125, 0.3, 0.475, 0.999, 1.0)] == [8, 16, 40, 64, 128, 128]
    assert tokens_kept(100, 1.0, 8) == 100 and tokens_kept(100, 0.99, 8) == 96 and tokens_kept(5, 0.5, 8) == 5
    assert [tokens_kept(10, k / 10, 1) for k in range(1, 11)] == list(range(1, 11))


def test_tokens_and_targets_lose_the_same_places():
    for progress in (0.0, 0.1, 0.2, 0.29, 0.5):
        batch = at(SequenceLengthWarmup(), progress)
        length = batch.inputs.shape[1]
        assert torch.equal(batch.inputs, X[:, :length]) and torch.equal(batch.targets, Y[:, :length])
        assert batch.inputs.is_contiguous() and batch.targets.is_contiguous(), "models may call view(-1)"
        assert length == tokens_kept(64, length_share(progress), 8)
    assert at(SequenceLengthWarmup(), 0.0).inputs.shape == (4, 8)
    assert at(SequenceLengthWarmup(), 0.9).inputs is X


def test_dicts_keep_their_fields_in_step():
    box = {"input_ids": X, "attention_mask": torch.ones_like(X), "labels": Y, "weights": torch.ones(4), "note": "text"}
    batch = at(SequenceLengthWarmup(), 0.0, container=box)
    given = batch.package()
    assert {k: tuple(v.shape) for k, v in given.items() if k != "note"} == {
        "input_ids": (4, 8),
        "attention_mask": (4, 8),
        "labels": (4, 8),
        "weights": (4,),
    }
    assert torch.equal(given["labels"], Y[:, :8]) and given["note"] == "text" and box["attention_mask"].shape == (4, 64)
    assert at(SequenceLengthWarmup(), 0.0, targets=None, container=(X,)).package()[0].shape == (4, 8)


def test_one_target_a_sequence_must_be_admitted():
    labels = torch.zeros(4, dtype=torch.long)
    with pytest.raises(InvalidValue, match="one_label=True"):
        at(SequenceLengthWarmup(), 0.0, targets=labels)
    batch = at(SequenceLengthWarmup(one_label=True), 0.0, targets=labels)
    assert batch.targets is labels and batch.inputs.shape == (4, 8)
    # Targets that are as many as a row has tokens are still one a sequence.
    square = torch.zeros(8, 8, dtype=torch.long)
    batch = at(SequenceLengthWarmup(multiple=2, one_label=True), 0.0, square, torch.zeros(8, dtype=torch.long))
    assert batch.targets.shape == (8,) and batch.inputs.shape == (8, 2)


def test_what_is_no_token_sequence_is_refused():
    for x in (torch.zeros(4, 64), torch.zeros(4, 3, 8, 8), torch.zeros(4, 64, dtype=torch.bool), X[:, :, None]):
        with pytest.raises(InvalidValue, match="token numbers"):
            at(SequenceLengthWarmup(), 0.0, x)
    with pytest.raises(InvalidValue, match="a place for each token"):
        at(SequenceLengthWarmup(), 0.0, X, Y[:, :-1])
    with pytest.raises(InvalidValue, match="smaller start or multiple"):
        at(SequenceLengthWarmup(multiple=64), 0.0)
    assert truncate("text", 3, (4, 64)) == "text"


def test_short_batches_of_padded_texts_are_left_as_they_are():
    """Collated to the longest text of each batch, some batches are no longer than one multiple."""
    short, method = X[:, :8], SequenceLengthWarmup()
    assert at(method, 0.0).inputs.shape == (4, 8)
    for progress in (0.0, 0.2, 0.3, 0.9):
        assert at(method, progress, short, short).inputs is short
    assert at(method, 0.0, X[:, :20], Y[:, :20]).inputs.shape == (4, 8)
    assert at(SequenceLengthWarmup(), 0.5, short, short).inputs is short, "sequences are whole by then anyway"
    with pytest.raises(InvalidValue, match=r"shorter than 8 tokens, got start=0\.125 rounded to a multiple of 8"):
        at(SequenceLengthWarmup(), 0.0, short, short)
    with pytest.raises(InvalidValue, match="shorter than 8 tokens"):
        at(SequenceLengthWarmup(), 0.2, short, short)


def test_a_resumed_run_knows_the_longest_texts_that_came_before():
    short, method, other = X[:, :8], SequenceLengthWarmup(), SequenceLengthWarmup()
    at(method, 0.0)
    other.load_state_dict(method.state_dict())
    assert at(other, 0.1, short, short).inputs is short
    other.start(context_at(0.0))
    with pytest.raises(InvalidValue, match="smaller start or multiple"):
        at(other, 0.1, short, short)


def test_kinds_tell_the_length_before_the_first_batch():
    method = SequenceLengthWarmup(0.25, 0.5)
    kinds = [method.kind(context_at(k / 100)) for k in range(100)]
    runs = [kind for kind, _ in itertools.groupby(kinds)]
    assert runs == [f"{share} of the tokens" for share in ("0.25", "0.4", "0.55", "0.7", "0.85", "1")]
    assert SequenceLengthWarmup(1.0).kind(context_at(0.0)) is None


def text(folder):
    for name, count in (("train", 4200), ("valid", 700), ("test", 700)):
        (folder / f"{name}.txt").write_text("the quick brown fox jumps over the lazy dog " * (count // 44 + 1))


def test_beginnings_give_the_losses_that_a_causal_model_has_there(tmp_path):
    text(tmp_path)
    task = books(folder=tmp_path, length=32)
    torch.manual_seed(0)
    model = gpt(input_shape=(32,), classes=task.classes, width=8, layers=1, heads=2).eval()
    ids, x, y = next(iter(task.loader("train", 8)))
    short = SequenceLengthWarmup(0.5, multiple=4).augment(Batch(x, y, ids, (x, y)), context_at(0.0))
    whole = task.criterion(model(x), y)
    assert torch.allclose(task.criterion(model(short.inputs), short.targets), whole[:, :16], atol=1e-5)


@pytest.mark.parametrize(("objective", "model"), [("causal", "gpt"), ("masked", "bert")])
def test_the_packages_language_tasks_train(tmp_path, objective, model):
    text(tmp_path)
    recipe = Recipe(
        task={"name": "books", "folder": str(tmp_path), "length": 32, "objective": objective},
        model={"name": model, "width": 8, "layers": 1, "heads": 2},
        duration="1ep",
        batch_size=16,
        optimizer={"name": "sgd", "lr": 0.1},
        schedule="constant",
        methods=(SequenceLengthWarmup(0.25, 0.8, multiple=4),),
    )
    run = train(recipe, 0, Store(tmp_path / "runs"), device="cpu", progress=False)
    assert run.status == "finished"
    assert len({row["kind"] for row in run.cost["strata"]}) > 2


@pytest.mark.skipif("REINVEST_DATA" not in os.environ, reason="the books are not here")
def test_real_books_and_sentences():
    from reinvest.testbed.tasks.sentences import trec6

    for task, admitted in ((books(length=64), False), (trec6(length=64), True)):
        ids, x, y = next(iter(task.loader("train", 16)))
        found = SequenceLengthWarmup(0.25, one_label=admitted).augment(Batch(x, y, ids, (x, y)), context_at(0.0))
        assert found.inputs.shape == (16, 16) and bool((found.inputs != 0).any(1).all())
