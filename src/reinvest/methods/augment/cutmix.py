"""CutMix: a box of every picture comes from another picture of the batch, and so does that share of the target."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch, Mix
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import Stream, stream
from .._check import number
from ._maps import has_maps
from .mixup import declare_mix, draw_coefficient, mix_targets, unblended

Box = tuple[int, int, int, int]


def box_around(centre: tuple[int, int], share: float, size: tuple[int, int]) -> Box:
    """The box of `share` of a picture's area around a pixel, clipped at the border: top, bottom, left, right.

    share in [0, 1]: both sides are sqrt(share) of the picture's, rounded to whole pixels. A side of n pixels begins
    n // 2 before the centre; bottom and right are the first pixels outside.
    """
    edges = []
    for at, side in zip(centre, size, strict=True):
        pixels = math.floor(side * math.sqrt(share) + 0.5)
        first = at - pixels // 2
        edges += [max(0, first), min(side, first + pixels)]
    return edges[0], edges[1], edges[2], edges[3]


def draw_box(size: tuple[int, int], alpha: float, draws: Stream) -> Box:
    """A box for pictures of `size`: area 1 - c with c ~ Beta(alpha, alpha), centre uniform over all pixels.

    Raises InvalidValue for alpha not above 0.
    """
    coefficient = draw_coefficient(alpha, draws)
    row, column = (math.floor(draws.number() * side) for side in size)
    return box_around((row, column), 1.0 - coefficient, size)


def own_share(box: Box, size: tuple[int, int]) -> float:
    """The share of the pixels that lies outside the box: what is left of a picture's own."""
    top, bottom, left, right = box
    return 1.0 - (bottom - top) * (right - left) / (size[0] * size[1])


def paste_box(x: Tensor, partners: Tensor, box: Box) -> Tensor:
    """x [B, ..., H, W] with the pixels inside the box taken from rows `partners` (int64 [B]); x stays as it was.

    Works on pictures and on label maps of any type. Raises InvalidValue for a box that does not lie inside.
    """
    top, bottom, left, right = box
    if not (0 <= top <= bottom <= x.shape[-2] and 0 <= left <= right <= x.shape[-1]):
        raise InvalidValue(f"a box lies inside the picture, got {box} of {list(x.shape[-2:])}; clip it at the border")
    pasted = x.clone()
    pasted[..., top:bottom, left:right] = x[..., top:bottom, left:right].index_select(0, partners.to(x.device))
    return pasted


class CutMix(Method):
    """Pastes a box of a random partner into every picture and gives the partner that share of the target.

    alpha: parameter of Beta(alpha, alpha), from which the area is drawn, one box a batch; 0 pastes nothing, 1 draws the
    area uniformly, larger values push it to one half. A box at the border is clipped, and the share of the target is
    that of the pixels really pasted. The blend is declared in `batch.mix`. Label maps [B, H, W] are cut and pasted with
    the pictures, pixel by pixel, and not blended. Raises InvalidValue for alpha below 0 or infinite, for inputs that
    are no floating pictures and for maps of another size, Conflict for examples that are blended already.
    """

    card = Card(
        title="CutMix",
        paper="Yun, Han, Oh, Chun, Choe, Yoo: CutMix: Regularization Strategy to Train Strong Classifiers with "
        "Localizable Features",
        year=2019,
        arxiv="1905.04899",
        phase="augment",
        cost="one copy of the inputs; the batch is permuted, so no second batch is loaded",
        breaks="hurts short runs, which underfit anyway; the box may miss what the partner's label is about; records "
        "of blended examples are left out",
        domains=("vision",),
        conflicts=("Mixup",),
        found="worse, 0.568 times as fast to equal quality (0.526 to 0.610): CIFAR-10 at 16x16 pixels, ResNet-8, "
        "3 to 24 epochs (claims/cutmix.json); the paper's gain is in runs of 300 epochs",
    )
    neutral: ClassVar = {"alpha": 0.0}
    example: ClassVar = {"alpha": 1.0}
    couples_examples = True

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(
            alpha, "alpha is a finite number from 0 (no pasting) up", "1.0 is usual", 0, math.inf, below=True
        )

    def augment(self, batch: Batch, context: Context) -> Batch:
        """Pictures with a partner's box, with partners and coefficients in `mix`."""
        if self.alpha == 0.0:
            return batch
        targets, maps = unblended(batch, "CutMix"), has_maps(batch, "CutMix")
        x = batch.inputs
        size = (int(x.shape[-2]), int(x.shape[-1]))
        draws = stream(context.seed, "CutMix", context.epoch, context.step, node=context.world[0])
        partners = draws.permutation(len(x)).to(x.device)
        box = draw_box(size, self.alpha, draws)
        mixed, coefficient = paste_box(x, partners, box), own_share(box, size)
        if not maps:
            return declare_mix(batch, mixed, partners, coefficient)
        pasted = paste_box(targets, partners, box)
        # Both sides of the blend are the pasted map: its targets are final. What is kept of single pictures (records)
        # cannot be blended by a share, so no ids are given and whoever looks them up refuses.
        coefficients = torch.full((len(x),), coefficient, dtype=torch.float64, device=targets.device)
        return Batch(mixed, pasted, batch.ids, batch.container, Mix(pasted, coefficients))

    def targets(self, targets: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """Targets blended by the share of pixels; label maps are pasted already."""
        if batch.mix is None or batch.mix.partners.ndim > 2:
            return targets
        device = targets.device
        partners, coefficients = batch.mix.partners.to(device), batch.mix.coefficients.to(device)
        return mix_targets(targets, partners, coefficients, output, "CutMix")
