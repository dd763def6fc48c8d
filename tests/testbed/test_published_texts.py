"""The texts themselves, where a copy is at hand: $REINVEST_DATA, or compact copies beside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from reinvest.core.errors import DataError
from reinvest.core.names import resolve
from reinvest.testbed.tasks import files
from reinvest.testbed.tasks.sentences import SST2, TREC6
from reinvest.testbed.tasks.texts import BOOKS, read_text
from reinvest.testbed.tasks.tokens import ByteVocabulary

UNPACK = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "unpack.py"
CACHE = Path(tempfile.gettempdir()) / "reinvest-test-data"
SETS = {"books": (BOOKS, "books"), "sst2": (SST2.published, "text"), "trec6": (TREC6.published, "text")}


def data_folder(name):
    published, bundle = SETS[name]
    folder = Path(os.environ.get(files.VARIABLE) or CACHE)
    if not os.environ.get(files.VARIABLE):
        if not UNPACK.is_file():
            pytest.skip(f"{name}: {files.VARIABLE} is not set and no copy is beside the checkout")
        CACHE.mkdir(exist_ok=True)
        with FileLock(CACHE / "lock"):
            try:
                files.locate(published, CACHE)
            except DataError:
                command = [sys.executable, str(UNPACK), str(CACHE), bundle]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"{name}: the copy beside the checkout was not unpacked ({done.stderr.strip()[-80:]})")
    try:
        files.locate(published, folder)
    except DataError as error:
        pytest.skip(f"{name}: {error}")
    return str(folder)


@pytest.mark.parametrize(
    ("name", "train", "validation", "test", "classes"),
    [("sst2", 64_349, 3_000, 872, 2), ("trec6", 4_952, 500, 500, 6)],
)
def test_sentences_have_the_published_counts(name, train, validation, test, classes):
    task = resolve("task", name)(folder=data_folder(name))
    assert {k: len(v) for k, v in task.splits.items()} == {"train": train, "validation": validation, "test": test}
    labels = torch.cat([y for _, _, y in task.loader("test", 500)])
    assert len(labels.bincount(minlength=classes)) == classes == len(task.class_names)
    assert int(labels.bincount().min()) > 0


def test_known_sentences_have_known_labels():
    task = resolve("task", "trec6")(folder=data_folder("trec6"))
    (_, x, y) = next(iter(task.loader("test", 4)))
    assert ByteVocabulary().decode(x[2].numpy()) == "Who was Galileo ?"
    assert [task.class_names[i] for i in y] == ["number", "location", "human", "description"]


def test_books_are_cut_into_windows_once():
    folder = data_folder("books")
    causal, masked = (resolve("task", "books")(folder=folder, objective=o) for o in ("causal", "masked"))
    size = len(read_text(files.locate(BOOKS, folder)[0]).encode("utf8"))
    assert len(causal.splits["train"]) == (size - 1) // 128
    assert len(causal.splits["validation"]) == causal.test_examples == 1_024
    assert causal._source._tokens is masked._source._tokens
