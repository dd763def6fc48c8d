"""Sentence tasks: rows as published, one vocabulary with the books, files of another form refused."""

from __future__ import annotations

import pytest
import torch
from written_texts import prose, write_books, write_questions, write_rows

import reinvest as ri
from reinvest._testing.task import TaskContract
from reinvest.core.errors import DataError, InvalidValue
from reinvest.testbed.tasks.sentences import SST2, read_rows, sst2, trec6
from reinvest.testbed.tasks.tokens import PAD, ByteVocabulary


class TestQuestions(TaskContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path):
        self.folder = tmp_path

    def make_task(self):
        return self.make_altered(None)

    def make_altered(self, change):
        write_questions(self.folder, change)
        return trec6(folder=self.folder, length=24)


def test_sst2_holds_validation_out_of_train_and_tests_on_the_development_set(tmp_path):
    rows = [(f"film {k} is {'good' if k % 2 else 'bad'}", k % 2) for k in range(3_100)]
    write_rows(tmp_path / "text" / "sst2" / "train.tsv", rows[:3_050])
    write_rows(tmp_path / "text" / "sst2" / "dev.tsv", rows[3_050:])
    task = sst2(folder=tmp_path, length=32)
    assert {k: len(v) for k, v in task.splits.items()} == {"train": 50, "validation": 3_000, "test": 50}
    assert task.splits["test"].tolist() == list(range(3_050, 3_100))
    assert (task.name, task.classes, task.class_names) == ("sst2", 2, ("negative", "positive"))
    assert task.input_shape == (32,) and task.higher_is_better and task.metric == "accuracy"
    part = sst2(folder=tmp_path, length=32, train_examples=20)
    assert torch.equal(part.splits["train"], task.splits["train"][:20])


def test_rows_are_the_sentences_filled_up(tmp_path):
    write_questions(tmp_path)
    known, task = ByteVocabulary(), trec6(folder=tmp_path, length=24)
    sentences, labels = read_rows(tmp_path / "text" / "trec6" / "train.tsv", 6)
    ids = task.splits["train"]
    for batch, x, y in task.clean(100):
        for i, row, label in zip(batch.tolist(), x, y.tolist(), strict=True):
            own = known.encode(sentences[i])[:24]
            assert row[: len(own)].tolist() == own.tolist() and bool((row[len(own) :] == PAD).all())
            assert label == labels[i]
    assert len(ids) == 40 and x.dtype == y.dtype == torch.int64
    assert any(len(known.encode(s)) > 24 for s in sentences) and any(len(known.encode(s)) < 24 for s in sentences)


def test_the_view_says_what_the_model_sees(tmp_path):
    view = trec6(folder=write_questions(tmp_path), length=24).view
    assert view.namespace == "trec6" and not view.moves and view.examples == 570
    assert view.preprocessing == f"sentences of 24 tokens, vocabulary bytes {ByteVocabulary().hash}"
    assert view.class_names is not None and len(view.hashes()) == 570


def test_a_portion_has_fewer_classes(tmp_path):
    task = trec6(folder=write_questions(tmp_path), length=24, first_classes=3, test_on="validation")
    assert task.classes == 3 and task.class_names == ("description", "entity", "abbreviation")
    assert all(int(y.max()) < 3 for split in task.splits for _, _, y in task.clean(64, task.splits[split]))


def test_the_vocabulary_is_that_of_the_books(tmp_path):
    pytest.importorskip("tokenizers", reason="BPE vocabularies need the library tokenizers")
    from reinvest.testbed.tasks.books import books

    write_questions(write_books(tmp_path))
    task, pretrained = trec6(folder=tmp_path, vocabulary=300), books(folder=tmp_path, vocabulary=300)
    hashes = {t.view.preprocessing.partition("vocabulary 300 ")[2][:16] for t in (task, pretrained)}
    assert len(hashes) == 1 and len(hashes.pop()) == 16
    (tmp_path / "books" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"'books' reads train\.txt"):
        trec6(folder=tmp_path, vocabulary=300)


def test_a_classifier_learns_what_a_letter_tells(tmp_path):
    rows = [
        (f"{'z' if k % 6 == 5 else 'a'} {prose(2, k)}".replace("\n", ""), 5 if k % 6 == 5 else 0) for k in range(660)
    ]
    write_rows(tmp_path / "text" / "trec6" / "train.tsv", rows[:600])
    write_rows(tmp_path / "text" / "trec6" / "test.tsv", rows[600:])
    recipe = ri.Recipe(
        task={"name": "trec6", "folder": str(tmp_path), "length": 16},
        model={"name": "bert_classifier", "width": 16, "layers": 1, "heads": 2},
        optimizer={"name": "adamw", "lr": 0.01},
        duration="60st",
        batch_size=20,
    )
    run = ri.train(recipe, store=ri.Store(tmp_path / "runs"), device="cpu", evaluations=1, records=False)
    assert run.status == "finished" and run.quality("accuracy") == 1.0


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([("a", 0)], "label\tsentence", r"train\.tsv starts with 'sentence\\tlabel', got 'label\\tsentence'"),
        ([("a", 0), ("b", 2)], "sentence\tlabel", r"label from 0 to 1, got 'b\\t2' in line 3"),
        ([("a", "-1")], "sentence\tlabel", r"got 'a\\t-1' in line 2"),
        ([("a", "yes")], "sentence\tlabel", "in line 2"),
        ([(" ", 1)], "sentence\tlabel", "in line 2"),
        ([("a", "0\n\nb\t1")], "sentence\tlabel", "got '' in line 3"),
        ([("a", "0\nno tab here")], "sentence\tlabel", "got 'no tab here' in line 3"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, rows, header, message):
    write_rows(tmp_path / "train.tsv", rows, header)
    with pytest.raises(DataError, match=message) as caught:
        read_rows(tmp_path / "train.tsv", len(SST2.names))
    assert "\n" not in str(caught.value)


def test_line_ends_of_another_system_do(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"sentence\tlabel\r\none\ttab\t1\r\ntwo\t0")
    assert read_rows(tmp_path / "a.tsv", 2) == (["one\ttab", "two"], [1, 0])


def test_a_training_file_that_validation_would_use_up_is_refused(tmp_path):
    for name in ("train", "test"):
        write_rows(tmp_path / "trec6" / f"{name}.tsv", [("what ?", 1)] * 500)
    with pytest.raises(DataError, match="holds 500 of its training rows out for validation, got 500"):
        trec6(folder=tmp_path)


def test_a_test_file_without_rows_is_refused(tmp_path):
    write_questions(tmp_path)
    write_rows(tmp_path / "text" / "trec6" / "test.tsv", [])
    with pytest.raises(DataError, match="at least one row, got none"):
        trec6(folder=tmp_path)


@pytest.mark.parametrize("length", [0, 2.0, True, 65_537])
def test_bad_lengths_are_refused(tmp_path, length):
    with pytest.raises(InvalidValue, match="length is a whole number from 1 to 65,536, got"):
        trec6(folder=tmp_path, length=length)


@pytest.mark.parametrize("factory", [sst2, trec6])
def test_absent_sentences_are_one_sentence(tmp_path, factory):
    with pytest.raises(DataError, match=r"reads train\.tsv, .* or its text/.*REINVEST_DATA") as caught:
        factory(folder=tmp_path)
    assert "\n" not in str(caught.value)
