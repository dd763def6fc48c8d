"""Label correction: a label that is probably wrong gives way to what the model says of the example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.criterion import IGNORE, cross_entropy
from ...core.errors import Conflict, InvalidValue
from ...core.labels import soften_labels
from ...core.method import Card, Context
from .._check import class_probabilities, number
from .._clean import Cleaned
from .._scores import look_up

START = "start is a share of the run from 0 (at once) to 1 (never), or None"
DECAY = "decay is from 0 (the latest answer alone) to below 1"


def correct_targets(
    targets: Tensor, output: Tensor, labels: Tensor, predicted: Tensor, p_clean: Tensor, share: Tensor | None = None
) -> Tensor:
    """Targets [B, C] in which p x onehot(label) + (1 - p) x onehot(predicted) stands in place of onehot(label).

    targets: the class numbers int64 [B] themselves (-100 stays ignored), or a blend [B, C] of which label i is the part
    `share` [B] (Mixup). output: logits [B, C]; only shape and precision are read. labels, predicted: int64 [B], -1 where
    nothing was predicted; p_clean: float [B], 1 leaves the target. Raises InvalidValue for shapes that do not fit.
    """
    if output.ndim != 2 or labels.ndim != 1 or len(labels) != len(output):
        raise InvalidValue(
            f"labels that are corrected are one class an example [B] for logits [B, C], got labels {list(labels.shape)} "
            f"and logits {list(output.shape)}; leave label correction out for dense targets"
        )
    dtype = torch.float64 if output.dtype == torch.float64 else torch.float32
    softened = soften_labels(labels, predicted, p_clean.to(dtype), output.shape[1])
    if not targets.is_floating_point():
        return softened
    part = (
        torch.ones(len(labels), 1, dtype=dtype, device=labels.device) if share is None else share.to(dtype).view(-1, 1)
    )
    return targets + part * (softened - class_probabilities(labels, output))


class LabelCorrection(Cleaned):
    """Trains on p x label + (1 - p) x prediction, p being the probability that the label is right.

    run: an earlier run, its id, or a list of them: p comes from its losses (by its probes, where it had some), and the
    prediction is the class, other than the label, that it said most before it learned the label. p_clean: a list of
    probabilities, one an id (None: trusted). Neither: p comes from this run's own losses, afresh each epoch from the third
    on. Without a run the prediction is the class with the highest average of the answers in earlier epochs. A model that has
    memorised a wrong label says that label, so correcting by its latest answer, late, does nothing.
    start: share of the run, in [0, 1], from which on targets are corrected; 1 never does; None is 0 with a run, else 0.3.
    noise: share of wrong labels, in [0, 1), where it is known; None finds out, and finds none where the losses are not in
    two groups. decay: of averaged answers, in [0, 1); 0 takes the latest one.

    List it after Mixup or CutMix, whose blends of an earlier run's labels it corrects in both parts, and before
    LabelSmoothing. Examples that nothing is known of keep their label. Raises InvalidValue for values outside these
    ranges, for dense targets, and for an own history of blended examples; Conflict for targets that are soft already.
    """

    card = Card(
        title="Label correction",
        paper="Arazo, Ortego, Albert, O'Connor, McGuinness: Unsupervised Label Noise Modeling and Loss Correction (the "
        "mixture and its loss, there with Mixup); averages of answers and an earlier run's records in place of the latest "
        "answer are this project's own",
        year=2019,
        arxiv="1904.11238",
        phase="targets",
        cost="from a run: a table look-up; own history: a softmax and a table of one row an example, and a mixture an epoch",
        breaks="hard and rare examples have high losses too and lose their label, classes that are learned late above all; "
        "raw training losses are no longer comparable with runs without it; clean data gain nothing",
        domains=("vision", "language", "tabular"),
        references=("2209.10015", "1412.6596", "2002.07394"),
        found="told that every fifth label is wrong, with an earlier run, against a random half of each batch at equal time: "
        "better (1.47) in speed-up to equal quality: CIFAR-10 at 16x16 pixels, ResNet-8 (docs/data_diet.md)",
    )
    revision = 2
    neutral: ClassVar = {"start": 1.0}
    example: ClassVar = {"p_clean": [(29 * i) % 48 / 48 for i in range(48)], "start": 0.3}

    def __init__(
        self,
        run: Any = None,
        *,
        start: float | None = None,
        noise: float | None = None,
        decay: float = 0.7,
        p_clean: Sequence[float | None] | None = None,
    ) -> None:
        self._from(run, p_clean, noise)
        begin = start if start is not None else 0.0 if self.runs else 0.3
        self.begin = number(begin, START, "0.3 is usual", 0, 1)
        self.horizon = self.begin > 0.0
        self.decay = number(decay, DECAY, "0.7 is usual", 0, 1, below=True)

    def start(self, context: Context) -> None:
        """Read what an earlier run says, or begin to take notes."""
        self._forget()
        if self.begin < 1.0:
            self._open(context, history=not self.runs, decay=self.decay)

    def targets(self, targets: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """Class numbers, or the blends of them that Mixup makes -> probabilities [B, C]."""
        if self._p is None and self._history is None:
            return targets
        if self._refresh(context) and self._history is not None:
            self._said = self._history.said()
        if self._history is not None and batch.mix is not None:
            raise InvalidValue(
                f"{self.name} learns from what the model says of single examples, got blended ones; take the probabilities "
                "from an earlier run (run=...), or leave the blending out"
            )
        if self._p is None or not self._doubts or context.progress < self.begin:
            return targets
        if targets.is_floating_point() and batch.mix is None:
            raise Conflict(
                f"{self.name} corrects labels before anything softens them, got soft targets; list it first: "
                f"Methods({self.name}(), LabelSmoothing())"
            )
        ids, mix = batch.need_ids(self.name), batch.mix
        if mix is None or not targets.is_floating_point():
            return self._corrected(targets, output, targets, ids)
        if mix.ids is None:
            raise InvalidValue(
                f"{self.name} corrects both parts of a blend by their ids, got a blend without partners' ids; let the "
                "blending method fill Mix.ids"
            )
        share = mix.coefficients.to(targets)
        own = self._corrected(targets, output, batch.targets.to(targets.device), ids, share)
        return self._corrected(own, output, mix.partners.to(targets.device), mix.ids, 1.0 - share)

    def _corrected(
        self, targets: Tensor, output: Tensor, labels: Tensor, ids: Tensor, share: Tensor | None = None
    ) -> Tensor:
        assert self._p is not None and self._said is not None
        p, said = (look_up(table, ids).to(output.device) for table in (self._p, self._said))
        return correct_targets(targets, output, labels, said, p, share)

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """As they are; what the model says of the examples is noted."""
        if self._history is None:
            return losses
        labels = batch.targets.to(output.device)
        if labels.ndim != 1 or output.ndim != 2 or labels.is_floating_point():
            raise InvalidValue(
                f"labels that are corrected are one class an example [B] for logits [B, C], got {labels.dtype} "
                f"{list(labels.shape)} and logits {list(output.shape)}; leave {self.name} out for other targets"
            )
        with torch.no_grad():
            raw = cross_entropy(output.detach().float(), labels).masked_fill(labels == IGNORE, math.nan)
            self._history.record(batch.need_ids(self.name), raw, labels, output)
        return losses

    def finish(self, context: Context) -> None:
        """Forget the tables."""
        self._forget()

    def state_dict(self) -> dict[str, Any]:
        """The history of this run, and the epoch's probabilities and predictions."""
        state = self._state()
        return state | {"said": self._said.cpu().clone() if state and self._said is not None else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        self._load_state(state)
        if self._history is not None and state["said"] is not None:
            self._said = state["said"].to(self._history.now.device, copy=True)
