"""Training on a part of the data that an earlier run's losses point to, with some of the rest replayed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue, unknown
from ...core.method import Card, Context
from .._check import number
from .._scores import SHARE, Scored, ascending, checked_scores, count_of, drawn, look_up, mask_of, never_empty

ENDS = ("highest", "lowest", "middle")
REPLAY = "replay is the part of the chosen examples that is drawn from the rest, from 0 to 1 (all of them)"
CAP = "cap is the share of the examples, lowest scores first, that may be chosen by score, above 0, up to 1 (no cap)"


def capped(
    values: Tensor, *, lowest: float | None = None, at_least: float | None = None, at_most: float | None = None
) -> Tensor:
    """Which examples may be chosen by score: a mask bool [N] over values [N]; NaN (unknown) is never allowed.

    lowest: a share in (0, 1] of the known values, counted from below: 0.95 of the mean losses leaves out the highest
    5 %, where wrong labels are; equal values stand or fall together. at_least, at_most: limits in the values' own unit,
    ends included, such as at_least=0.5 of the probability that a label is right. What is given must hold together.
    Raises InvalidValue for a share outside its range, and where nothing is given.
    """
    if lowest is None and at_least is None and at_most is None:
        raise InvalidValue("a cap has a limit, got none of lowest, at_least and at_most; lowest=0.95 is usual")
    values = checked_scores(values)
    allowed = ~values.isnan()
    if lowest is not None:
        number(
            lowest, "lowest is a share of the known values above 0, up to 1 (no cap)", "0.95 is usual", 0, 1, above=True
        )
        known = values[allowed].sort().values
        allowed &= values <= known[count_of(lowest, len(known)) - 1]
    if at_least is not None:
        allowed &= values >= at_least
    if at_most is not None:
        allowed &= values <= at_most
    return allowed


def choose_subset(
    scores: Tensor,
    share: float,
    *,
    which: str = "highest",
    replay: float = 0.25,
    cap: Tensor | None = None,
    among: Tensor | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> Tensor:
    """Ids int64 [k], ascending: k = share of the candidates (rounded), partly by score and partly at random.

    scores: float [N], NaN for examples never seen. share: in (0, 1]; 1 chooses all. which: "highest", "lowest" or
    "middle" scores. replay: the part of k, in [0, 1], that is drawn uniformly from all candidates not chosen by score,
    in each epoch the next ones of an order drawn from the seed; 1 draws all of k. cap: bool [N], who may be chosen by
    score (see `capped`); what it leaves unfilled is drawn too, so k never changes. among: the candidates, as ids or a
    mask [N]; default those with a score. A candidate without one can be drawn, and is not chosen by score. Equal scores
    are put in random order.

    Raises InvalidValue for values outside these ranges, shapes other than these, scores that are all NaN, ids beyond N
    and no candidates.
    """
    number(share, SHARE, "0.5 is usual", 0, 1, above=True)
    number(replay, REPLAY, "0.25 is usual", 0, 1)
    if which not in ENDS:
        raise unknown("part of the scores", which, ENDS)
    chosen, rest, count = _parts(scores, share, which, replay, cap, among, seed)
    return torch.cat([chosen, _turn(rest, count, epoch)]).sort().values


def _parts(
    scores: Tensor, share: float, which: str, replay: float, cap: Tensor | None, among: Tensor | None, seed: int
) -> tuple[Tensor, Tensor, int]:
    """(ids chosen by score, all others in the order in which they are replayed, how many of those an epoch)."""
    scores = checked_scores(scores)
    candidates = mask_of(among, scores)
    if not bool(candidates.any()):
        raise InvalidValue("a subset has candidates, got an empty `among`; leave it out for all examples with a score")
    able = candidates & ~scores.isnan()
    if cap is not None:
        if not isinstance(cap, Tensor) or cap.dtype != torch.bool or cap.shape != scores.shape:
            got = f"{cap.dtype} {list(cap.shape)}" if isinstance(cap, Tensor) else type(cap).__name__
            raise InvalidValue(f"cap is a mask bool [{len(scores)}], got {got}; make it with capped(...)")
        able &= cap.cpu()
    ranked = ascending(scores, able.nonzero()[:, 0], seed)
    count = count_of(share, int(candidates.sum()))
    by_score = min(count - int(replay * count + 0.5 + 1e-9), len(ranked))
    first = {"lowest": 0, "highest": len(ranked) - by_score, "middle": (len(ranked) - by_score) // 2}[which]
    chosen = ranked[first : first + by_score]
    rest = candidates.index_fill(0, chosen, False).nonzero()[:, 0]
    return chosen, drawn(rest, seed, "choose_subset"), count - by_score


def _turn(rest: Tensor, count: int, epoch: int) -> Tensor:
    """The `count` ids whose turn it is: the epochs go round `rest` [k], so that none comes twice before all have come."""
    return rest[(torch.arange(count) + epoch * count) % max(1, len(rest))]


class Subset(Scored):
    """Until `until` of the run, trains on the share of the examples with the highest losses in an earlier run, and replay.

    run: a Run, its id, or a list of them, whose losses are averaged; or scores: a list of numbers, one an id (None:
    never seen). share: of the training examples that have a score, in (0, 1]; 1 drops none. which: "highest" (what the
    earlier run found hard), "lowest" (what it found clean) or "middle" losses. replay: the part of the share, in [0, 1],
    drawn uniformly from all the rest, others in each epoch until all have had their turn. cap: in (0, 1], share of the
    losses, lowest first, that may be chosen: 0.95 leaves the highest 5 %, wrong labels among them, to chance; 1 has no
    cap. until: share of the run, in [0, 1]; afterwards all examples are used, 0 uses all throughout. loss: "mean" over
    the earlier run's epochs, or that of the "last" or "first" epoch that saw the example. balance: choose alike from
    every class.

    An example that the earlier run never saw (new data; or what its own subset left out, so give its parent too) is
    always trained on. The others are dropped from the batches that the loader yields, so that a step costs about
    `share` of a full one, sizes vary from step to step, and an epoch keeps its number of steps; a batch without a
    chosen example trains on one of its own, drawn by id.
    Raises InvalidValue for values outside these ranges; records of other data are refused when training begins.
    """

    card = Card(
        title="Training on a subset by an earlier run's losses",
        paper="Paul, Ganguli, Dziugaite: Deep Learning on a Data Diet: Finding Important Examples Early in Training; "
        "replay, cap and losses from records in place of gradient norms are this project's own",
        year=2021,
        arxiv="2107.07075",
        phase="select",
        cost="about `share` of a step, where the loader keeps up: it reads and augments the dropped examples too",
        breaks="high losses are wrong labels too: keep the cap, or train on the lowest where labels are noisy; little "
        "data has nothing to spare; batch norm sees smaller batches of varying size, which compiled models dislike",
        domains=("vision", "language", "tabular"),
        references=("1804.06872",),
        found="against a random half of each batch at equal time, speed-up to equal quality: hardest half worse (0.506) on "
        "clean labels, worse (at most 0.351) with every fifth label wrong; easiest half mixed (0.945) and better (1.54): "
        "CIFAR-10 at 16x16 pixels, ResNet-8 (docs/data_diet.md)",
    )
    neutral: ClassVar = {"share": 1.0, "scores": [0.0]}
    example: ClassVar = {"scores": [(29 * i) % 48 / 48 for i in range(48)], "share": 0.5, "until": 0.8}
    uneven: ClassVar[bool] = True
    couples_examples = True

    def __init__(
        self,
        run: Any = None,
        share: float = 0.5,
        *,
        which: str = "highest",
        replay: float = 0.25,
        cap: float = 0.95,
        until: float = 1.0,
        loss: str = "mean",
        balance: bool = False,
        scores: Sequence[float | None] | None = None,
    ) -> None:
        self.share = number(share, SHARE, "0.5 is usual", 0, 1, above=True)
        if which not in ENDS:
            raise unknown("part of the scores", which, ENDS)
        self.which = which
        self.replay = number(replay, REPLAY, "0.25 is usual", 0, 1)
        self.cap = number(cap, CAP, "0.95 is usual", 0, 1, above=True)
        self.until = number(until, "until is a share of the run from 0 to 1", "1.0 is usual", 0, 1)
        self.horizon = self.until < 1.0
        self._from(run, scores, loss, balance)
        self._parts: tuple[Tensor, Tensor, int] | None = None
        self._mask: Tensor | None = None
        self._epoch = -1

    def selects(self, context: Context) -> bool:
        """Whether the next step trains on chosen examples only."""
        return self.share < 1.0 and context.progress < self.until

    def acts(self) -> bool:
        """Whether any example is dropped."""
        return self.share < 1.0 and self.until > 0.0

    def prepare(self, scores: Tensor, training: Tensor, context: Context) -> None:
        """Choose by score, and put the rest in the order in which it is replayed."""
        known = training & ~scores.isnan()
        cap = None if self.cap == 1.0 else capped(scores.masked_fill(~known, torch.nan), lowest=self.cap)
        self._parts = _parts(scores, self.share, self.which, self.replay, cap, known, context.seed)
        self._mask, self._epoch = torch.ones(len(scores) + 1, dtype=torch.bool), -1

    def select(self, batch: Batch, context: Context) -> Batch:
        """The chosen examples of the batch, in their order, and those that the earlier run never saw."""
        if not self.selects(context):
            return batch
        ids = batch.need_ids(self.name)
        rows = never_empty(look_up(self.chosen(context), ids), ids, context, self.name)
        return batch if len(rows) == len(batch) else batch.take(rows)

    def chosen(self, context: Context) -> Tensor:
        """This epoch's mask bool [N + 1] over ids: True is trained on; the last entry stands for grown data."""
        assert self._parts is not None and self._mask is not None, "start comes before select"
        if self._epoch != context.epoch:
            _, rest, count = self._parts
            self._mask[rest] = False
            self._mask[_turn(rest, count, context.epoch)] = True
            self._epoch = context.epoch
        return self._mask

    def kind(self, context: Context) -> Hashable:
        """ "subset" or "all"."""
        return "subset" if self.selects(context) else "all"

    def finish(self, context: Context) -> None:
        """Forget the choice."""
        self._parts = self._mask = None
        self._epoch, self._seconds = -1, 0.0
