"""Prioritised training: of a large batch, the examples that are probably labelled right and not yet learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.criterion import check_losses, per_example
from ...core.errors import InvalidValue
from ...core.method import Card, Context
from .._check import number
from .._clean import Cleaned
from .selective_backprop import KEEP, SelectiveBackprop, kept_count


def priorities(p_clean: Tensor, p_label: Tensor) -> Tensor:
    """(p_clean + 1 - p_label) / 2 for each of B examples, from 0 (learned, or wrong) to 1 (right and not learned).

    p_clean: probability that the label is right; p_label: the probability that the model gives it. Raises InvalidValue
    for shapes that differ.
    """
    if p_clean.shape != p_label.shape:
        raise InvalidValue(
            f"both probabilities are one number an example, got shapes {list(p_clean.shape)} and {list(p_label.shape)}; "
            "pass those of the same examples"
        )
    return (p_clean + 1.0 - p_label) / 2.0


def highest_rows(scores: Tensor, keep: float, least: int = 0) -> Tensor:
    """The rows of the highest scores [B]: int64 [floor(keep x B)], or `least` if those are more, ascending, on the CPU.

    Of equal scores the first rows are kept; a score that is no number is the lowest. Raises InvalidValue for keep outside
    (0, 1], other shapes, and a count below one.
    """
    number(keep, KEEP, "0.1 is usual", 0, 1, above=True)
    if scores.ndim != 1:
        raise InvalidValue(
            f"selection needs one score an example [B], got shape {list(scores.shape)}; build them with reduction='none'"
        )
    count = kept_count(len(scores), keep, least)
    order = scores.detach().nan_to_num(-torch.inf).argsort(descending=True, stable=True)
    return order[:count].sort().values.cpu()


class PrioritizedTraining(Cleaned, SelectiveBackprop):
    """Trains on the share `keep` of each batch that has the highest priority: label probably right, not yet learned.

    The priority is (p + 1 - q) / 2: p is the probability that the label is right, q = exp(-loss) the one that the model
    gives it in a scoring pass. run: an earlier run, its id, or a list of them, whose histories tell p; p_clean: a list of
    probabilities, one an id (None: right); neither: p comes from this run's own losses, afresh each epoch from the third
    on. noise: share of wrong labels, in [0, 1), where it is known and p is not given.
    keep: share of the batch, in (0, 1]; 1 keeps all and scores nothing. start, end, scale, period: as for
    SelectiveBackprop, whose scoring pass this is: between `start` and `end` of the run, on pictures of the relative side
    `scale`, with every period-th step a plain one (0: none). start None: 0 where p is given, else 0.3, as a choice of the
    highest losses before anything is known of p would be one of wrong labels, from which nothing is learned.

    The loader's batch is the large one: 1 / keep times the usual size for the usual number of examples a step. Each
    virtual node keeps the same count, and of a short batch one example at least. Raises InvalidValue for values outside
    these ranges, and as SelectiveBackprop does.
    """

    card = Card(
        title="Prioritised training",
        paper="Siddiqui, Rajkumar, Maharaj, Krueger, Hooker: Metadata Archaeology: Unearthing Data Subsets by Leveraging "
        "Training Dynamics; p from a run's losses without probes is this project's own",
        year=2022,
        arxiv="2209.10015",
        phase="select",
        cost="(scale^2 + 3 keep) / 3 of a step on the same batch: 0.43 at keep 0.1, of which 0.33 is scoring",
        breaks="without p it is the choice of the highest losses, wrong labels first; a tenth of an ordinary batch is a noisy "
        "step; batch norm sees the kept examples alone; not unbiased",
        domains=("vision", "language", "tabular"),
        references=("1910.00762",),
        found="keep 0.5 against a random half of each batch at equal time, speed-up to equal quality: worse (0.384) on clean "
        "labels, worse (at most 0.243) with every fifth label wrong where the mixture found no wrong labels, inconclusive "
        "(1.01) where it was told that a fifth is: CIFAR-10 at 16x16 pixels, ResNet-8 (docs/data_diet.md)",
    )
    revision = 2
    neutral: ClassVar = {"keep": 1.0}
    example: ClassVar = {"p_clean": [(29 * i) % 48 / 48 for i in range(48)], "keep": 0.5, "end": 0.8}
    couples_examples = True
    without_doubts = "chooses the highest losses"

    def __init__(
        self,
        run: Any = None,
        keep: float = 0.1,
        *,
        p_clean: Sequence[float | None] | None = None,
        noise: float | None = None,
        start: float | None = None,
        end: float = 1.0,
        scale: float = 1.0,
        period: int = 0,
    ) -> None:
        self._from(run, p_clean, noise)
        begin = start if start is not None else 0.3 if self.own else 0.0
        SelectiveBackprop.__init__(self, begin, end, keep=keep, scale=scale, period=period)

    def start(self, context: Context) -> None:
        """Read what an earlier run says, or begin to take notes."""
        self._forget()
        SelectiveBackprop.start(self, context)
        if self._acts():
            self._open(context, history=self.own)

    def select(self, batch: Batch, context: Context) -> Batch:
        """The examples of highest priority, in their order."""
        self._refresh(context)
        return SelectiveBackprop.select(self, batch, context)

    def choose(self, losses: Tensor, batch: Batch, context: Context) -> Tensor:
        """The rows of highest priority by the losses [B] of the scoring pass, which are noted."""
        self._note(batch, losses)
        p = self.probabilities(batch.need_ids(self.name), losses)
        return highest_rows(priorities(p, losses.float().neg().exp()), self.keep, least=1)

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """As they are; before the first selection those of whole batches are noted, which costs no pass."""
        if self._history is not None and context.progress < self.begin and batch.mix is None:
            with torch.no_grad():
                targets = batch.targets.to(output.device)
                raw = check_losses(context.criterion(output.float(), targets), len(output), context.criterion)
                self._note(batch, per_example(raw, targets))
        return losses

    def _note(self, batch: Batch, losses: Tensor) -> None:
        if self._history is not None:
            labels = batch.targets
            single = labels.ndim == 1 and not labels.is_floating_point()
            self._history.record(batch.need_ids(self.name), losses, labels if single else None)

    def finish(self, context: Context) -> None:
        """Forget the tables, and take the hook off the model."""
        self._forget()
        SelectiveBackprop.finish(self, context)

    def state_dict(self) -> dict[str, Any]:
        """The scoring pass's state and the history of this run."""
        return SelectiveBackprop.state_dict(self) | self._state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        SelectiveBackprop.load_state_dict(self, state)
        self._load_state(state)
