"""What every model factory checks before it builds anything."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import InvalidValue

SMALLEST = 4
"""Height and width from which the convolutional models work."""


def positive(what: str, value: object) -> int:
    """`value` as a whole number of at least 1. Raises InvalidValue for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidValue(f"{what} is a whole number of at least 1, got {value!r}; pass a positive int")
    return value


def image_shape(model: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, height, width) of a convolutional model. Raises InvalidValue for another shape or a side under 4."""
    shape = tuple(input_shape)
    if len(shape) != 3:
        raise InvalidValue(
            f"{model} takes inputs of shape (channels, height, width), got {shape}; "
            "use mlp for inputs without height and width"
        )
    channels, height, width = (positive(f"each part of {model}'s input_shape", n) for n in shape)
    if min(height, width) < SMALLEST:
        raise InvalidValue(
            f"{model} needs a height and width of at least {SMALLEST}, got {height} x {width}; use mlp or larger inputs"
        )
    return channels, height, width
