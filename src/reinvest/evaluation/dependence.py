"""Which cells share randomness, and the variance of a contrast of cell means under that sharing.

Cells whose runs share no seed (or trunk, or study) are independent: each brings its own variance and degrees of
freedom. Cells that share form one block: the contributions of a shared seed are summed over the block's cells
before they are squared. Arms are joined only where pairs were declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .cells import Arm
from .curves import Array


@dataclass(frozen=True)
class Spread:
    """Variance structure over the cells of both arms (baseline first).

    variance: [K] variance of each independent cell mean, zero for cells inside a block; freedom: [K];
    blocks: matrices [K, m], column i what cluster i adds to each cell mean; block_freedom: one number a block;
    mode: in words; correlation: mean correlation of cells that share seeds, NaN where none do.
    """

    variance: Array
    freedom: Array
    blocks: tuple[Array, ...]
    block_freedom: tuple[float, ...]
    mode: str
    correlation: float

    def standard_error(self, g: Array, extras: Sequence[tuple[Array, float]] = ()) -> tuple[Array, Array]:
        """Standard error and Welch-Satterthwaite degrees of freedom of contrasts g of the cell means.

        g: [..., K]; extras: further variances [...], each with its own degrees of freedom. Returns two arrays [...].
        """
        parts = g * g * self.variance
        total = parts.sum(axis=-1)
        spread = (parts * parts / self.freedom).sum(axis=-1)
        smallest = float(self.freedom.min())
        for block, freedom in zip(self.blocks, self.block_freedom, strict=True):
            part = ((g @ block) ** 2).sum(axis=-1)
            total = total + part
            spread = spread + part * part / freedom
            smallest = min(smallest, freedom)
        for extra, freedom in extras:
            total = total + extra
            spread = spread + extra * extra / freedom
        df = np.where(spread > 0.0, total * total / np.where(spread > 0.0, spread, 1.0), smallest)
        return np.sqrt(total), df


def pairing_fault(base: Arm, method: Arm) -> str:
    """Why the arms cannot be paired by duration; "" if they can."""
    if set(base.labels) != set(method.labels):
        return "the arms have different durations"
    for label in base.labels:
        ours, theirs = (arm.clusters[arm.labels.index(label)] for arm in (base, method))
        if sorted(ours) != sorted(theirs) or len(set(ours)) != len(ours):
            return f"the seeds at duration {label} differ between the arms"
    return ""


def spread_of(arms: Sequence[Arm], variances: Sequence[Array], *, paired: bool) -> Spread:
    """Variance structure of one or two arms.

    variances: per arm [K] floored cell variances, used for the independent cells; paired: cells of both arms
    that share a seed are dependent (declared before the runs, `pairing_fault` found nothing).
    """
    keys = [
        tuple(key if paired else f"{a} {key}" for key in cell) for a, arm in enumerate(arms) for cell in arm.clusters
    ]
    deviations = [d for arm in arms for d in arm.deviations]
    n = np.concatenate([arm.n for arm in arms])
    variance = np.concatenate(list(variances)) / n
    blocks, freedoms, correlations = [], [], []
    for members in _components(keys):
        if len(members) == 1 and len(set(keys[members[0]])) == len(keys[members[0]]):
            continue
        sums = _cluster_sums(members, keys, deviations)
        block, freedom = _block(members, sums, len(keys))
        blocks.append(block)
        freedoms.append(freedom)
        correlations += _correlations(sums)
        variance[members] = 0.0
    return Spread(
        variance=variance,
        freedom=np.maximum(n - 1.0, 1.0),
        blocks=tuple(blocks),
        block_freedom=tuple(freedoms),
        mode=_mode(blocks, arms, paired),
        correlation=float(np.mean(correlations)) if correlations else float("nan"),
    )


def arm_correlation(base: Arm, method: Arm) -> float:
    """Mean correlation between the arms over durations with equal seeds; NaN if the arms cannot be paired."""
    if pairing_fault(base, method):
        return float("nan")
    found = []
    for label in base.labels:
        sums = {}
        for a, arm in enumerate((base, method)):
            k = arm.labels.index(label)
            sums[a] = dict(zip(arm.clusters[k], arm.deviations[k] / arm.n[k], strict=True))
        found += _correlations(sums)
    return float(np.mean(found)) if found else float("nan")


def _components(keys: Sequence[Sequence[str]]) -> list[list[int]]:
    """Groups of cells connected by shared clusters."""
    group = list(range(len(keys)))
    first: dict[str, int] = {}
    for cell, members in enumerate(keys):
        for key in members:
            other = group[first.setdefault(key, cell)]
            if other != group[cell]:
                old = group[cell]
                group = [other if g == old else g for g in group]
    return [[c for c, g in enumerate(group) if g == which] for which in dict.fromkeys(group)]


def _cluster_sums(
    members: Sequence[int], keys: Sequence[Sequence[str]], deviations: Sequence[Array]
) -> dict[int, dict[str, float]]:
    """Per cell and cluster the summed deviations divided by the cell's number of runs."""
    sums: dict[int, dict[str, float]] = {}
    for cell in members:
        own: dict[str, float] = {}
        for key, d in zip(keys[cell], deviations[cell], strict=True):
            own[key] = own.get(key, 0.0) + float(d) / len(deviations[cell])
        sums[cell] = own
    return sums


def _block(members: Sequence[int], sums: dict[int, dict[str, float]], size: int) -> tuple[Array, float]:
    """Matrix [size, m] whose squared row sums are variances, and the block's degrees of freedom."""
    names = list(dict.fromkeys(key for cell in members for key in sums[cell]))
    counts = {cell: len(sums[cell]) for cell in members}
    whole = min(counts.values()) == len(names)
    matrix = np.zeros((size, len(names)))
    for cell in members:
        # Where some cell lacks some seed, m / (m - 1) over all seeds is too small for it (simulated: coverage .89);
        # the correction is then the cell's own, with the smallest cell's degrees of freedom.
        m = len(names) if whole else counts[cell]
        for key, value in sums[cell].items():
            matrix[cell, names.index(key)] = value * np.sqrt(m / max(m - 1.0, 1.0))
    return matrix, float(max((len(names) if whole else min(counts.values())) - 1, 1))


def _correlations(sums: dict[int, dict[str, float]]) -> list[float]:
    """Correlations of the cluster sums between all pairs of cells with at least three clusters in common."""
    found = []
    cells = list(sums)
    for i, a in enumerate(cells):
        for b in cells[i + 1 :]:
            common = [key for key in sums[a] if key in sums[b]]
            u, v = (np.array([sums[c][key] for key in common]) for c in (a, b))
            size = float(np.sqrt((u @ u) * (v @ v)))
            if len(common) >= 3 and size > 0.0:
                found.append(float(u @ v) / size)
    return found


def _mode(blocks: Sequence[Array], arms: Sequence[Arm], paired: bool) -> str:
    if not blocks:
        return "independent seeds"
    first = len(arms[0].x)
    over_durations = any(max((b[:first] != 0).any(1).sum(), (b[first:] != 0).any(1).sum()) > 1 for b in blocks)
    across = paired and any((b[:first] != 0).any() and (b[first:] != 0).any() for b in blocks)
    if across:
        return (
            "one block in all: seeds shared by both arms and over durations" if over_durations else "pairs by duration"
        )
    what = (
        "trunks or studies"
        if any(not k.startswith("seed") for arm in arms for c in arm.clusters for k in c)
        else "seeds"
    )
    return f"one block per arm: {what} repeated inside an arm"
