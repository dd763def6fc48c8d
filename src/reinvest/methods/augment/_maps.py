"""Targets as large as the pictures: what cuts or shifts a picture does the same to its label map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue


def has_maps(batch: Batch, who: str) -> bool:
    """Whether targets are maps [B, ..., H, W] of the pictures' size; `who` asks, for the message.

    Raises InvalidValue for inputs that are no pictures [B, C, H, W], and for maps of another size.
    """
    x, targets = batch.images(who), batch.targets
    if not isinstance(targets, Tensor) or targets.ndim < 3:
        return False
    if targets.shape[-2:] != x.shape[-2:]:
        raise InvalidValue(
            f"{who} changes label maps as it changes pictures, got maps {list(targets.shape)} for pictures "
            f"{list(x.shape)}; resize the maps to the size of the pictures"
        )
    return True


def change_all(batch: Batch, change: Callable[[Tensor], Tensor], who: str) -> Batch:
    """The batch with `change` made to the pictures [B, C, H, W] and alike to label maps [B, ..., H, W].

    Maps of blended partners are changed too, so that they still lie on the picture; maps are marked as moved. Raises as `has_maps` does.
    """
    maps = has_maps(batch, who)
    changed = batch.with_inputs(change(batch.inputs))
    if not maps:
        return changed
    mix = batch.mix
    if mix is not None:
        mix = replace(mix, partners=change(mix.partners))
    return replace(changed, targets=change(batch.targets), mix=mix, moved=True)
