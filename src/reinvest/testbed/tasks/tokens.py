"""Vocabularies: from text to token numbers and back, losing nothing.

Token 0 fills short sentences up, token 1 hides a token; text uses the numbers from 2 on, in every vocabulary.
"bytes" is the UTF-8 bytes themselves (258 tokens). A whole number is the size of a byte-level BPE vocabulary, trained on
a text with the optional library `tokenizers`: the same text and size give the same vocabulary, whatever the machine.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, InvalidValue

Ids = NDArray[np.int16]

PAD, MASK, SPECIALS = 0, 1, 2
BYTES = SPECIALS + 256
"""Size of the vocabulary "bytes"."""
LARGEST = 1 << 15


def vocabulary_size(vocabulary: object) -> int:
    """Tokens of a vocabulary, the two special ones included: 258 for "bytes" (or 256), else the number itself.

    Raises InvalidValue for anything but "bytes", 256 or a whole number from 259 to 32,768.
    """
    if vocabulary == "bytes" or (vocabulary == 256 and isinstance(vocabulary, int)):
        return BYTES
    if not isinstance(vocabulary, int) or isinstance(vocabulary, bool) or not BYTES < vocabulary <= LARGEST:
        raise InvalidValue(
            f"vocabulary is 'bytes' or the size of a BPE vocabulary from {BYTES + 1} to {LARGEST:,}, "
            f"got {vocabulary!r}; 2048 is usual for small models"
        )
    return vocabulary


def label_of(vocabulary: object) -> str:
    """How a vocabulary is called in names: "bytes", or its size. Raises InvalidValue as `vocabulary_size` does."""
    size = vocabulary_size(vocabulary)
    return "bytes" if size == BYTES else str(size)


class Vocabulary(ABC):
    """Token numbers for texts: `size` of them, known by `hash` (16 hex digits over everything that decides them)."""

    size: int
    hash: str

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The text's tokens: int16 [n], each from 2 to size - 1."""

    @abstractmethod
    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of tokens [n]; special ones are left out, bytes that are no UTF-8 become U+FFFD."""


def _plain(ids: Sequence[int] | Ids, size: int) -> NDArray[np.int64]:
    found = np.asarray(ids, np.int64).reshape(-1)
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < size:
        raise InvalidValue(
            f"tokens of this vocabulary are whole numbers from 0 to {size - 1}, "
            f"got {int(found.min())}..{int(found.max())}; decode them with the vocabulary that encoded them"
        )
    return found[found >= SPECIALS] - SPECIALS


class ByteVocabulary(Vocabulary):
    """The bytes of UTF-8: byte b is token b + 2."""

    def __init__(self) -> None:
        self.size = BYTES
        self.hash = hashlib.blake2b(b"bytes", digest_size=8).hexdigest()

    def encode(self, text: str) -> Ids:
        """One token a byte: int16 [n]."""
        return np.frombuffer(text.encode("utf8"), np.uint8).astype(np.int16) + np.int16(SPECIALS)

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of tokens [n]. Raises InvalidValue for numbers outside the vocabulary."""
        return _plain(ids, self.size).astype(np.uint8).tobytes().decode("utf8", errors="replace")


def _library() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ModuleNotFoundError as error:
        raise InvalidValue(
            "a BPE vocabulary needs the library tokenizers, got an environment without it; "
            "pip install tokenizers, or use vocabulary='bytes'"
        ) from error


class BpeVocabulary(Vocabulary):
    """Byte-pair encoding over bytes (Sennrich, Haddow and Birch 2016, arXiv 1508.07909), line by line.

    tokenizer: the text form in which the library keeps it. Made by `train`.
    Raises InvalidValue without the library.
    """

    def __init__(self, tokenizer: str) -> None:
        self._own = _library().Tokenizer.from_str(tokenizer)
        self.text = tokenizer
        model = json.loads(tokenizer)["model"]
        # Of what decides the tokens alone: another version of the library may describe the same in other words.
        told = json.dumps([sorted(model["vocab"].items(), key=lambda item: item[1]), model["merges"]])
        self.hash = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        self.size = self._own.get_vocab_size() + SPECIALS

    @classmethod
    def train(cls, text: str, size: int) -> Self:
        """A vocabulary of `size` tokens (259 to 32,768, special ones included) out of the text's frequent pairs.

        Raises InvalidValue for another size, DataError for a text too small to fill it.
        """
        wanted = vocabulary_size(size)
        library = _library()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
        trainer = library.trainers.BpeTrainer(
            vocab_size=wanted - SPECIALS, min_frequency=2, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(_lines(text), trainer)
        found = cls(tokenizer.to_str())
        if found.size != wanted:
            raise DataError(
                f"a text must have pairs enough for its vocabulary of {wanted} tokens, got {found.size} from "
                f"{len(text):,} characters; choose a smaller vocabulary or a longer text"
            )
        return found

    def encode(self, text: str) -> Ids:
        """The text's tokens: int16 [n]. Lines are encoded one by one, line ends included."""
        parts = [found.ids for found in self._own.encode_batch_fast(list(_lines(text)))]
        count = sum(map(len, parts))
        ids = np.fromiter((i for part in parts for i in part), np.int16, count)
        return ids + np.int16(SPECIALS)

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of tokens [n]. Raises InvalidValue for numbers outside the vocabulary."""
        found: str = self._own.decode(_plain(ids, self.size).tolist())
        return found


def _lines(text: str) -> Iterable[str]:
    return text.splitlines(keepends=True)
