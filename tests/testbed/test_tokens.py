"""Vocabularies lose nothing, and are the same from the same text."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_texts import prose

from reinvest.core.errors import DataError, InvalidValue
from reinvest.testbed.tasks.tokens import (
    BYTES,
    MASK,
    PAD,
    SPECIALS,
    BpeVocabulary,
    ByteVocabulary,
    label_of,
    vocabulary_size,
)

TEXT = prose(2_000)


@pytest.fixture(scope="module")
def bpe():
    pytest.importorskip("tokenizers", reason="BPE vocabularies need the library tokenizers")
    return BpeVocabulary.train(TEXT, 300)


@given(st.text())
def test_bytes_come_back_as_they_were(text):
    known = ByteVocabulary()
    ids = known.encode(text)
    assert known.decode(ids) == text
    assert ids.dtype == np.int16 and (ids - SPECIALS).tolist() == list(text.encode("utf8"))


@given(st.text())
def test_bpe_brings_back_texts_that_it_was_not_trained_on(bpe, text):
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert ids.dtype == np.int16 and all(SPECIALS <= i < bpe.size for i in ids.tolist())


def test_bpe_needs_fewer_tokens_than_bytes(bpe):
    assert bpe.size == 300 and len(bpe.encode(TEXT)) < len(TEXT.encode("utf8")) / 2
    assert set(range(SPECIALS, 300)) > set(bpe.encode(TEXT).tolist())


def test_special_tokens_are_no_text(bpe):
    for known in (bpe, ByteVocabulary()):
        ids = known.encode("two parts")
        assert known.decode([PAD, *ids.tolist(), MASK, PAD]) == "two parts"
        with pytest.raises(InvalidValue, match=rf"from 0 to {known.size - 1}, got 1\.\.{known.size}"):
            known.decode([1, known.size])


def test_the_same_text_and_size_give_the_same_vocabulary(bpe):
    again, other, wider = BpeVocabulary.train(TEXT, 300), BpeVocabulary.train(TEXT + " qqqq" * 500, 300), 310
    assert again.hash == bpe.hash and again.encode(TEXT).tolist() == bpe.encode(TEXT).tolist()
    assert len({bpe.hash, other.hash, BpeVocabulary.train(TEXT, wider).hash, ByteVocabulary().hash}) == 4


def test_a_known_text_has_a_known_vocabulary():
    pytest.importorskip("tokenizers", reason="BPE vocabularies need the library tokenizers")
    assert BpeVocabulary.train("low lower lowest " * 20, 262).hash == "2304c80f23d67e64"


def test_a_vocabulary_comes_back_from_its_text(bpe):
    again = BpeVocabulary(bpe.text)
    assert (again.size, again.hash) == (bpe.size, bpe.hash)


def test_a_text_too_small_for_its_vocabulary_is_refused(bpe):
    with pytest.raises(DataError, match=r"vocabulary of 400 tokens, got 2\d\d from 11 characters"):
        BpeVocabulary.train("aaaa bb aab", 400)


def test_without_the_library_bpe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InvalidValue, match="pip install tokenizers, or use vocabulary='bytes'"):
        BpeVocabulary.train(TEXT, 300)


def test_sizes_and_labels():
    assert vocabulary_size("bytes") == vocabulary_size(256) == BYTES == 258
    assert vocabulary_size(259) == 259 and vocabulary_size(32_768) == 32_768
    assert [label_of(v) for v in ("bytes", 256, 2048)] == ["bytes", "bytes", "2048"]


@pytest.mark.parametrize("wrong", ["byte", 258, 255, 0, -1, 32_769, 2048.0, 256.0, True, None, [1]])
def test_other_vocabularies_are_refused(wrong):
    with pytest.raises(InvalidValue, match=r"'bytes' or the size of a BPE vocabulary from 259 to 32,768, got"):
        vocabulary_size(wrong)
