"""Weights of examples by the rank of their loss in an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.method import Card, Context
from .._check import number, switch
from .._scores import Scored, checked_scores, look_up, mask_of

STRENGTH = "strength is from -1 (low scores count double, high ones nothing) over 0 (all alike) to 1 (the reverse)"


def weights_from(scores: Tensor, strength: float = 0.5, *, among: Tensor | None = None) -> Tensor:
    """Weights float32 [N]: 1 + strength x (2 u - 1) for the share u of scores that lie below; their mean is 1.

    scores: float [N], NaN for examples never seen, whose weight is 1; equal scores have equal weights. strength in
    [-1, 1]: positive raises high scores, negative low ones, 0 leaves all at 1. among: whom to rank, as ids or a mask
    [N], default all with a score; the others weigh 1. Ranks, not values, so that weights lie in [1 - |strength|,
    1 + |strength|] however long the tail of the losses is.
    Raises InvalidValue for a strength outside its range, other shapes, scores that are all NaN and ids beyond N.
    """
    number(strength, STRENGTH, "0.5 is usual", -1, 1)
    return 1.0 + strength * _tilt(scores, among)


def _tilt(scores: Tensor, among: Tensor | None) -> Tensor:
    """2 u - 1 in (-1, 1), float32 [N]; 0 for the unknown."""
    scores = checked_scores(scores)
    known = mask_of(among, scores) & ~scores.isnan()
    _, places, counts = torch.unique(scores[known], return_inverse=True, return_counts=True)
    below = (counts.cumsum(0).double() - counts.double() / 2.0)[places]
    tilt = torch.zeros(len(scores), dtype=torch.float64)
    tilt[known] = 2.0 * below / max(1, len(below)) - 1.0
    return tilt.float()


class Weighting(Scored):
    """Multiplies each example's loss by a weight by the rank of its loss in an earlier run; the mean weight is 1.

    run: a Run, its id, or a list of them, whose losses are averaged; or scores: a list of numbers, one an id (None:
    never seen, weight 1), such as the probability that a label is right. strength: in [-1, 1]; the weights spread evenly
    over [1 - |strength|, 1 + |strength|]: positive raises the examples with high scores, negative those with low ones,
    0 weighs all alike. until: share of the run, in [0, 1], from which on all weigh 1. anneal: let the strength fall to 0
    in a straight line until then, instead of at once. loss: "mean" over the earlier run's epochs, or that of the "last"
    or "first" epoch that saw the example. balance: rank within classes.

    The weight of a blended example (Mixup) is blended likewise where the partners' ids are known.
    Raises InvalidValue for values outside these ranges; records of other data are refused when training begins.
    """

    card = Card(
        title="Weights by an earlier run's losses",
        paper="Loshchilov, Hutter: Online Batch Selection for Faster Training of Neural Networks (draws by rank of the "
        "latest losses); fixed weights by rank in an earlier run are this project's own",
        year=2015,
        arxiv="1511.06343",
        phase="losses",
        cost="none to speak of: a look-up of one number an example",
        breaks="positive strength learns wrong labels, negative strength neglects rare and hard examples; a constant "
        "strength ends at another optimum than plain training; weights spread gradients, so the noise grows",
        domains=("vision", "language", "tabular"),
    )
    neutral: ClassVar = {"strength": 0.0, "scores": [0.0]}
    example: ClassVar = {"scores": [(29 * i) % 48 / 48 for i in range(48)], "strength": 0.8, "until": 0.8}

    def __init__(
        self,
        run: Any = None,
        strength: float = 0.5,
        *,
        until: float = 1.0,
        anneal: bool = True,
        loss: str = "mean",
        balance: bool = False,
        scores: Sequence[float | None] | None = None,
    ) -> None:
        self.strength = number(strength, STRENGTH, "0.5 is usual", -1, 1)
        self.until = number(until, "until is a share of the run from 0 to 1", "1.0 is usual", 0, 1)
        self.anneal = switch(anneal, "anneal")
        self.horizon = self.anneal or self.until < 1.0
        self._from(run, scores, loss, balance)
        self._table: Tensor | None = None

    def strength_now(self, context: Context) -> float:
        """The strength at this point of the run; 0 weighs all alike."""
        if context.progress >= self.until:
            return 0.0
        return self.strength * (1.0 - context.progress / self.until) if self.anneal else self.strength

    def acts(self) -> bool:
        """Whether any weight is not 1."""
        return self.strength != 0.0 and self.until > 0.0

    def prepare(self, scores: Tensor, training: Tensor, context: Context) -> None:
        """Rank the training examples."""
        tilt = _tilt(scores, training)
        self._table = torch.cat([tilt, tilt.new_zeros(1)]).to(context.device)

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """Weighted losses [B]."""
        strength = self.strength_now(context)
        if strength == 0.0 or self._table is None:
            return losses
        weights = 1.0 + strength * look_up(self._table, batch.need_ids(self.name))
        if batch.mix is not None and batch.mix.ids is not None:
            partners = 1.0 + strength * look_up(self._table, batch.mix.ids)
            weights = torch.lerp(partners, weights, batch.mix.coefficients.to(weights))
        return losses * weights.to(losses)

    def finish(self, context: Context) -> None:
        """Forget the ranks."""
        self._table, self._seconds = None, 0.0
