"""MemorySavingActivations: what the backward pass of an activation needs, and no more, is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import InvalidValue, LoopError
from ...core.method import Card, Context, Method
from .._check import switch
from ._classes import Changed, change_modules, changed_class, restore_modules
from ._replace import warn_of_nothing

DERIVATIVES = ("same", "bf16", "8bit")
LEVELS, ZERO = 200, 27
"""8-bit derivatives are (code - 27) / 200, from -0.135 to 1.14: 0 and 1 are exact, anything else within 0.0025."""
GATHER = 0x0102040810204080
SPREAD = 0x0101010101010101
SELECT = 0x8040201008040201 - (1 << 64)


def pack_bits(mask: Tensor) -> Tensor:
    """A bool tensor of any shape as uint8 [ceil(numel / 8)], eight values a byte, in order."""
    flat = mask.reshape(-1).view(torch.uint8)
    if flat.numel() % 8:
        flat = F.pad(flat, (0, -flat.numel() % 8))
    # One product brings the lowest bits of eight bytes side by side into the highest byte.
    return ((flat.view(torch.int64) * GATHER) >> 56).to(torch.uint8)


def unpack_bits(bits: Tensor, shape: torch.Size) -> Tensor:
    """The bool tensor of this shape that `pack_bits` packed."""
    spread = (bits.to(torch.int64) * SPREAD).bitwise_and_(SELECT).view(torch.uint8)
    return (spread[: shape.numel()] != 0).view(shape)


def saved_bytes(call: Callable[[], Any], known: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps for the backward pass of what `call` computes; each storage counts once.

    known: parameters, inputs and whatever else is there anyway; their storages do not count.
    """
    skipped = {t.untyped_storage().data_ptr() for t in known}
    found: dict[int, int] = {}
    alive = []  # so that no address is given away twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skipped:
            found[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alive.append(call())
    return sum(found.values())


class OneBit(torch.autograd.Function):
    """y, whose derivative is 1 where mask, else slope; one bit an entry is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str, slope: float) -> Tensor:
        """kind: "relu", "relu6" or "leaky_relu"."""
        # As torch's own kernels have it at NaN and at the corners.
        if kind == "leaky_relu":
            y, mask = F.leaky_relu(x, slope), x > 0
        elif kind == "relu6":
            y, mask = F.relu6(x), ((x <= 0) | (x >= 6)).logical_not_()
        else:
            y, mask = F.relu(x), (x <= 0).logical_not_()
        ctx.save_for_backward(pack_bits(mask))
        ctx.shape, ctx.slope = x.shape, slope if kind == "leaky_relu" else None
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """grad where the bit is set, slope * grad elsewhere."""
        (bits,), (grad,) = ctx.saved_tensors, grads
        # Where the gradient is not finite, 0 * grad is not 0: torch multiplies for LeakyReLU and for no other.
        other = grad.new_zeros(()) if ctx.slope is None else grad * ctx.slope
        return torch.where(unpack_bits(bits, ctx.shape), grad, other), None, None


class SavedDerivative(torch.autograd.Function):
    """GELU or SiLU, with the derivative saved in place of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str, approximate: str, precision: str) -> Tensor:
        """kind: "gelu" (approximate: "none" or "tanh") or "silu"; precision: one of `DERIVATIVES`."""
        wide = x if precision == "same" or x.dtype == torch.float64 else x.float()
        one = wide.new_ones(()).expand_as(wide)
        if kind == "gelu":
            y, s = F.gelu(x, approximate=approximate), torch.ops.aten.gelu_backward(one, wide, approximate=approximate)
        else:
            y, s = F.silu(x), torch.ops.aten.silu_backward(one, wide)
        if precision == "8bit":
            s = s.mul(LEVELS).add_(ZERO).round_().to(torch.uint8)
        elif precision == "bf16":
            s = s.to(torch.bfloat16)
        ctx.save_for_backward(s)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """grad * f'(x); raises LoopError with create_graph=True, because nothing is left of f''(x)."""
        # once_differentiable lets this pass wherever the gradient that comes in is a constant.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise LoopError(
                "a saved derivative serves one backward pass, got one with create_graph=True; "
                "pass derivative=None to MemorySavingActivations"
            )
        (s,), (grad,) = ctx.saved_tensors, grads
        if s.dtype == torch.uint8:
            s = s.to(grad.dtype).sub_(ZERO).div_(LEVELS)
        return grad * s.to(grad.dtype), None, None, None


ONE_BIT: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.ReLU6: "relu6", nn.LeakyReLU: "leaky_relu"}


class OneBitActivation(Changed):
    """ReLU, ReLU6 or LeakyReLU that keeps one bit an entry."""

    def forward(self, input: Tensor) -> Tensor:
        """The activation."""
        if not (input.requires_grad and torch.is_grad_enabled() and input.is_floating_point()):
            plain: Tensor = super().forward(input)
            return plain
        kind = next(name for plain, name in ONE_BIT.items() if isinstance(self, plain))
        found: Tensor = OneBit.apply(input, kind, getattr(self, "negative_slope", 0.0))  # type: ignore[no-untyped-call]
        return found


