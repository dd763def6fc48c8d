"""Factorized layers: a weight matrix becomes the product of two of lower rank, begun at its best approximation."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import number, whole
from ._replace import mend_optimizer, replace_modules, warn_of_nothing

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def matrix_shape(layer: nn.Module) -> tuple[int, int] | None:
    """(rows, columns) of a layer's weights as a matrix: outputs, and inputs times kernel; None for what has no such form.

    Linear layers and convolutions without groups have it; subclasses have a forward, or a use of their weights, of
    their own.
    """
    if "weight" not in layer._parameters:
        return None  # weight norm of the old style and the like compute it
    if type(layer) is nn.Linear:
        return layer.out_features, layer.in_features
    if type(layer) in CONVOLUTIONS and layer.groups == 1:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        return weight.shape[0], weight[0].numel()
    return None


def factor_rank(shape: tuple[int, int], share: float) -> int:
    """The rank that is `share` of the one at which two factors have as many weights as the matrix; 0 if none saves any.

    That rank is rows * columns / (rows + columns). It is rounded down, but is at least 1.
    """
    rows, columns = shape
    rank = max(1, int(share * rows * columns / (rows + columns)))
    return rank if rank * (rows + columns) < rows * columns else 0


class Factorized(nn.Module):
    """up(down(x)) in place of a layer; `weight` and `bias` are those of the layer that it amounts to."""

    def __init__(self, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.down, self.up = down, up

    def forward(self, input: Tensor) -> Tensor:
        """What the layer of the product gives, of the same shape."""
        output: Tensor = self.up(self.down(input))
        return output

    @property
    def weight(self) -> Tensor:
        """The product of the two, shaped as the layer's weights; torch's short cuts for inference read it."""
        up, down = self.up.weight, self.down.weight
        assert isinstance(up, Tensor) and isinstance(down, Tensor)
        return (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        found = self.up.bias
        return found if isinstance(found, Tensor) else None


def factorize(layer: nn.Module, rank: int) -> Factorized:
    """Two layers whose product is the best approximation of `layer` of that rank; of full rank it is the layer.

    The weights are cut by their singular values, whose roots go to both sides. A convolution becomes one with `rank`
    outputs and the same kernel, stride and padding, then one with a kernel of 1. The layer is left as it is.
    Raises InvalidValue for a layer of another kind (`matrix_shape`) and for ranks beyond it.
    """
    shape = matrix_shape(layer)
    if shape is None:
        raise InvalidValue(
            f"nn.Linear and convolutions without groups have two factors, got {type(layer).__name__}; leave it whole"
        )
    if not 1 <= rank <= min(shape):
        raise InvalidValue(f"the rank of a {shape[0]} x {shape[1]} matrix is from 1 to {min(shape)}, got {rank!r}")
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter)
    wide = torch.promote_types(weight.dtype, torch.float32)
    left, values, right = torch.linalg.svd(weight.detach().flatten(1).to(wide), full_matrices=False)
    roots = values[:rank].sqrt()
    down, up = _empty_factors(layer, rank)
    with torch.no_grad():
        down.weight.copy_((roots[:, None] * right[:rank]).view_as(down.weight))
        up.weight.copy_((left[:, :rank] * roots).view_as(up.weight))
        for factor in (down, up):
            factor.weight.requires_grad_(weight.requires_grad)
        if isinstance(bias, nn.Parameter):
            up.bias.copy_(bias)
            up.bias.requires_grad_(bias.requires_grad)
    return Factorized(down, up)


def _empty_factors(layer: Any, rank: int) -> tuple[Any, Any]:
    place: dict[str, Any] = {"device": "meta", "dtype": layer.weight.dtype}
    biased, device = layer.bias is not None, layer.weight.device
    if isinstance(layer, nn.Linear):
        down: nn.Module = nn.Linear(layer.in_features, rank, bias=False, **place)
        up: nn.Module = nn.Linear(rank, layer.out_features, bias=biased, **place)
    else:
        down = type(layer)(
            layer.in_channels,
            rank,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            padding_mode=layer.padding_mode,
            bias=False,
            **place,
        )
        up = type(layer)(rank, layer.out_channels, 1, bias=biased, **place)
    return down.to_empty(device=device), up.to_empty(device=device)


def factorize_layers(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, share: float = 0.5, smallest: int = 64
) -> dict[str, str]:
    """Put two factors in the place of the model's linear layers and convolutions: {name: "Old -> Factorized (rank r)"}.

    share: of the rank at which nothing is saved (`factor_rank`). smallest: layers with a side of their matrix below it
    stay whole; so do those whose weights another module uses too. The optimizer gets the factors in the layers' place.
    """
    before = dict(model.named_parameters())
    uses = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    inside = {id(m) for found in model.modules() if isinstance(found, Factorized) for m in found.modules()}

    def make(name: str, module: nn.Module) -> nn.Module | None:
        shape = None if id(module) in inside else matrix_shape(module)
        if shape is None or min(shape) < smallest or uses[id(module.weight)] > 1:
            return None
        rank = factor_rank(shape, share)
        return factorize(module, rank) if rank else None

    done: dict[str, str] = {}
    for name, change in replace_modules(model, make).items():
        factors: Any = model.get_submodule(name)
        done[name] = f"{change} (rank {len(factors.down.weight)})"
    if optimizer is not None:
        mend_optimizer(optimizer, before, model)
    return done


class FactorizedLayers(Method):
    """Replaces linear layers and convolutions by products of two of lower rank (experimental).

    share: the rank, in (0, 1], as a share of the one at which the two factors have as many weights as the layer; small
    shares save most and change the model most, 1 leaves every layer as it is. smallest: layers whose outputs, or inputs
    times kernel, are fewer than this, from 1 up, stay whole.

    The factors begin at the best approximation of the layer's weights, so trained weights lose as little as possible.
    They stay at the end: the weights fit models that had `factorize_layers` only. Embeddings, convolutions with groups,
    subclasses of the layers (those inside nn.MultiheadAttention) and layers that share weights stay whole. Warns if no
    layer is large enough to save anything. Raises InvalidValue for values outside these ranges and layers with hooks,
    Conflict on a compiled model.
    """

    card = Card(
        title="Factorized layers",
        paper="Khodak, Tenenholtz, Mackey, Fusi: Initialization and Regularization of Factorized Neural Layers",
        year=2021,
        arxiv="2105.01029",
        phase="start",
        cost="the share of the multiplications of the layers that are replaced, in twice as many calls: a step of gpt on a "
        "CPU takes 0.78 (share=0.5) or 0.65 (0.25) of the time; a singular value decomposition a layer at the start",
        breaks="small layers, where two calls cost more than one; newly drawn weights, whose singular values "
        "are all alike, so that low rank loses much; weight decay on factors is not weight decay on their product",
        domains=("vision", "language"),
        references=("1405.3866",),
        experimental=True,
    )
    revision = 2
    neutral: ClassVar = {"share": 1.0}
    example: ClassVar = {"share": 0.6, "smallest": 1}
    changes_model = True
    single = True

    def __init__(self, share: float = 0.5, *, smallest: int = 64) -> None:
        self.share = number(share, "share of the rank is above 0 and up to 1", "0.5 is half", 0, 1, above=True)
        self.smallest = whole(smallest, "smallest is a whole number from 1", "64 leaves small layers whole", 1)
        self._report: dict[str, Any] = {}

    def start(self, context: Context) -> None:
        """Put the factors in."""
        self._report = {}
        if self.share == 1:
            return
        done = factorize_layers(context.model, context.optimizer, share=self.share, smallest=self.smallest)
        self._report = {"replaced": done}
        if not done and not any(isinstance(m, Factorized) for m in context.model.modules()):
            warn_of_nothing(
                "FactorizedLayers", f"layer of side {self.smallest} or more that two factors would make smaller"
            )

    def report(self) -> dict[str, Any]:
        """What was replaced, {"replaced": {name: "Old -> Factorized (rank r)"}}, until the run ends; {} before it."""
        return dict(self._report)

    def finish(self, context: Context) -> None:
        """Forget the report; the model stays as it is."""
        self._report = {}
