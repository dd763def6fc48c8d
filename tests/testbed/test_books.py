"""The books: windows tile the texts, both objectives share them, and training on them works."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from written_texts import prose, write_books

import reinvest as ri
from reinvest._testing.task import TaskContract
from reinvest.core.criterion import IGNORE
from reinvest.core.errors import DataError, InvalidValue, UnknownName
from reinvest.loop.evaluate import evaluate
from reinvest.loop.session import Session
from reinvest.testbed.tasks.books import books
from reinvest.testbed.tasks.tokens import ByteVocabulary

TEXTS = prose(900), prose(150, 3), prose(200, 5)
BOTH = ("causal", "masked")


@pytest.fixture
def folder(tmp_path):
    return str(write_books(tmp_path))


class LanguageContract(TaskContract):
    """What every task keeps, with targets for each token."""

    objective = ""
    every_row_in_a_split = True

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path):
        self.folder = tmp_path

    def make_task(self):
        return self.make_altered(None)

    def make_altered(self, change):
        train, valid, test = TEXTS
        if change == "pixel":
            train = train.replace("p", "q", 1)
        if change == "label":  # the very last target
            test = test[:-1] + "!"
        write_books(self.folder, (train, valid, test))
        return books(folder=self.folder, objective=self.objective, length=16)

    def test_losses_and_scores_are_per_example(self):
        task = self.make_task()
        _, _, y = next(iter(task.loader("test", self.batch_size)))
        output = torch.zeros(len(y), task.classes, y.shape[1])
        losses, scores = task.criterion(output, y), task.score(output, y)
        assert losses.shape == y.shape and scores.shape == (len(y),)
        assert torch.allclose(scores, torch.full_like(scores, math.log(258)))


class TestCausal(LanguageContract):
    objective = "causal"


class TestMasked(LanguageContract):
    objective = "masked"


def stored(task, split):
    """Every window of a split in the order of ids: (ids, x)."""
    batches = list(task.clean(50, task.splits[split].sort().values))
    return torch.cat([ids for ids, _, _ in batches]), torch.cat([x for _, x, _ in batches])


@pytest.mark.parametrize("length", [7, 32])
def test_windows_tile_the_texts(folder, length):
    task = books(folder=folder, length=length, evaluation_examples=None)
    known, first = ByteVocabulary(), 0
    for split, text in zip(("train", "validation", "test"), TEXTS, strict=True):
        ids, x = stored(task, split)
        whole = known.encode(text)
        assert ids.tolist() == list(range(first, first + (len(whole) - 1) // length))
        assert x.flatten().tolist() == whole[: x.numel()].tolist()
        assert len(whole) - x.numel() <= length
        first += len(ids)


def test_both_objectives_have_the_same_windows_and_are_not_mixed_up(folder):
    causal, masked = (books(folder=folder, length=16, objective=o) for o in BOTH)
    assert causal.name == masked.name == "books-bytes-16"
    assert all(torch.equal(causal.splits[s], masked.splits[s]) for s in causal.splits)
    ids = torch.arange(20)
    assert torch.equal(causal.hashes(ids), masked.hashes(ids))
    assert causal.fingerprint != masked.fingerprint
    assert causal.view.preprocessing != masked.view.preprocessing
    _, x = stored(causal, "test")
    batches = list(masked.loader("test", 64))
    shown, y = torch.cat([b[1] for b in batches]), torch.cat([b[2] for b in batches])
    assert torch.equal(torch.where(y == IGNORE, shown, y), x)
    assert not causal.higher_is_better and (causal.metric, causal.classes) == ("nll", 258)


def test_the_view_says_what_the_model_sees(folder):
    view = books(folder=folder, length=16, vocabulary=256).view
    assert view.namespace == "books-bytes-16" and view.classes == 258 and not view.moves
    assert view.preprocessing == f"windows of 16 tokens, vocabulary bytes {ByteVocabulary().hash}, causal"
    assert view.hashes is not None and len(view.hashes()) == view.examples == len(view.roles())


def test_parts_of_the_training_windows(folder):
    whole = books(folder=folder, length=16)
    part, tokens = books(folder=folder, length=16, train_examples=30), books(folder=folder, length=16, train_tokens=495)
    later = books(folder=folder, length=16, train_examples=30, train_start=10)
    assert torch.equal(part.splits["train"], whole.splits["train"][:30])
    assert torch.equal(tokens.splits["train"], part.splits["train"]) and tokens.fingerprint == part.fingerprint
    assert torch.equal(later.splits["train"], part.splits["train"][10:])
    # Drawn from the whole text, not its beginning.
    assert int(part.splits["train"].max()) > len(whole.splits["train"]) / 2


def test_evaluation_windows_are_spread_evenly(folder):
    all_of, some = (books(folder=folder, length=16, evaluation_examples=n) for n in (None, 10))
    for split in ("validation", "test"):
        whole, kept = all_of.splits[split], some.splits[split]
        assert len(kept) == 10 and set(kept.tolist()) < set(whole.tolist())
        gaps = kept.diff()
        assert int(gaps.max() - gaps.min()) <= 1 and int(kept[0]) == int(whole[0])
    assert some.test_examples == 10 and books(folder=folder, length=16).test_examples == all_of.test_examples
    explored = books(folder=folder, length=16, evaluation_examples=None, test_on="validation")
    halves = torch.cat([explored.splits["validation"], explored.splits["test"]])
    assert torch.equal(halves, all_of.splits["validation"])


def test_bpe_windows_decode_to_the_text(folder):
    pytest.importorskip("tokenizers", reason="BPE vocabularies need the library tokenizers")
    from reinvest.testbed.tasks.texts import book_vocabulary

    task = books(folder=folder, length=8, vocabulary=300)
    _, x = stored(task, "train")
    assert (task.name, task.classes) == ("books-300-8", 300)
    assert TEXTS[0].startswith(book_vocabulary(300, folder).decode(x.flatten().numpy()))


@pytest.mark.parametrize("objective", BOTH)
def test_the_training_loss_is_the_mean_over_all_targets(folder, objective):
    model = {"name": "gpt" if objective == "causal" else "bert", "width": 8, "layers": 1, "heads": 1}
    task = {"name": "books", "folder": folder, "length": 16, "objective": objective}
    session = Session(ri.Recipe(task=task, model=model, duration="1st", batch_size=8), seed=0)
    _, x, y = next(iter(session.loader(0, 0)))
    with torch.no_grad():
        expected = F.cross_entropy(session.model(x).movedim(1, -1).flatten(0, 1), y.flatten(), ignore_index=IGNORE)
    with session.attached() as methods:
        got = session.step(next(methods.batches(session.loader(0, 0))))
    assert torch.allclose(got, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("objective", "model"), [("causal", "gpt"), ("masked", "bert")])
def test_a_run_learns_a_text_that_repeats_itself(tmp_path, objective, model):
    text = "abcdefgh" * 400
    write_books(tmp_path, (text, text[:500], text[:500]))
    recipe = ri.Recipe(
        task={"name": "books", "folder": str(tmp_path), "length": 16, "objective": objective},
        model={"name": model, "width": 32, "layers": 1, "heads": 2},
        optimizer={"name": "adamw", "lr": 0.01},
        duration="150st",
        batch_size=16,
    )
    run = ri.train(recipe, store=ri.Store(tmp_path / "runs"), device="cpu", evaluations=1, records=False)
    found = run.curve[-1]
    # Of the eight letters only the first of a window is not told by the one before it.
    assert run.status == "finished" and found["nll"] < 0.3 and found["token_accuracy"] > 0.9
    assert found["perplexity"] == pytest.approx(math.exp(found["nll"])) and run.quality("nll") == found["nll"]


def test_perplexity_of_a_model_that_knows_nothing_is_the_size_of_the_vocabulary(folder):
    class Nothing(torch.nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 258, x.shape[1])

    for objective in BOTH:
        found = evaluate(Nothing(), books(folder=folder, length=16, objective=objective))
        assert found["perplexity"] == pytest.approx(258, rel=1e-6)
        assert found["nll"] == pytest.approx(found["loss"]) == pytest.approx(math.log(258))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"objective": "mask"}, UnknownName, "unknown objective 'mask'; did you mean 'masked'"),
        ({"length": 1}, InvalidValue, r"length is a whole number from 2 to 65,536, got 1"),
        ({"length": 16.0}, InvalidValue, r"got 16\.0"),
        ({"length": 60_000}, DataError, r"at least length \+ 1 = 60001 tokens, got \d+ for 'train'"),
        ({"vocabulary": "words"}, InvalidValue, "got 'words'"),
        ({"evaluation_examples": 0}, InvalidValue, "evaluation_examples is a whole number of at least 1, got 0"),
        ({"train_examples": 100_000}, InvalidValue, "train_examples is a whole number from 1 to"),
        ({"train_tokens": 15}, InvalidValue, "train_tokens is a whole number of at least 16, got 15"),
        ({"train_tokens": 99, "train_examples": 9}, InvalidValue, "got 99 and 9; give one of them"),
        ({"train_examples": 9, "train_start": 9}, InvalidValue, "train_start"),
        ({"test_on": "train"}, UnknownName, "split to test on"),
    ],
)
def test_bad_options_are_refused(folder, options, error, message):
    with pytest.raises(error, match=message) as caught:
        books(**{"folder": folder, "length": 16, **options})
    assert "\n" not in str(caught.value)


def test_absent_books_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"'books' reads train\.txt, valid\.txt, test\.txt .*REINVEST_DATA") as caught:
        books(folder=tmp_path)
    assert "\n" not in str(caught.value)
