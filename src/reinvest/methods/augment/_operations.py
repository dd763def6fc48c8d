"""Operations on pictures for RandAugment and AugMix: whole groups of a batch at once, on tensors.

Operations are defined on values from 0 (darkest) to 1 (lightest). Inputs are normalised floats, so their range is needed:
`bounds` takes what the user says, or looks at the first training examples of the task.

Strengths lie in [-1, 1]; 0 changes nothing, except in auto_contrast and equalize, which have no strength.

    auto_contrast   each channel stretched to 0..1
    equalize        each channel's histogram of 256 values made even
    rotate          by 30 degrees x strength about the middle
    solarize        values from 1 - |strength| up inverted
    posterize       the 8 - round(4 |strength|) leading bits of 8 kept
    color, contrast, brightness, sharpness   factor 1 + 0.9 x strength against grey, mean grey, black, smoothed
    shear_x, shear_y                         0.3 x strength, about the middle
    translate_x, translate_y                 0.45 x strength of the width, the height

Geometric operations take the nearest pixel, and one half (grey) where there is none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue
from ...core.method import Context
from ._maps import has_maps

Operation = Callable[[Tensor, Tensor], Tensor]
GREY = 0.5
DEGREES, SHEAR, SHIFT, ENHANCE = 30.0, 0.3, 0.45, 0.9
LOOKED_AT = 512
"""Training examples whose smallest and largest values are taken as the range."""
RANGE = (
    "value_range is [low, high], the smallest and largest value an input can have, numbers or one a channel, low < high"
)


# ---- values --------------------------------------------------------------------------------------------------------


def _blend(u: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    return torch.lerp(other, u, 1.0 + ENHANCE * strength[:, None, None, None]).clamp_(0.0, 1.0)


def _grey(u: Tensor) -> Tensor:
    """Brightness [n, 1, H, W]: the usual weights of red, green and blue, equal ones for other channels."""
    if u.shape[1] != 3:
        return u.mean(1, keepdim=True)
    return 0.299 * u[:, :1] + 0.587 * u[:, 1:2] + 0.114 * u[:, 2:]


def _smooth(u: Tensor) -> Tensor:
    """The mean of the 3 x 3 pixels around each one, the middle counted five times; the border stays."""
    if min(u.shape[2:]) < 3:
        return u
    rows = u[:, :, :-2] + u[:, :, 1:-1] + u[:, :, 2:]
    inner = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4.0 * u[:, :, 1:-1, 1:-1]) / 13.0
    smooth = u.clone()
    smooth[:, :, 1:-1, 1:-1] = inner
    return smooth


def _identity(u: Tensor, strength: Tensor) -> Tensor:
    return u


def _color(u: Tensor, strength: Tensor) -> Tensor:
    return _blend(u, _grey(u).expand_as(u), strength)


def _contrast(u: Tensor, strength: Tensor) -> Tensor:
    return _blend(u, _grey(u).mean((1, 2, 3), keepdim=True).expand_as(u), strength)


def _brightness(u: Tensor, strength: Tensor) -> Tensor:
    return _blend(u, torch.zeros_like(u), strength)


def _sharpness(u: Tensor, strength: Tensor) -> Tensor:
    return _blend(u, _smooth(u), strength)


def _solarize(u: Tensor, strength: Tensor) -> Tensor:
    share = strength.abs()[:, None, None, None]
    return torch.where((u >= 1.0 - share) & (share > 0), 1.0 - u, u)


def _posterize(u: Tensor, strength: Tensor) -> Tensor:
    dropped = torch.floor(4.0 * strength.abs() + 0.5)[:, None, None, None]
    unit = torch.exp2(dropped)
    kept = torch.floor(torch.round(u * 255.0) / unit) * unit / 255.0
    return torch.where(dropped > 0, kept, u)


def _auto_contrast(u: Tensor, strength: Tensor) -> Tensor:
    low, high = u.amin((2, 3), keepdim=True), u.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (u - low) / torch.where(span > 0, span, 1.0), u)


def _equalize(u: Tensor, strength: Tensor) -> Tensor:
    values = torch.round(u * 255.0).long().flatten(2)
    counts = torch.zeros(*u.shape[:2], 256, dtype=torch.int64, device=u.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    total = values.shape[2]
    last = counts.gather(2, values.amax(2, keepdim=True))
    step = (total - last) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    even = table.gather(2, values).view(u.shape).to(u.dtype) / 255.0
    return torch.where(step.unsqueeze(3) > 0, even, u)


# ---- places --------------------------------------------------------------------------------------------------------


def move_pixels(u: Tensor, matrix: tuple[Tensor, Tensor, Tensor, Tensor], shift: tuple[Tensor, Tensor]) -> Tensor:
    """Pictures [n, C, H, W] in which pixel (x, y), counted from the middle, is that at matrix (x, y) + shift.

    matrix: (xx, xy, yx, yy), shift: (x, y) in pixels, each [n]. The nearest pixel is taken, grey where there is none.
    """
    height, width = u.shape[2:]
    down = torch.arange(height, device=u.device).view(1, -1, 1) - (height - 1) / 2
    across = torch.arange(width, device=u.device).view(1, 1, -1) - (width - 1) / 2
    xx, xy, yx, yy, right, below = (v.view(-1, 1, 1) for v in (*matrix, *shift))
    column = torch.floor(xx * across + xy * down + right + width / 2).long()
    row = torch.floor(yx * across + yy * down + below + height / 2).long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    places = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)
    moved = u.flatten(2).gather(2, places.unsqueeze(1).expand(-1, u.shape[1], -1)).view(u.shape)
    return torch.where(inside.unsqueeze(1), moved, GREY)


def _rotate(u: Tensor, strength: Tensor) -> Tensor:
    angle, none = strength * math.radians(DEGREES), torch.zeros_like(strength)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return move_pixels(u, (cos, -sin, sin, cos), (none, none))


def _affine(xy: float, yx: float, right: float, below: float) -> Operation:
    def apply(u: Tensor, strength: Tensor) -> Tensor:
        one = torch.ones_like(strength)
        matrix = (one, xy * strength, yx * strength, one)
        return move_pixels(u, matrix, (right * u.shape[3] * strength, below * u.shape[2] * strength))

    return apply


GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _color,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _affine(SHEAR, 0.0, 0.0, 0.0),
    "shear_y": _affine(0.0, SHEAR, 0.0, 0.0),
    "translate_x": _affine(0.0, 0.0, SHIFT, 0.0),
    "translate_y": _affine(0.0, 0.0, 0.0, SHIFT),
}


def operate(
    x: Tensor,
    names: Sequence[str],
    choices: Tensor,
    strengths: Tensor,
    low: Tensor,
    high: Tensor,
    grouped: bool | None = None,
) -> Tensor:
    """One operation for each picture of x [B, C, H, W]; x stays as it was.

    choices: numbers in `names`, int64 [B]; strengths in [-1, 1], float [B]; low, high: the range of the values, [C] or
    [1]. grouped: each operation sees only its own pictures, the default on a CPU; elsewhere counting them would stop the
    device, so it sees all and its own are taken. Raises InvalidValue for a range of another number of channels.
    """
    if len(low) not in (1, x.shape[1]):
        raise InvalidValue(
            f"a range has one number or {x.shape[1]}, one a channel, got {len(low)}; pass as many as there are channels"
        )
    if grouped is None:
        grouped = x.device.type == "cpu"
    choices, strengths = choices.to(x.device), strengths.to(x.device, torch.float32)
    low, span = low.view(1, -1, 1, 1), (high - low).view(1, -1, 1, 1)

    def changed(name: str, part: Tensor, strength: Tensor) -> Tensor:
        unit = ((part.float() - low) / span).clamp_(0.0, 1.0)
        return (OPERATIONS[name](unit, strength) * span + low).to(x.dtype)

    out = x.clone()
    for number, name in enumerate(names):
        if name == "identity":
            continue
        chosen = choices == number
        if not grouped:
            out = torch.where(chosen[:, None, None, None], changed(name, x, strengths), out)
            continue
        rows = chosen.nonzero().flatten()
        if len(rows):
            out[rows] = changed(name, x[rows], strengths[rows])
    return out


# ---- the range of the values ---------------------------------------------------------------------------------------


def check_range(value: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """`value_range` as (low, high) with a number a channel or one for all; None stays. Raises InvalidValue."""
    if value is None:
        return None
    try:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        edges = [[float(v) for v in (edge if isinstance(edge, (list, tuple)) else [edge])] for edge in value]
        count = max(map(len, edges))
        low, high = (tuple(edge * count if len(edge) == 1 else edge) for edge in edges)
        right = len(low) == len(high) > 0 and all(
            a < b and math.isfinite(b - a) for a, b in zip(low, high, strict=True)
        )
    except (TypeError, ValueError):
        right = False
    if not right:
        raise InvalidValue(f"{RANGE}, got {value!r}; [0.0, 1.0] is right for pictures that are not normalised")
    return low, high


def bounds(
    value_range: tuple[tuple[float, ...], tuple[float, ...]] | None, context: Context, who: str
) -> tuple[Tensor, Tensor, float]:
    """(low, high) each [C] or [1] on the host, and the seconds it took to look at the data, if it did.

    Raises InvalidValue where the range is not given and the loader does not offer its examples.
    """
    if value_range is not None:
        low, high = (torch.tensor(edge) for edge in value_range)
        return low, high, 0.0
    if context.task.clean is None:
        raise InvalidValue(
            f"{who} needs the range of the input values and the loader offers no examples to look at, got "
            "value_range=None; pass value_range=[low, high], with mean m and deviation s of pictures in 0..1: "
            "[-m / s, (1 - m) / s], one number a channel"
        )
    begun = time.perf_counter()
    found = [x.float() for _, x, _ in islice(context.task.clean(64), LOOKED_AT // 64)]
    x = torch.cat(found)
    if x.ndim != 4:
        raise InvalidValue(f"{who} works on floating images [B, C, H, W], got {list(x.shape)}; leave the method out")
    low, high = x.amin((0, 2, 3)).cpu(), x.amax((0, 2, 3)).cpu()
    return low, torch.where(high > low, high, low + 1.0), time.perf_counter() - begun


def beside(edges: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The range where the pictures are; the same tensors if it is there already."""
    low, high = edges
    return (low, high) if low.device == x.device else (low.to(x.device), high.to(x.device))


def refuse_maps(batch: Batch, geometry: bool, who: str) -> None:
    """Raises InvalidValue where pictures would move under label maps, and for inputs that are no pictures."""
    if has_maps(batch, who) and geometry:
        raise InvalidValue(
            f"{who} moves pixels and what is kept of each labelled pixel stays, got label maps "
            f"{list(batch.targets.shape)}; pass geometry=False, which leaves out {', '.join(GEOMETRIC)}"
        )
