"""GraNd: the length of each example's own loss gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ..core.criterion import cross_entropy
from ..core.errors import InvalidValue

__all__ = ["grand"]


def grand(model: nn.Module, x: Tensor, y: Tensor, *, chunk: int = 64) -> Tensor:
    """L2 norm of the gradient of each example's cross-entropy over all trainable weights: float32 [B], from 0 up.

    model: gives logits [B, C]; it is looked at in evaluation mode, where examples do not mix, and left as it was. x
    [B, ...]; y int64 [B]. chunk: examples at once; memory grows with chunk x weights. The score of the paper is the mean
    over several models a few epochs into training (2107.07075). At initialisation it follows the length of the inputs
    and finds nothing (replication: 2303.14753); early in training EL2N orders the examples alike for one forward pass.
    Raises InvalidValue for labels of another kind or number, a chunk below 1, and a model without trainable weights.
    """
    if y.ndim != 1 or y.is_floating_point() or len(y) != len(x):
        raise InvalidValue(
            f"labels are one class an example, int64 [{len(x)}], got {y.dtype} {list(y.shape)}; soft labels have no GraNd here"
        )
    if not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 1:
        raise InvalidValue(f"chunk is a number of examples from 1 up, got {chunk!r}; 64 is usual")
    trainable = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise InvalidValue(f"a gradient is over trainable weights, got none in {type(model).__name__}; unfreeze some")
    rest = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    rest |= {name: b.detach() for name, b in model.named_buffers()}

    def loss(weights: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        output = functional_call(model, {**weights, **rest}, (one.unsqueeze(0),))
        return cross_entropy(output, label.unsqueeze(0)).squeeze(0)

    single = vmap(grad(loss), in_dims=(None, 0, 0), randomness="error")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        found = []
        for a, b in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True):
            parts = single(trainable, a, b)
            squares = [part.flatten(1).double().square().sum(1) for part in parts.values()]
            found.append(torch.stack(squares).sum(0).sqrt().float())
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat(found) if found else x.new_zeros(0, dtype=torch.float32)
