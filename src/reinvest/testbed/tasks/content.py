"""What a data set is, as numbers: a 64-bit hash of each row (label and content), a fingerprint over data and splits."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ...core.errors import InvalidValue
from .splits import each

ALL_ROWS = 1_000_000
SAMPLED_ROWS = 100_000


def hashed_rows(rows: int) -> Tensor:
    """Ids whose content enters a fingerprint: all of them up to 10^6 rows, else 100,000 at equal distances."""
    if rows <= ALL_ROWS:
        return torch.arange(rows)
    return torch.arange(SAMPLED_ROWS) * rows // SAMPLED_ROWS


def _bytes(values: Tensor) -> memoryview:
    raw = values.detach().cpu().contiguous()
    if sys.byteorder == "big":
        raw = torch.from_numpy(raw.numpy().byteswap())
    return raw.reshape(-1).view(torch.uint8).numpy().data


def row_hash(x: Tensor, y: Tensor) -> int:
    """64-bit hash of one row, as an int64: type and shape of `x`, then label `y` as int64, then the values of `x`."""
    head = hashlib.blake2b(f"{x.dtype} {tuple(x.shape)}".encode(), digest_size=8)
    head.update(_bytes(y.to(torch.int64)))
    head.update(_bytes(x))
    return int.from_bytes(head.digest(), "little", signed=True)


def row_hashes(x: Tensor, y: Tensor) -> Tensor:
    """`row_hash` of every row of x [B, ...] and y [B] (or one label a pixel, [B, ...]): int64 [B]."""
    head = hashlib.blake2b(f"{x.dtype} {tuple(x.shape[1:])}".encode(), digest_size=8)
    rows, labels = _bytes(x), _bytes(y.to(torch.int64))
    width, own = len(rows) // max(len(y), 1), len(labels) // max(len(y), 1)
    found = []
    for i in range(len(y)):
        row = head.copy()
        row.update(labels[own * i : own * (i + 1)])
        row.update(rows[width * i : width * (i + 1)])
        found.append(int.from_bytes(row.digest(), "little", signed=True))
    return torch.tensor(found, dtype=torch.int64)


def fingerprint(rows: int, classes: int, hashes: Tensor | Iterable[Tensor] | str, splits: Mapping[str, Tensor]) -> str:
    """16 hex digits over the number of rows and classes, the content and the splits.

    hashes: int64 row hashes in the order of `hashed_rows(rows)`, whole or in pieces; or the user's own word for the
    content.
    """
    total = hashlib.blake2b(f"{rows} {classes}".encode(), digest_size=8)
    if isinstance(hashes, str):
        total.update(f"stated {hashes}".encode())
    else:
        for piece in [hashes] if isinstance(hashes, Tensor) else hashes:
            total.update(_bytes(piece))
    for name, ids in each(splits):
        total.update(f"{name} {len(ids)}".encode())
        total.update(_bytes(ids))
    return total.hexdigest()


def of_all(hashes: Tensor | str, rows: int) -> Tensor | None:
    """The hashes if they cover all rows; None for a sample of them, or a user's word."""
    return hashes if isinstance(hashes, Tensor) and len(hashes) == rows else None


def stated(word: object) -> str:
    """A user's own fingerprint of the content. Raises InvalidValue unless it is text that is not empty."""
    if not isinstance(word, str) or not word.strip():
        raise InvalidValue(
            f"fingerprint is text that changes when the data does, got {word!r}; pass a version such as 'birds-2024-05'"
        )
    return word
