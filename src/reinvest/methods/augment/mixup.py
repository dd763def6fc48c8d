"""Mixup: every example is blended with another one of its batch, and so are the targets."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch, Mix
from ...core.errors import Conflict, InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import Stream, stream
from .._check import class_probabilities, number


def mix_examples(x: Tensor, alpha: float, draws: Stream) -> tuple[Tensor, Tensor, float]:
    """Blend each example with a partner: c * own + (1 - c) * partner's, one c ~ Beta(alpha, alpha) for the batch.

    x: floating [B, ...]; alpha above 0: towards 0 one of the two dominates, 1 draws c uniformly, large values halve.
    Returns the blend [B, ...] (x is left as it was), the partners' rows int64 [B] and c in [0, 1].
    Raises InvalidValue for integer inputs and alpha not above 0.
    """
    if not x.is_floating_point():
        raise InvalidValue(
            f"Mixup blends floating inputs, got {x.dtype}; convert them first (token ids cannot be blended)"
        )
    partners = draws.permutation(len(x)).to(x.device)
    coefficient = draw_coefficient(alpha, draws)
    return x * coefficient + x[partners] * (1.0 - coefficient), partners, coefficient


def draw_coefficient(alpha: float, draws: Stream) -> float:
    """c ~ Beta(alpha, alpha) in [0, 1], on the host. Raises InvalidValue for alpha not above 0."""
    if not alpha > 0:
        raise InvalidValue(f"alpha is above 0 where examples are blended, got {alpha!r}; 0.2 is usual")
    # Imported here because scipy.special takes a tenth of a second that other methods need not pay.
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, draws.number()))


def mix_targets(targets: Tensor, partners: Tensor, coefficients: Tensor, output: Tensor, who: str = "Mixup") -> Tensor:
    """Blend targets as the inputs were: c * own + (1 - c) * partner's.

    targets, partners: class numbers [B, ...] (-100 adds nothing), or floating targets, blended as they are.
    coefficients: c float [B]. output: logits [B, C, ...], which tell the number of classes. Returns probabilities
    [B, C, ...], or floating targets of the same shape. who: the method that blends, for the messages. Raises Conflict
    if only `targets` are soft already.
    """
    if targets.is_floating_point() != partners.is_floating_point():
        raise Conflict(
            f"{who} blends targets before anything softens them, got class labels of the partners and soft targets; "
            f"list {who} first: Methods({who}(), LabelSmoothing())"
        )
    if not targets.is_floating_point():
        targets, partners = class_probabilities(targets, output), class_probabilities(partners, output)
    if targets.shape != partners.shape:
        raise InvalidValue(
            f"{who} needs the targets that the batch yielded, got shape {list(targets.shape)} where partners have "
            f"{list(partners.shape)}; pass the batch's own target to methods.loss"
        )
    own = coefficients.to(targets.dtype).view(-1, *[1] * (targets.ndim - 1))
    return targets * own + partners * (1.0 - own)


def unblended(batch: Batch, who: str) -> Tensor:
    """The targets of a batch that may be blended; raises Conflict for a second blend, InvalidValue without tensors."""
    if batch.mix is not None:
        raise Conflict(
            "examples are blended once, got a batch that is blended already; keep one blending method in the chain"
        )
    if not isinstance(batch.inputs, Tensor) or not isinstance(batch.targets, Tensor):
        raise InvalidValue(
            f"{who} blends tensors of inputs and targets, got {type(batch.inputs).__name__} and "
            f"{type(batch.targets).__name__}; let the loader yield both as tensors"
        )
    return batch.targets


def declare_mix(batch: Batch, mixed: Tensor, partners: Tensor, coefficient: float) -> Batch:
    """The batch with inputs `mixed`, whose blend c * own + (1 - c) * partner's (rows `partners`) `mix` declares."""
    coefficients = torch.full((len(batch),), coefficient, dtype=torch.float64, device=batch.targets.device)
    ids = None if batch.ids is None else batch.ids[partners.to(batch.ids.device)]
    mix = Mix(batch.targets[partners.to(batch.targets.device)], coefficients, ids)
    return Batch(mixed, batch.targets, batch.ids, batch.container, mix)


class Mixup(Method):
    """Blends every example with a random partner of its batch, and their targets in the same proportion.

    alpha: parameter of Beta(alpha, alpha), from which one coefficient a batch is drawn; 0 blends nothing, 1 draws it
    uniformly, larger values push it to one half. The blend is declared in `batch.mix`; the batch's own targets stay as
    they are and are blended when the loss is computed. In label maps a position counts that either of the two labels.
    Raises InvalidValue for alpha below 0 or infinite.
    """

    card = Card(
        title="Mixup",
        paper="Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization",
        year=2017,
        arxiv="1710.09412",
        phase="augment",
        cost="one pass over the inputs; the batch is permuted, so no second batch is loaded",
        breaks="hurts short runs, which underfit anyway; needs inputs whose blends mean something; "
        "records of blended examples are left out",
        domains=("vision", "audio", "tabular"),
    )
    revision = 2
    neutral: ClassVar = {"alpha": 0.0}
    example: ClassVar = {"alpha": 1.0}
    couples_examples = True

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = number(
            alpha, "alpha is a finite number from 0 (no blending) up", "0.2 is usual", 0, float("inf"), below=True
        )

    def augment(self, batch: Batch, context: Context) -> Batch:
        """Blended inputs, with partners and coefficients in `mix`."""
        if self.alpha == 0.0:
            return batch
        unblended(batch, "Mixup")
        draws = stream(context.seed, "Mixup", context.epoch, context.step, node=context.world[0])
        mixed, partners, coefficient = mix_examples(batch.inputs, self.alpha, draws)
        return declare_mix(batch, mixed, partners, coefficient)

    def targets(self, targets: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """Targets blended as the inputs were."""
        if batch.mix is None:
            return targets
        device = targets.device
        return mix_targets(targets, batch.mix.partners.to(device), batch.mix.coefficients.to(device), output)
