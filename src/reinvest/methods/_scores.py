"""Scores of examples, one number an id, from earlier runs or given outright; shared by the methods that use them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core import names
from ..core.errors import InvalidValue, unknown
from ..core.method import Context, Method, plain_argument
from ..core.streams import example_uniform
from ..core.view import TRAIN
from ._check import earlier_runs, number, switch

KINDS = ("mean", "last", "first")
"""Which of an example's losses is its score: the mean over epochs, or that of the last or first epoch that saw it."""
SHARE = "share is a part of the examples above 0, up to 1 (all of them)"


def checked_scores(scores: Any) -> Tensor:
    """Scores [N] as float64; what is not finite becomes NaN, which stands for "never seen".

    Raises InvalidValue for anything but one number an id, and where no example has a score.
    """
    if not isinstance(scores, Tensor) or scores.ndim != 1 or not scores.is_floating_point():
        got = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise InvalidValue(
            f"scores are one number an id (float [N], NaN: never seen), got {got}; pass such a tensor, for example "
            "scores_of(run)"
        )
    found: Tensor = scores.detach().cpu().double()
    found = found.masked_fill(~found.isfinite(), math.nan)
    if bool(found.isnan().all()):
        raise InvalidValue(
            f"at least one example has a score, got {len(found)} without any; take a run that recorded its losses"
        )
    return found


def mask_of(among: Tensor | None, scores: Tensor) -> Tensor:
    """Ids int64 [k], or a mask bool [N], as a mask [N]; None stands for the examples that have a score.

    Raises InvalidValue for other shapes and types, and for ids beyond N.
    """
    size = len(scores)
    if among is None:
        return ~scores.isnan()
    if isinstance(among, Tensor) and among.ndim == 1 and among.dtype == torch.bool and len(among) == size:
        return among.cpu()
    if not isinstance(among, Tensor) or among.ndim != 1 or among.dtype != torch.int64:
        got = f"{among.dtype} {list(among.shape)}" if isinstance(among, Tensor) else type(among).__name__
        raise InvalidValue(
            f"a set of examples is int64 ids [k], or a mask bool [{size}], got {got}; pass for example the ids of the "
            "training split"
        )
    ids = among.cpu()
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= size):
        raise InvalidValue(
            f"ids lie in 0 .. {size - 1}, as there is one score an id, got {int(ids.min())} to {int(ids.max())}; "
            "leave out what has no row"
        )
    return torch.zeros(size, dtype=torch.bool).index_fill_(0, ids, True)


def count_of(share: float, size: int) -> int:
    """How many of `size` examples a share means: rounded, half up, and at least one of them."""
    return min(size, max(1, math.floor(share * size + 0.5 + 1e-9)))


def drawn(ids: Tensor, seed: int, name: str, epoch: int = 0) -> Tensor:
    """`ids` [k] in a random order, in which each id has its own draw, whatever the others are."""
    return ids[torch.argsort(example_uniform(seed, name, epoch, ids)[:, 0], stable=True)]


def ascending(scores: Tensor, ids: Tensor, seed: int) -> Tensor:
    """`ids` [k] by rising score; ids of equal score in an order drawn from the seed."""
    ids = drawn(ids, seed, "scores.ties")
    return ids[torch.argsort(scores[ids], stable=True)]


def look_up(table: Tensor, ids: Tensor) -> Tensor:
    """The entries of `table` [N + 1] for `ids` [B]; ids from N up (grown data) get its last one."""
    return table[ids.to(table.device).clamp(max=len(table) - 1)]


def never_empty(kept: Tensor, ids: Tensor, context: Context, name: str) -> Tensor:
    """The rows where `kept` bool [B] holds; where it holds nowhere, one row drawn by id, so that no batch is empty."""
    rows = kept.nonzero()[:, 0]
    if len(rows):
        return rows
    return example_uniform(context.seed, f"{name}.least", context.epoch, ids)[:, 0].argmin().unsqueeze(0)


