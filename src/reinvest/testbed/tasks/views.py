"""What a model sees of a row: random crop and flip of a whole batch at once out of a padded set, and scaling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.errors import InvalidValue
from ...core.streams import example_integers


def draw_views(seed: int, epoch: int, ids: Tensor, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """What crop-flip does to examples `ids` [B] in an epoch: rows down, columns right, flipped, each [B].

    Offsets are int64 in 0..2 * pad, where `pad` is the picture unmoved; flipped is bool. An example's view depends on
    seed, epoch and its id alone, so it can be drawn again for any set of examples.
    """
    side = 2 * pad + 1
    drawn = example_integers(seed, "crop-flip", epoch, ids, 2 * side * side)[:, 0]
    place = drawn >> 1
    return place // side, place % side, (drawn & 1).bool()


def windows(x: Tensor, pad: int) -> Tensor:
    """Every crop of every picture as a view of the zero-padded set: [N, C, H, W] -> [N, 2 pad + 1, 2 pad + 1, C, H, W].

    Memory is that of the padded set, N * C * (H + 2 pad) * (W + 2 pad) values; rows of a crop stay contiguous.
    """
    height, width = x.shape[-2:]
    padded = F.pad(x, (pad, pad, pad, pad))
    return padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)


def crop_flip(views: Tensor, rows: Tensor, down: Tensor, right: Tensor, flipped: Tensor) -> Tensor:
    """The chosen crop of each row, half of them mirrored: [B, C, H, W], a copy of the set's own type."""
    x = crops(views, rows, down, right)
    mirrored = flipped.nonzero().flatten()
    # Mirror those rows alone, append them, and pick each row from where it now is: whole-row copies are the fastest.
    place = torch.arange(len(x), device=x.device)
    place[mirrored] = torch.arange(len(x), len(x) + len(mirrored), device=x.device)
    return torch.cat([x, x.index_select(0, mirrored).flip(-1)]).index_select(0, place)


def crops(views: Tensor, rows: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """The chosen crop of each row, [B, C, H, W], a copy of the set's own type."""
    if views.device.type != "cpu":
        return views[rows, down, right]
    # On the host numpy copies whole lines of a picture, torch single values: twice the time.
    return torch.from_numpy(views.numpy()[rows.numpy(), down.numpy(), right.numpy()]).contiguous()


def scaling(x: Tensor, mean: Tensor | None, std: Tensor | None) -> tuple[Tensor, Tensor]:
    """(shift, factor) such that (float32(x) - shift) * factor is the input; both broadcast over x [N, C, ...].

    uint8 counts as 0..255 for 0..1, so mean and std are in units of 0..1; other types are in the data's own units.
    """
    unit = 255.0 if x.dtype == torch.uint8 else 1.0
    channels = (1, x.shape[1]) + (1,) * (x.dim() - 2)
    shift = torch.zeros(1) if mean is None else mean * unit
    factor = torch.ones(1) / unit if std is None else 1.0 / (std * unit)
    return shift.expand(x.shape[1]).reshape(channels).contiguous(), factor.expand(x.shape[1]).reshape(
        channels
    ).contiguous()


def described(x: Tensor, mean: Tensor | None, std: Tensor | None, before: str = "") -> str:
    """What a model sees of rows x [N, ...], in words: what was done `before`, shape, unit, mean and std."""
    shape = "x".join(str(n) for n in x.shape[1:])
    parts = [before] if before else []
    parts.append(f"inputs {shape}" + (" of bytes / 255" if x.dtype == torch.uint8 else ""))
    for what, values in (("mean", mean), ("std", std)):
        if values is not None:
            parts.append(f"{what} {' '.join(f'{v:.6g}' for v in values.tolist())}")
    return ", ".join(parts)


def check_classes(classes: int) -> int:
    """`classes` as a whole number of at least 2. Raises InvalidValue for anything else."""
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 2:
        raise InvalidValue(f"classes is a whole number of at least 2, got {classes!r}; pass the number of classes")
    return classes


def per_channel(what: str, values: Sequence[float] | float | None, channels: int) -> Tensor | None:
    """`values` ("mean" or "std") as one number or one a channel. Raises InvalidValue for other counts or numbers."""
    if values is None:
        return None
    found = torch.as_tensor(values, dtype=torch.float32).flatten()
    right = len(found) in (1, channels) and bool(found.isfinite().all()) and (what == "mean" or bool((found > 0).all()))
    if not right:
        rule = "finite numbers" if what == "mean" else "numbers above 0"
        raise InvalidValue(
            f"{what} is one or {channels} {rule} (one a channel), got {values!r}; pass as many as there are channels"
        )
    return found
