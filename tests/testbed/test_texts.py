"""Texts are read as they are, and what tokenising them took is kept beside them."""

from __future__ import annotations

import gzip
import os

import pytest
from written_texts import prose, write_books

from reinvest.core.errors import DataError
from reinvest.testbed.tasks import texts
from reinvest.testbed.tasks.texts import CACHE, book_vocabulary, read_text, tokens_of
from reinvest.testbed.tasks.tokens import BpeVocabulary


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("tokenizers", reason="BPE vocabularies need the library tokenizers")
    texts._bpe.cache_clear()
    return write_books(tmp_path)


def test_line_ends_and_gzips_are_read_as_they_are(tmp_path):
    raw = "one\r\ntwo\n\rthree é".encode()
    (tmp_path / "a.txt").write_bytes(raw)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(raw, mtime=0))
    assert read_text(tmp_path / "a.txt") == read_text(tmp_path / "a.txt.gz") == raw.decode()


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.txt", b"\xff\xfe", "readable as UTF-8, got"),
        ("a.txt.gz", b"no gzip", "readable as UTF-8, got"),
        ("a.txt.gz", gzip.compress(b"text " * 99, mtime=0)[:-9], "readable as UTF-8, got"),
        ("a.txt", b"", "hold some text, got an empty file"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path, name, raw, message):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_text(tmp_path / name)


def test_bytes_leave_nothing_behind(tmp_path):
    write_books(tmp_path)
    known = book_vocabulary("bytes", tmp_path / "no such folder")
    path = tmp_path / "books" / "train.txt"
    assert known.decode(tokens_of(known, path)) == read_text(path)
    assert not (path.parent / CACHE).exists()


def test_a_vocabulary_is_trained_once_and_kept(folder, monkeypatch):
    first = book_vocabulary(300, folder)
    path = folder / "books" / "train.txt"
    ids = tokens_of(first, path)
    texts._bpe.cache_clear()
    monkeypatch.setattr(BpeVocabulary, "train", None)
    again = book_vocabulary(300, folder / "books")
    assert again is not first and again.hash == first.hash
    monkeypatch.setattr(BpeVocabulary, "encode", None)
    assert tokens_of(again, path).tolist() == ids.tolist()
    assert sorted(p.name.partition("-")[0] for p in (path.parent / CACHE).iterdir()) == ["bpe", "tokens"]


def test_another_text_has_another_vocabulary(folder):
    first = book_vocabulary(300, folder)
    write_books(folder, (prose(900, 4) + " zebra zebra", prose(100), prose(100)))
    assert book_vocabulary(300, folder).hash != first.hash


def test_damaged_cache_files_are_made_again(folder):
    known = book_vocabulary(300, folder)
    path = folder / "books" / "train.txt"
    ids = tokens_of(known, path).tolist()
    for kept in (path.parent / CACHE).iterdir():
        raw = bytearray(kept.read_bytes())
        raw[-3] ^= 1
        kept.write_bytes(raw)
    texts._bpe.cache_clear()
    again = book_vocabulary(300, folder)
    assert again.hash == known.hash and tokens_of(again, path).tolist() == ids
    assert not [p for p in (path.parent / CACHE).iterdir() if p.name.endswith(".part")]


def test_a_folder_that_cannot_be_written_does(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    known = book_vocabulary(300, folder)
    assert known.size == 300 and len(tokens_of(known, folder / "books" / "valid.txt")) > 0
    assert list((folder / "books" / CACHE).iterdir()) == []
