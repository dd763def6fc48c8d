"""Texts on disk, the vocabulary trained on them, and a cache of what tokenising them took seconds to find."""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from .files import Published, locate
from .tokens import BYTES, BpeVocabulary, ByteVocabulary, Ids, Vocabulary, vocabulary_size

BOOKS = Published(
    name="books",
    title="book texts",
    home="any source of plain-text books, split by book",
    archive="",
    places=("", "books"),
    # Sizes are not checked: any text in UTF-8 does, and the fingerprint tells one from the other.
    files=(("train.txt", 0), ("valid.txt", 0), ("test.txt", 0)),
)

BYTE_VOCABULARY = ByteVocabulary()

CACHE = "reinvest-cache"
"""Folder beside the texts that keeps BPE vocabularies and tokens; it may be deleted, and is not needed."""


def read_text(path: Path) -> str:
    """A file (or its gzip) of UTF-8, line ends as they are. Raises DataError if it is empty or not readable as such."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode("utf8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"text files must be readable as UTF-8, got {path}: {error}; check its permissions or get the file again"
        ) from error
    if not text:
        raise DataError(f"text files hold some text, got an empty file {path}; get the file again")
    return text


def digest(text: str) -> str:
    """16 hex digits over a text's UTF-8 bytes."""
    return hashlib.blake2b(text.encode("utf8"), digest_size=8).hexdigest()


def _kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """What `make()` returns, out of the file `path` if that holds it whole; written there if the disk allows."""
    try:
        raw = path.read_bytes()
    except OSError:
        raw = b""
    if len(raw) > 16 and hashlib.blake2b(raw[16:], digest_size=16).digest() == raw[:16]:
        return raw[16:]
    found = make()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        part.write_bytes(hashlib.blake2b(found, digest_size=16).digest() + found)
        os.replace(part, path)
    except OSError:  # a read-only folder of data sets: the seconds are spent again next time
        part.unlink(missing_ok=True)
    return found


@functools.lru_cache(maxsize=4)
def _bpe(path: Path, size: int, mark: str) -> BpeVocabulary:
    kept = _kept(
        path.parent / CACHE / f"bpe-{size}-{mark}",
        lambda: BpeVocabulary.train(read_text(path), size).text.encode("utf8"),
    )
    return BpeVocabulary(kept.decode("utf8"))


def book_vocabulary(vocabulary: object, folder: str | os.PathLike[str] | None) -> Vocabulary:
    """ "bytes", or a BPE vocabulary of that size trained on the whole training part of `books` in the data folder.

    Every task uses the same, so that a model trained on books knows the tokens of sentences.
    Raises InvalidValue for another vocabulary or a missing library, DataError for absent books.
    """
    size = vocabulary_size(vocabulary)
    if size == BYTES:
        return BYTE_VOCABULARY
    path = locate(BOOKS, folder)[0]
    return _bpe(path, size, digest(read_text(path)))


def tokens_of(vocabulary: Vocabulary, path: Path) -> Ids:
    """The tokens of a file: int16 [n]; those of a BPE vocabulary are kept in the cache beside it."""
    text = read_text(path)
    if vocabulary is BYTE_VOCABULARY:
        return vocabulary.encode(text)
    kept = _kept(
        path.parent / CACHE / f"tokens-{vocabulary.hash}-{digest(text)}",
        lambda: vocabulary.encode(text).astype("<i2").tobytes(),
    )
    return np.frombuffer(kept, "<i2").astype(np.int16)