class Scored(Method):
    """Base of methods that act on a score of each example: its loss in an earlier run, or a number given for it."""

    needs_ids = True
    reader: str = "records"
    """How the scores of a run are read: a name in the catalogue "scores"."""

    def _from(self, run: Any, scores: Sequence[float | None] | None, loss: str, balance: bool) -> None:
        """Keep where the scores come from; raises InvalidValue unless it is one of the two."""
        listed = earlier_runs(run)
        if (run is None) == (scores is None) or (run is not None and not listed):
            raise InvalidValue(
                f"{self.name} takes its scores from a run (its id, or a list of runs) or from scores=[...], got "
                f"run={run!r} and scores={'a list' if scores is not None else None}; pass one of the two"
            )
        if loss not in KINDS:
            raise unknown("loss", loss, KINDS)
        self.runs = listed
        self.given = None if scores is None else _numbers(scores)
        self.loss, self.balance = loss, switch(balance, "balance")
        if self.balance and self.given is not None:
            raise InvalidValue(
                f"balance needs the labels in a run's records, got balance={balance!r} with scores=[...]; rank the "
                "scores within classes beforehand (reuse.selection.within_classes)"
            )
        self._seconds = 0.0

    def acts(self) -> bool:
        """Whether the arguments ask for anything; if not, nothing is read."""
        raise NotImplementedError

    def prepare(self, scores: Tensor, training: Tensor, context: Context) -> None:
        """Make what the steps look up, out of scores [N] and the mask [N] of the training examples."""
        raise NotImplementedError

    def start(self, context: Context) -> None:
        """Read the losses and rank the examples by them."""
        begun = time.perf_counter()
        if self.acts():
            self.prepare(*self.read(context), context)
        self._seconds = time.perf_counter() - begun

    def read(self, context: Context) -> tuple[Tensor, Tensor]:
        """(scores [N] float64, NaN: never seen; mask [N] of the examples that are trained on), N up to date.

        Raises what the records do not fit, and InvalidValue where no training example has a score.
        """
        if self.given is None:
            read = names.resolve("scores", self.reader)
            found: Tensor = read(self.runs, context, loss=self.loss, balance=self.balance)
        else:
            found = torch.tensor([math.nan if v is None else v for v in self.given], dtype=torch.float64)
        size = max(len(found), context.task.examples or 0)
        scores = checked_scores(F.pad(found.double(), (0, size - len(found)), value=math.nan))
        if context.task.roles is None:
            training = torch.ones(size, dtype=torch.bool)
        else:
            roles = context.task.roles().cpu()
            training = F.pad(roles == TRAIN, (0, size - len(roles)))
        if not bool((training & ~scores.isnan()).any()):
            raise InvalidValue(
                f"{self.name} needs scores of training examples, got {int((~scores.isnan()).sum())} of other examples; "
                "take a run on this data set and split"
            )
        return scores, training

    def reuses(self) -> list[tuple[str, str]]:
        """The runs whose losses it uses, as "data"."""
        ids = dict.fromkeys(plain_argument(r) for r in self.runs)
        return [(i, "data") for i in ids if isinstance(i, str) and not i.startswith("<")]

    def one_off(self) -> float:
        """Seconds for reading and ranking the losses."""
        return self._seconds


def _numbers(scores: Any) -> tuple[float | None, ...]:
    if not isinstance(scores, (list, tuple)) or not scores:
        got = type(scores).__name__ if scores != [] and scores != () else repr(scores)
        raise InvalidValue(
            f"scores are a list of numbers, one an id (None: never seen), got {got}; write scores=tensor.tolist()"
        )
    rule = "scores are finite numbers, one an id (None: never seen)"
    kept = tuple(
        None
        if v is None
        else number(v, rule, "write None for an example without", -math.inf, math.inf, above=True, below=True)
        for v in scores
    )
    if all(v is None for v in kept):
        raise InvalidValue(f"{rule}, got {len(kept)} times None; give at least one")
    return kept
