"""Which tensors of a model are averaged."""

from __future__ import annotations

from torch import Tensor, nn


def averaged_tensors(model: nn.Module) -> list[Tensor]:
    """Floating parameters and buffers, in the model's order; not buffers that hold an infinity or NaN, such as masks:
    the mean of two infinities is none, and what is constant needs none."""
    buffers = [b for b in model.buffers() if b.is_floating_point() and bool(b.isfinite().all())]
    return [*(p for p in model.parameters() if p.is_floating_point()), *buffers]
