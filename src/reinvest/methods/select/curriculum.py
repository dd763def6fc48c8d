"""A curriculum: training begins with what an earlier run found easy (or hard), and the rest joins in step by step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import unknown
from ...core.method import Card, Context
from .._check import number
from .._scores import Scored, ascending, checked_scores, drawn, look_up, mask_of, never_empty

DIRECTIONS = ("easy first", "hard first")
START = "start is the share of the examples to begin with, above 0, up to 1 (all of them)"
UNTIL = "until is the share of the run from which on all examples are used, from 0 (at once) to 1"


def order_from(scores: Tensor, direction: str = "easy first", *, among: Tensor | None = None, seed: int = 0) -> Tensor:
    """When each example joins: float64 [N], (place + 1/2) / n for place 0 .. n-1 among n candidates.

    scores: float [N], NaN for examples never seen, which come in the middle: half of the others before them, half after.
    direction: "easy first" (low scores) or "hard first". among: the candidates, as ids or a mask [N]; default all N; the
    others get 1/2. Equal scores, and examples without one, are put in an order drawn from the seed.
    Raises InvalidValue for other shapes, scores that are all NaN and ids beyond N, UnknownName for other directions.
    """
    if direction not in DIRECTIONS:
        raise unknown("direction of a curriculum", direction, DIRECTIONS)
    scores = checked_scores(scores)
    candidates = torch.ones(len(scores), dtype=torch.bool) if among is None else mask_of(among, scores)
    ranked = ascending(scores, (candidates & ~scores.isnan()).nonzero()[:, 0], seed)
    if direction == "hard first":
        ranked = ranked.flip(0)
    unseen = drawn((candidates & scores.isnan()).nonzero()[:, 0], seed, "order_from")
    half = (len(ranked) + 1) // 2
    ids = torch.cat([ranked[:half], unseen, ranked[half:]])
    order = torch.full((len(scores),), 0.5, dtype=torch.float64)
    order[ids] = (torch.arange(len(ids), dtype=torch.float64) + 0.5) / max(1, len(ids))
    return order


def open_share(progress: float, start: float, until: float) -> float:
    """The share of the examples that is in use: from `start` in a straight line to 1 at `until`, then 1.

    progress, until: shares of the run in [0, 1]; start in (0, 1].
    """
    if progress >= until:
        return 1.0
    return start + (1.0 - start) * progress / until


class Curriculum(Scored):
    """Begins with the share `start` of the examples, by rank of their loss in an earlier run; all are in use at `until`.

    run: a Run, its id, or a list of them, whose losses are averaged; or scores: a list of numbers, one an id (None:
    never seen). start: in (0, 1]; 1 uses all examples throughout. until: share of the run, in [0, 1], at which the last
    example joins; the share grows in a straight line. direction: "easy first" (low losses first) or "hard first".
    loss: "mean" over the earlier run's epochs, or that of the "last" or "first" epoch that saw the example. balance:
    rank within classes, so that every class opens alike.

    An example that the earlier run never saw joins in the middle. Those that have not joined are dropped from the
    batches that the loader yields, so that early steps are smaller and cheaper and an epoch keeps its number of steps;
    a batch without an open example trains on one of its own, drawn by id.
    Raises InvalidValue for values outside these ranges; records of other data are refused when training begins.
    """

    card = Card(
        title="Curriculum by an earlier run's losses",
        paper="Hacohen, Weinshall: On The Power of Curriculum Learning in Training Deep Networks",
        year=2019,
        arxiv="1904.03626",
        phase="select",
        cost="1 - until x (1 - start) / 2 of plain training in examples: 0.83 by default, where the loader keeps up",
        breaks="of little use where training is long and labels are clean (2012.03107); without balance easy classes "
        "come first; small early batches are noisy and of varying size, which compiled models dislike",
        domains=("vision", "language", "tabular"),
        references=("2012.03107",),
    )
    horizon = True
    neutral: ClassVar = {"start": 1.0, "scores": [0.0]}
    example: ClassVar = {"scores": [(29 * i) % 48 / 48 for i in range(48)], "start": 0.4, "until": 0.8}
    uneven: ClassVar[bool] = True
    couples_examples = True

    def __init__(
        self,
        run: Any = None,
        start: float = 0.3,
        *,
        until: float = 0.5,
        direction: str = "easy first",
        loss: str = "mean",
        balance: bool = False,
        scores: Sequence[float | None] | None = None,
    ) -> None:
        self.begin = number(start, START, "0.3 is usual", 0, 1, above=True)
        self.until = number(until, UNTIL, "0.5 is usual", 0, 1)
        if direction not in DIRECTIONS:
            raise unknown("direction of a curriculum", direction, DIRECTIONS)
        self.direction = direction
        self._from(run, scores, loss, balance)
        self._order: Tensor | None = None

    def share(self, context: Context) -> float:
        """The share of the examples that the next step may use."""
        return open_share(context.progress, self.begin, self.until)

    def acts(self) -> bool:
        """Whether any example joins later than at once."""
        return self.begin < 1.0 and self.until > 0.0

    def prepare(self, scores: Tensor, training: Tensor, context: Context) -> None:
        """Rank the training examples."""
        order = order_from(scores, self.direction, among=training, seed=context.seed)
        # Grown data that nobody announced join in the middle too.
        self._order = torch.cat([order, torch.full((1,), 0.5, dtype=torch.float64)])

    def select(self, batch: Batch, context: Context) -> Batch:
        """The examples that have joined, in their order."""
        share = self.share(context)
        if share >= 1.0 or self._order is None:
            return batch
        ids = batch.need_ids(self.name)
        rows = never_empty(look_up(self._order, ids) < share, ids, context, self.name)
        return batch if len(rows) == len(batch) else batch.take(rows)

    def kind(self, context: Context) -> Hashable:
        """ "all", or the open share rounded down to a tenth, such as "0.3"."""
        share = self.share(context)
        return "all" if share >= 1.0 else f"{int(share * 10 + 1e-9) / 10:.1f}"

    def finish(self, context: Context) -> None:
        """Forget the ranks."""
        self._order, self._seconds = None, 0.0
