"""A multi-layer perceptron on flattened inputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from ...core.errors import InvalidValue
from ._checks import positive


class MLP(nn.Module):
    """Linear layers with ReLU between them; the input [B, ...] is flattened to [B, inputs]."""

    def __init__(self, inputs: int, classes: int, *, hidden: Sequence[int] = (128,)) -> None:
        super().__init__()
        self.inputs = inputs
        sizes = [inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]. Raises InvalidValue for examples of another number of values than it was built for."""
        flat = x.flatten(1)
        if flat.shape[1] != self.inputs:
            raise InvalidValue(
                f"this mlp was built for {self.inputs} values an example, got {flat.shape[1]} "
                f"(inputs {tuple(x.shape[1:])}); with methods that change "
                "the input's size use a model with global pooling, such as convnet"
            )
        logits: Tensor = self.layers(flat)
        return logits


def mlp(*, input_shape: Sequence[int], classes: int, hidden: Sequence[int] = (128,)) -> MLP:
    """An MLP for inputs of any shape.

    hidden: width of each hidden layer, none or more (an empty list is a linear model).
    Raises InvalidValue for sizes that are not positive whole numbers.
    """
    if isinstance(hidden, int | str):
        raise InvalidValue(f"hidden is a list of layer widths, got {hidden!r}; write it as a list, such as [128]")
    widths = [positive("each width in hidden", n) for n in hidden]
    inputs = math.prod(positive("each part of mlp's input_shape", n) for n in input_shape)
    return MLP(inputs, positive("classes", classes), hidden=widths)
