"""Label smoothing: a little of the target's probability is spread over all classes."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import class_probabilities, number


def smooth_labels(targets: Tensor, output: Tensor, alpha: float = 0.1) -> Tensor:
    """Targets as probabilities (1 - alpha) x target + alpha / C.

    targets: class numbers int64 [B] or dense [B, ...] (-100 gives a row of zeros, whose loss is 0), or probabilities
    shaped as output. output: logits [B, C, ...]; only its shape and precision are read. alpha: 0 returns the targets
    unchanged, 1 makes them uniform. Returns [B, C, ...]. The cross-entropy of the result is that of
    `F.cross_entropy(..., label_smoothing=alpha)`.

    Raises InvalidValue for alpha outside [0, 1], shapes that do not fit and class numbers outside 0 .. C-1.
    """
    if not 0.0 <= alpha <= 1.0:
        raise InvalidValue(
            f"alpha is a number from 0 (no smoothing) to 1 (uniform targets), got {alpha!r}; 0.1 is usual"
        )
    if alpha == 0.0:
        return targets
    share = alpha / output.shape[1]
    if not targets.is_floating_point():
        return class_probabilities(targets, output, on=1.0 - alpha + share, off=share)
    if targets.shape != output.shape:
        raise InvalidValue(
            f"soft targets are class probabilities with the shape of the logits, got {list(targets.shape)} for "
            f"{list(output.shape)}; label smoothing is for classification, leave it out for other targets"
        )
    # Rows that do not sum to 1 (zeros mark an ignored example) keep their sum.
    return targets * (1.0 - alpha) + targets.sum(1, keepdim=True) * share


class LabelSmoothing(Method):
    """Spreads `alpha` of each target's probability evenly over all classes.

    alpha: 0 changes nothing, 1 would leave nothing to learn; 0.1 is usual. Class targets become soft [B, C, ...];
    ignored positions (-100) stay ignored. Raises InvalidValue for alpha outside [0, 1].
    """

    card = Card(
        title="Label smoothing",
        paper="Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision",
        year=2015,
        arxiv="1512.00567",
        phase="targets",
        cost="a table [B, C] more per step; nothing on a GPU, up to a third of the step of a tiny MLP on a CPU",
        breaks="teachers trained with it teach worse; raw training losses are no longer comparable with runs without "
        "it",
        domains=("vision", "language", "tabular"),
        references=("1906.02629",),
        found="better, 1.09 times as fast to equal quality (1.02 to 1.17): CIFAR-10 at 16x16 pixels, ResNet-8, 3 "
        "to 24 epochs (claims/label_smoothing.json); the paper gains 0.2 points on ImageNet; at 32x32 "
        "pixels undecided (1.05; 0.95 to 1.16)",
    )
    revision = 2
    neutral: ClassVar = {"alpha": 0.0}
    example: ClassVar = {"alpha": 0.2}

    def __init__(self, alpha: float = 0.1) -> None:
        self.alpha = number(
            alpha, "alpha is a number from 0 (no smoothing) to 1 (uniform targets)", "0.1 is usual", 0, 1
        )

    def targets(self, targets: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """Class numbers or probabilities -> smoothed probabilities [B, C, ...]."""
        return smooth_labels(targets, output, self.alpha)
