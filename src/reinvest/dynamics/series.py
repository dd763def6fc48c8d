"""Many trajectories seen at once: shortened, written as words, put into groups. Series are float [N, E], an example a row."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import InvalidValue

__all__ = ["clusters", "piecewise", "words"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def piecewise(series: Tensor, pieces: int) -> Tensor:
    """Means over `pieces` equal stretches of time: float32 [N, pieces] (piecewise aggregate approximation).

    pieces: from 1 (the mean) to E (the series itself). A place on the border of two stretches counts in both by its
    share. Of two series the distance sqrt(E / pieces) |difference| is never above the Euclidean one. Keogh, Chakrabarti,
    Pazzani, Mehrotra (2001). Raises InvalidValue for another shape, NaN or another number.
    """
    series = _checked(series)
    length = series.shape[1]
    _check_count("pieces", pieces, 1, length, "epochs")
    edges = torch.arange(pieces + 1, dtype=torch.float64) * length / pieces
    start = torch.arange(length, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], start + 1) - torch.maximum(edges[:-1, None], start)
    return (series.double() @ overlap.clamp(min=0).T * pieces / length).float()


def words(series: Tensor, pieces: int = 8, letters: int = 4, *, standard: bool = True) -> list[str]:
    """Each series as a word of `pieces` letters from "a", the lowest (SAX; Lin, Keogh, Wei, Lonardi 2007).

    letters: size of the alphabet, 2 to 26. standard: each series is first brought to mean 0 and standard deviation 1
    (one that does not change becomes zeros), so that its shape alone counts, and letters are equally frequent under a
    normal distribution; else levels are kept and letters are equally frequent among all pieces of these series. Raises
    InvalidValue as `piecewise` does.
    """
    series = _checked(series).double()
    _check_count("letters", letters, 2, len(LETTERS), "letters")
    share = torch.arange(1, letters, dtype=torch.float64) / letters
    if standard:
        spread = series.std(1, correction=0, keepdim=True)
        flat = spread <= 1e-8 * series.abs().amax(1, keepdim=True)
        series = torch.where(flat, 0.0, (series - series.mean(1, keepdim=True)) / torch.where(flat, 1.0, spread))
        table, cuts = piecewise(series, pieces), torch.special.ndtri(share)
    else:
        table = piecewise(series, pieces)
        cuts = torch.quantile(table.double().flatten(), share) if len(table) else share
    places = torch.bucketize(table.double(), cuts, right=True)
    return ["".join(LETTERS[i] for i in row) for row in places.tolist()]


def clusters(series: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(group of each series int64 [N], centres float32 [count, E]) by k-means; groups from the lowest mean up.

    count: from 1 to N. Raises InvalidValue as `piecewise` does.
    """
    from sklearn.cluster import KMeans

    series = _checked(series)
    _check_count("count", count, 1, len(series), "series")
    model = KMeans(count, n_init=4, random_state=seed).fit(series.numpy())
    centres = torch.from_numpy(model.cluster_centers_).float()
    order = centres.mean(1).argsort()
    return order.argsort()[torch.from_numpy(model.labels_).long()], centres[order]


def _checked(series: Tensor) -> Tensor:
    if not isinstance(series, Tensor) or series.ndim != 2 or not series.shape[1]:
        got = list(series.shape) if isinstance(series, Tensor) else type(series).__name__
        raise InvalidValue(f"series are a table [N, E], an example a row, got {got}; pass records.loss.T")
    if not bool(series.isfinite().all()):
        gaps = int((~series.isfinite()).any(1).sum())
        raise InvalidValue(
            f"series have a finite number in every epoch, got {gaps} of {len(series)} without; leave those out"
        )
    return series.float()


def _check_count(name: str, value: int, low: int, high: int, of: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidValue(f"{name} is a whole number from {low} to {high} ({of}), got {value!r}; choose one of those")
