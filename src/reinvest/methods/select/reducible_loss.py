"""Reducible loss selection (RHO-LOSS): of a large batch, the examples with most left to learn that can be learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue, unknown
from ...core.method import Card, Context
from .._scores import Scored, look_up
from .prioritized_training import highest_rows
from .selective_backprop import SelectiveBackprop

SOURCES = ("holdout", "records")


def select_reducible(losses: Tensor, irreducible: Tensor, keep: float, least: int = 0) -> Tensor:
    """The rows with the highest loss less irreducible loss: int64 [floor(keep x B)], or `least`, ascending, on the CPU.

    losses: of the model as it is; irreducible: of a model that was trained without these examples; both [B]. Raises
    InvalidValue for shapes that differ, and as `highest_rows` does.
    """
    if losses.shape != irreducible.shape:
        raise InvalidValue(
            f"both losses are one number an example, got shapes {list(losses.shape)} and {list(irreducible.shape)}; pass "
            "those of the same examples"
        )
    return highest_rows(losses.float() - irreducible, keep, least)


class ReducibleLossSelection(Scored, SelectiveBackprop):
    """Trains on the share `keep` of each batch whose loss is highest above what a model could bring it down to.

    What can be brought down no further, the irreducible loss, is that of a model that was trained without the example:
    high for wrong labels and for what cannot be told, low for what others teach too. run: a Run, its id, or a list of
    them, averaged; or scores: a list of irreducible losses, one an id (None: not known, the mean of the others).
    source: "holdout", the paper's: each run's model looks once, without augmentation, at the training examples that it was
    not trained on; two runs on a half each look at each other's. "records", this project's own: the losses in the records
    of the examples that the run was trained on, which cost nothing and are no irreducible losses: what that run had
    memorised, wrong labels among it, counts as learnable, so take a short or small run. loss: of records, that of the
    "last" or "first" epoch, or the "mean".
    keep: share of the batch, in (0, 1]; 1 keeps all and scores nothing. start, end, scale, period: as for
    SelectiveBackprop, whose scoring pass this is.

    The loader's batch is the large one: 1 / keep times the usual size for the usual number of examples a step. Each
    virtual node keeps the same count, and of a short batch one example at least. Raises InvalidValue for values outside
    these ranges, and as SelectiveBackprop does; what does not fit is refused when training begins.
    """

    card = Card(
        title="Reducible loss selection (RHO-LOSS)",
        paper="Mindermann, Brauner, Razzak, Sharma, Kirsch, Xu, Höltgen, Gomez, Morisot, Farquhar, Gal: Prioritized Training "
        "on Points that are Learnable, Worth Learning, and Not Yet Learnt",
        year=2022,
        arxiv="2206.07137",
        phase="select",
        cost="(scale^2 + 3 keep) / 3 of a step on the same batch: 0.43 at keep 0.1, of which 0.33 is scoring; and a pass of "
        "the other model over the training examples, whose own training comes on top",
        breaks="losses of records are no irreducible losses; a tenth of an ordinary batch is a noisy step; batch norm sees the "
        "kept examples alone; examples that only the larger model can learn look like noise",
        domains=("vision", "language", "tabular"),
        found="keep 0.5, irreducible losses of two runs on a half each, against a random half of each batch at equal time, "
        "speed-up to equal quality: worse (0.871) on clean labels, inconclusive (1.04) with every fifth label wrong, a step "
        "1.42 times as dear in both: CIFAR-10 at 16x16 pixels, ResNet-8 (docs/data_diet.md)",
    )
    revision = 1
    neutral: ClassVar = {"keep": 1.0, "scores": [0.0]}
    example: ClassVar = {"scores": [2.0 * ((29 * i) % 48) / 48 for i in range(48)], "keep": 0.5, "end": 0.8}
    couples_examples = True

    def __init__(
        self,
        run: Any = None,
        keep: float = 0.1,
        *,
        source: str = "holdout",
        loss: str = "last",
        scores: Sequence[float | None] | None = None,
        start: float = 0.0,
        end: float = 1.0,
        scale: float = 1.0,
        period: int = 0,
    ) -> None:
        SelectiveBackprop.__init__(self, start, end, keep=keep, scale=scale, period=period)
        if source not in SOURCES:
            raise unknown("source of irreducible losses", source, SOURCES)
        self._from(run, scores, loss, False)
        self.reader = source
        self._table: Tensor | None = None

    def acts(self) -> bool:
        """Whether any step selects."""
        return self._acts()

    def start(self, context: Context) -> None:
        """Get the irreducible losses; charged."""
        SelectiveBackprop.start(self, context)
        Scored.start(self, context)

    def prepare(self, scores: Tensor, training: Tensor, context: Context) -> None:
        """Put them where the scoring pass is; the last entry stands for grown data."""
        usual = scores[training].nanmean()
        known = torch.where(scores.isnan(), usual, scores)
        self._table = torch.cat([known, usual.unsqueeze(0)]).float().to(context.device)

    def choose(self, losses: Tensor, batch: Batch, context: Context) -> Tensor:
        """The rows with the highest reducible loss."""
        assert self._table is not None, "start comes before select"
        irreducible = look_up(self._table, batch.need_ids(self.name)).to(losses.device)
        return select_reducible(losses, irreducible, self.keep, least=1)

    def finish(self, context: Context) -> None:
        """Forget them, and take the hook off the model."""
        self._table, self._seconds = None, 0.0
        SelectiveBackprop.finish(self, context)
