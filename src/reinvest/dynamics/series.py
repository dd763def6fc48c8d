"""Many trajectories seen at once: shortened, written as words, put into groups. Series are float [N, E], an example a row.

They are handled block by block, so that a table on disk needs little memory beyond what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InvalidValue
from ..core.streams import stream
from .neighbours import nearest

__all__ = ["clusters", "filled", "piecewise", "words"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
BLOCK = 1 << 15
"""Series that are handled together: 24 MB in double precision at 90 epochs."""


def filled(losses: Tensor) -> Tensor:
    """Losses [N, E] with each gap given the value before it, or at the beginning the one after it; empty rows stay.

    Loaders that drop an incomplete batch leave out other examples in every epoch, and a classifier wants whole rows.
    """
    good = losses.isfinite()
    at = torch.where(good, torch.arange(losses.shape[1]), -1).cummax(1).values
    first = good.float().argmax(1, keepdim=True)
    return losses.gather(1, torch.where(at < 0, first, at))


def piecewise(series: Tensor, pieces: int) -> Tensor:
    """Means over `pieces` equal stretches of time: float32 [N, pieces] (piecewise aggregate approximation).

    pieces: from 1 (the mean) to E (the series itself). A place on the border of two stretches counts in both by its
    share. Of two series the distance sqrt(E / pieces) |difference| is never above the Euclidean one. Keogh, Chakrabarti,
    Pazzani, Mehrotra (2001). Raises InvalidValue for another shape, NaN or another number.
    """
    _check(series)
    _check_count("pieces", pieces, 1, series.shape[1], "epochs")
    return _joined([_shortened(block, pieces) for block in _blocks(series)], pieces)


def _shortened(block: Tensor, pieces: int) -> Tensor:
    """Means of the pieces of a block of series in double precision: float32 [n, pieces]."""
    length = block.shape[1]
    edges = torch.arange(pieces + 1, dtype=torch.float64) * length / pieces
    start = torch.arange(length, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], start + 1) - torch.maximum(edges[:-1, None], start)
    return (block @ overlap.clamp(min=0).T * pieces / length).float()


def words(series: Tensor, pieces: int = 8, letters: int = 4, *, standard: bool = True) -> list[str]:
    """Each series as a word of `pieces` letters from "a", the lowest (SAX; Lin, Keogh, Wei, Lonardi 2007).

    letters: size of the alphabet, 2 to 26. standard: each series is first brought to mean 0 and standard deviation 1
    (one that does not change becomes zeros), so that its shape alone counts, and letters are equally frequent under a
    normal distribution; else levels are kept and letters are equally frequent among all pieces of these series. Raises
    InvalidValue as `piecewise` does.
    """
    _check(series)
    _check_count("letters", letters, 2, len(LETTERS), "letters")
    _check_count("pieces", pieces, 1, series.shape[1], "epochs")
    share = torch.arange(1, letters, dtype=torch.float64) / letters
    blocks = (_standard(block) if standard else block for block in _blocks(series))
    table = _joined([_shortened(block, pieces) for block in blocks], pieces)
    if standard or not len(table):
        cuts = torch.special.ndtri(share)
    else:
        cuts = torch.from_numpy(np.quantile(table.double().numpy(), share.numpy()))
    places = torch.bucketize(table.double(), cuts, right=True).to(torch.uint8) + ord("a")
    found: list[str] = places.numpy().view(f"S{pieces}")[:, 0].astype(str).tolist()
    return found


def _standard(block: Tensor) -> Tensor:
    """Each series with mean 0 and standard deviation 1; zeros for one that does not change."""
    spread = block.std(1, correction=0, keepdim=True)
    flat = spread <= 1e-8 * block.abs().amax(1, keepdim=True)
    block = torch.where(flat, 0.0, (block - block.mean(1, keepdim=True)) / torch.where(flat, 1.0, spread))
    return block.float().double()


def clusters(series: Tensor, count: int, seed: int = 0, *, sample: int = 100_000) -> tuple[Tensor, Tensor]:
    """(group of each series int64 [N], centres float32 [count, E]) by k-means; groups from the lowest mean up.

    count: from 1 to N. sample: of more series than this (from `count` up) centres are those of as many drawn at random,
    and each series belongs to the nearest centre. Raises InvalidValue as `piecewise` does.
    """
    from sklearn.cluster import KMeans

    _check(series)
    _check_count("count", count, 1, len(series), "series")
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < count:
        raise InvalidValue(
            f"sample is a whole number of series from {count} (count) up, got {sample!r}; 100000 is usual"
        )
    drawn = series
    if sample < len(series):
        drawn = series[stream(seed, "clusters", 0).permutation(len(series))[:sample]]
    model = KMeans(count, n_init=4, random_state=seed).fit(drawn.float().numpy())
    centres = torch.from_numpy(model.cluster_centers_).float()
    centres = centres[centres.mean(1).argsort()]
    return nearest(series, centres, 1).index[:, 0], centres


def _blocks(series: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(series), BLOCK):
        yield series[start : start + BLOCK].float().double()


def _joined(parts: list[Tensor], pieces: int) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0, pieces)


def _check(series: Tensor) -> None:
    if not isinstance(series, Tensor) or series.ndim != 2 or not series.shape[1]:
        got = list(series.shape) if isinstance(series, Tensor) else type(series).__name__
        raise InvalidValue(f"series are a table [N, E], an example a row, got {got}; pass records.loss.T")
    gaps = sum(
        int((~block.isfinite()).any(1).sum())
        for block in torch.split(series, BLOCK)
        if not bool(block.isfinite().all())
    )
    if gaps:
        raise InvalidValue(
            f"series have a finite number in every epoch, got {gaps} of {len(series)} without; leave those out"
        )


def _check_count(name: str, value: int, low: int, high: int, of: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidValue(f"{name} is a whole number from {low} to {high} ({of}), got {value!r}; choose one of those")