class DerivativeActivation(Changed):
    """GELU or SiLU that keeps its derivative."""

    own = ("saved_precision",)
    saved_precision: str

    def forward(self, input: Tensor) -> Tensor:
        """The activation."""
        if not (input.requires_grad and torch.is_grad_enabled()):
            plain: Tensor = super().forward(input)
            return plain
        kind = "gelu" if isinstance(self, nn.GELU) else "silu"
        approximate = getattr(self, "approximate", "none")
        found: Tensor = SavedDerivative.apply(input, kind, approximate, self.saved_precision)  # type: ignore[no-untyped-call]
        return found


def save_less(model: nn.Module, *, one_bit: bool = True, derivative: str | None = "8bit") -> dict[str, str]:
    """Let activation modules of the model keep less for their backward pass, in place: {name: "Old -> New"}.

    Subclasses, and modules that work in place (they keep nothing of their own), are left alone.
    """
    bits = tuple(ONE_BIT) if one_bit else ()
    smooth = (nn.GELU, nn.SiLU) if derivative is not None else ()

    def found(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
        return type(module) in kinds and not getattr(module, "inplace", False)

    def choose_bits(_: str, module: nn.Module) -> type[Changed] | None:
        return changed_class(type(module), OneBitActivation, "OneBit") if found(module, bits) else None

    def choose_smooth(_: str, module: nn.Module) -> type[Changed] | None:
        return changed_class(type(module), DerivativeActivation, "Derivative") if found(module, smooth) else None

    done = change_modules(model, choose_bits)
    return done | change_modules(model, choose_smooth, saved_precision=derivative)


def save_as_before(model: nn.Module) -> int:
    """Undo `save_less`; returns how many activations there were."""
    return restore_modules(model, OneBitActivation) + restore_modules(model, DerivativeActivation)


class MemorySavingActivations(Method):
    """Activations keep one bit or their derivative for the backward pass, in place of a whole tensor.

    one_bit: ReLU, ReLU6 and LeakyReLU keep one bit an entry; outputs and gradients are torch's own, bit for bit
    (but for ReLU6 of NaN, where torch's own gradient depends on the place in memory).
    derivative: GELU and SiLU keep f'(x) in place of x: "8bit" as a byte (0 and 1 exact, else within 0.0025, rounded to
    nearest), "bf16" within 2^-8 of its size, "same" in the precision of x, which saves nothing against torch's own
    GELU (it keeps x, of the same size); None leaves them alone. Outputs are torch's own. False and None change nothing.

    Whether it pays depends on the neighbours: torch's ReLU keeps its output, which a following matrix product or
    convolution keeps anyway, so the bits come on top there; ReLU before dropout, a sum or a mean, and all others, which
    keep their input, gain. `functional.saved_bytes` counts. Only modules are found (torch.nn.GELU), no functions
    (torch.nn.functional.gelu), and none that works in place; under torch.compile the compiler chooses what is kept.
    A backward pass that is itself differentiated is refused for derivatives. At the end the modules are plain again;
    `report()` tells until then what was replaced. Warns if the model has no such module; raises InvalidValue for
    values outside these ranges, Conflict on a compiled model.
    """

    card = Card(
        title="Memory-saving activations (saved derivative, one-bit ReLU)",
        paper="Guo, Qiu, Leng, Zhang, Cao, Zhang, Liu, Yang, Guo: Nesting Forward Automatic Differentiation for "
        "Memory-Efficient Deep Neural Network Training; fewer bits: Novikov et al., Few-Bit Backward (2202.00441)",
        year=2022,
        arxiv="2209.10778",
        phase="start",
        cost="slower, not faster: some passes more over each activation (about 1.04 of an MLP's step on a CPU); buys room "
        "for larger batches",
        breaks="ReLU before a convolution or matrix product keeps more, not less; written-out activations and "
        "functions are not found; 8-bit derivatives add an error of up to 0.0025 times the gradient",
        domains=("vision", "language", "tabular", "audio"),
        references=("2202.00441",),
    )
    revision = 2
    neutral: ClassVar = {"one_bit": False, "derivative": None}
    example: ClassVar = {}
    changes_model = True
    surgery_order = 1
    single = True

    def __init__(self, one_bit: bool = True, derivative: str | None = "8bit") -> None:
        self.one_bit = switch(one_bit, "one_bit")
        if derivative is not None and derivative not in DERIVATIVES:
            raise InvalidValue(
                f"derivative is None or one of {', '.join(map(repr, DERIVATIVES))}, got {derivative!r}; choose one of them"
            )
        self.derivative = derivative
        self._replaced: dict[str, str] = {}

    def start(self, context: Context) -> None:
        """Replace the activations."""
        self._replaced = save_less(context.model, one_bit=self.one_bit, derivative=self.derivative)
        if not self._replaced and (self.one_bit or self.derivative is not None):
            warn_of_nothing(self.name, "activation module that does not work in place")

    def report(self) -> dict[str, Any]:
        """replaced: {name: "Old -> New"}, until the run ends."""
        return {"replaced": dict(self._replaced)}

    def finish(self, context: Context) -> None:
        """Give the modules their own class back."""
        save_as_before(context.model)
        self._replaced = {}
