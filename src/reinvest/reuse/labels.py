"""What to do about wrong labels that an earlier run shows: probabilities for methods, and lists to relabel or drop."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import InvalidValue
from ..core.labels import soften_labels
from ..core.method import Context
from ..core.protocols import find_run
from ..dynamics.clean import clean_probability, suggested_labels
from ..dynamics.trajectories import Trajectories
from ..methods._check import number
from .selection import fitting_run

__all__ = ["clean_of", "drop_list", "read_clean", "relabel_list", "soften_labels", "write_list"]

BELOW = "below is a probability that a label is right, above 0, up to 1"


def clean_of(runs: Any, *, noise: float | None = None, probes: bool = True) -> tuple[Tensor, Tensor]:
    """What earlier runs say of each label: (probability that it is right float32 [N], class it would be int64 [N]).

    runs: a Run, or its id inside `store.lending()`, or a list of them, whose probabilities are averaged and whose answers
    are taken together; where data have grown in between, N is the largest. NaN and -1 for what is not known. noise: share
    of wrong labels, if it is known. probes: whether to go by a run's probes where it has some. Raises as
    `dynamics.clean.clean_probability` and `suggested_labels` do.
    """
    listed = list(runs) if isinstance(runs, (list, tuple)) else [runs]
    if not listed:
        raise InvalidValue(f"labels are judged by at least one run, got {runs!r}; pass a Run or a list of them")
    return _judged([find_run(run, "clean_of") for run in listed], noise, probes)


def read_clean(runs: Sequence[Any], context: Context, *, noise: float | None = None) -> tuple[Tensor, Tensor]:
    """`clean_of` for a training that begins: refused, as `selection.fitting_run` says, where the data do not fit."""
    return _judged([fitting_run(reference, context) for reference in runs], noise, True)


def relabel_list(
    p_clean: Tensor, suggested: Tensor, labels: Tensor, *, below: float = 0.5, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(ids int64 [k], ascending, their new labels int64 [k]): labels that are probably wrong, and what they become.

    p_clean: float [N], NaN is never listed; suggested: int64 [N], -1 where nothing is suggested; labels: int64 [N], as
    they are. below: lists p_clean < below, above 0 (nothing less than certainly wrong), up to 1 (all that are not certain).
    among: bool [N], such as the training split. Raises InvalidValue for other shapes and values outside these ranges.
    """
    listed = _listed(p_clean, below, among)
    for name, column in (("suggested", suggested), ("labels", labels)):
        if not isinstance(column, Tensor) or column.shape != p_clean.shape or column.dtype != torch.int64:
            got = f"{column.dtype} {list(column.shape)}" if isinstance(column, Tensor) else type(column).__name__
            raise InvalidValue(
                f"{name} are one class an id (int64 [{len(p_clean)}]), got {got}; take all of one run's records"
            )
    ids = (listed & (suggested >= 0) & (suggested != labels) & (labels >= 0)).nonzero()[:, 0]
    return ids, suggested[ids]


def drop_list(p_clean: Tensor, *, below: float = 0.5, among: Tensor | None = None) -> Tensor:
    """Ids int64 [k], ascending, of the labels that are probably wrong; arguments as those of `relabel_list`."""
    return _listed(p_clean, below, among).nonzero()[:, 0]


def write_list(path: str | os.PathLike[str], ids: Tensor, labels: Tensor | None = None) -> None:
    """A CSV file with the columns id and label, or id alone: what the task "planted" takes as `correction` or `drop`.

    ids, labels: int64 [k]. Raises InvalidValue for other shapes or types.
    """
    columns = [ids] if labels is None else [ids, labels]
    if any(c.ndim != 1 or c.is_floating_point() or len(c) != len(ids) for c in columns):
        got = " and ".join(f"{c.dtype} {list(c.shape)}" for c in columns)
        raise InvalidValue(f"a list is ids [k], perhaps with a label each [k], whole numbers, got {got}; pass such")
    with open(path, "w", newline="", encoding="utf-8") as opened:
        rows = csv.writer(opened, lineterminator="\n")
        rows.writerow(("id", "label")[: len(columns)])
        rows.writerows(zip(*(c.tolist() for c in columns), strict=True))


def _judged(runs: Sequence[Any], noise: float | None, probes: bool) -> tuple[Tensor, Tensor]:
    told = [Trajectories.of(run) for run in runs]
    if not probes:
        told = [replace(one, probes=None) for one in told]
    size = max(one.examples for one in told)
    p = [clean_probability(one, noise=noise) for one in told]
    table = torch.stack([F.pad(column, (0, size - len(column)), value=torch.nan) for column in p])
    return table.nanmean(0), suggested_labels(told)


def _listed(p_clean: Tensor, below: float, among: Tensor | None) -> Tensor:
    number(below, BELOW, "0.5 is usual", 0, 1, above=True)
    if not isinstance(p_clean, Tensor) or p_clean.ndim != 1 or not p_clean.is_floating_point():
        got = f"{p_clean.dtype} {list(p_clean.shape)}" if isinstance(p_clean, Tensor) else type(p_clean).__name__
        raise InvalidValue(f"p_clean is one probability an id, float [N], got {got}; take it from clean_of(run)")
    listed = p_clean < below  # NaN is not
    if among is None:
        return listed
    if not isinstance(among, Tensor) or among.shape != p_clean.shape or among.dtype != torch.bool:
        raise InvalidValue(
            f"among is a mask bool [{len(p_clean)}], got {type(among).__name__}; pass for example roles == TRAIN"
        )
    return listed & among


catalog = {"records": read_clean}
"""Where a method's probabilities come from -> how they are read: (runs, context, noise=) -> (p_clean [N], suggested [N])."""
