"""Gated linear units: the hidden units of a transformer's perceptrons are products of two projections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import stream
from .._check import whole
from ._replace import mend_optimizer, replace_modules, warn_of_nothing

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}
"""In the paper's words GEGLU, SwiGLU, ReGLU, GLU and bilinear."""
PLACES = (
    ("expand", "activation", "shrink"),
    ("linear1", "activation", "linear2"),
    ("fc1", "act", "fc2"),
    ("fc1", "activation_fn", "fc2"),
    ("lin1", "activation", "lin2"),
)
"""What the two layers of a perceptron and the function between them are called: here, in torch, timm and elsewhere."""


def gated_width(width: int, multiple: int = 8) -> int:
    """Hidden units of a gated perceptron with as many weights as one of `width`: the multiple nearest to 2/3 of it.

    In the middle between two multiples it is the larger one, and never less than `multiple`.
    """
    return max(1, (4 * width + 3 * multiple) // (6 * multiple)) * multiple


class Gate(nn.Module):
    """[..., 2 * k] -> [..., k]: a function of the first half, times the second."""

    def __init__(self, gate: str) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """The gated units."""
        opened, value = x.chunk(2, -1)
        return GATES[self.gate](opened) * value

    def extra_repr(self) -> str:
        """The function's name."""
        return self.gate


def _perceptrons(model: nn.Module) -> Iterator[tuple[str, nn.Module, tuple[str, str, str]]]:
    """(name, module, names of its two layers and of the function between them)."""
    for name, module in model.named_modules():
        if isinstance(getattr(module, "norm", None), nn.Module) and not isinstance(module.norm, nn.Identity):
            continue  # a norm between the two layers knows their width
        for place in PLACES:
            first, function, second = (getattr(module, part, None) for part in place)
            # Subclasses have a forward, or a use of their weights, of their own.
            if not (type(first) is nn.Linear and type(second) is nn.Linear and callable(function)):
                continue
            if first.out_features == second.in_features:
                yield name, module, place
                break


def _drawn(old: nn.Linear, inputs: int, outputs: int, seed: int, name: str) -> nn.Linear:
    """A layer of another size with normal weights and biases that scatter as those of the old one do."""
    new = nn.Linear(inputs, outputs, bias=old.bias is not None, device="meta").to_empty(device="cpu")
    for part, parameter in new.named_parameters():
        like = getattr(old, part)
        draws = stream(seed, f"GatedLinearUnits.{name}.{part}", 0).normal(parameter.numel()).view_as(parameter)
        with torch.no_grad():
            parameter.copy_(draws * float(like.detach().double().std(correction=0)))
        parameter.requires_grad_(like.requires_grad)
    return new


def gate_perceptrons(
    model: nn.Module,
    seed: int,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    gate: str = "gelu",
    multiple: int = 8,
) -> dict[str, str]:
    """Make the perceptrons of the model's transformer layers gated, in place: {name: "old -> new"}.

    A perceptron is a module with two nn.Linear and a function between them under one of the names in `PLACES`. Its
    first layer gets 2 * `gated_width` outputs, its second as many inputs as half of that; their weights are drawn anew
    from (seed, name), normal with the deviation that the old ones have (zeros stay zeros), and take the old ones' place
    in the optimizer. Layers that share weights with others stay as they are.
    """
    before = dict(model.named_parameters())
    made: dict[str, nn.Module] = {}
    done: dict[str, str] = {}
    uses = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)

    def own(module: nn.Module, places: tuple[str, str, str]) -> bool:
        held = [p for part in (places[0], places[2]) for p in getattr(module, part).parameters()]
        return not isinstance(getattr(module, places[1]), Gate) and all(uses[id(p)] == 1 for p in held)

    found = [(n, m, places) for n, m, places in _perceptrons(model) if own(m, places)]
    for name, module, (first, _, second) in found:
        prefix = f"{name}." if name else ""
        expand, shrink = getattr(module, first), getattr(module, second)
        width = gated_width(expand.out_features, multiple)
        made[prefix + first] = _drawn(expand, expand.in_features, 2 * width, seed, prefix + first)
        made[prefix + second] = _drawn(shrink, width, shrink.out_features, seed, prefix + second)
        done[name] = f"{expand.out_features} hidden units -> {width} gated ({gate})"
    replace_modules(model, lambda name, module: made.get(name))
    for _, module, (_, function, _) in found:
        # It may be a plain function, or a module that is used elsewhere too: only this place changes.
        setattr(module, function, Gate(gate).train(module.training))
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # its short cut for inference would compute relu or gelu itself
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and any(isinstance(m, Gate) for m in module.modules()):
            module.use_nested_tensor = False  # which the short cut alone can read
    if optimizer is not None:
        mend_optimizer(optimizer, before, model)
    return done


class GatedLinearUnits(Method):
    """Makes the perceptrons of transformer layers gated: gate(x A) * (x B) takes the place of the function of x A.

    gate: "gelu" (GEGLU), "silu" (SwiGLU), "relu" (ReGLU), "sigmoid" (GLU) or "identity" (bilinear); None changes
    nothing. multiple: the number of gated units is the multiple of it, from 1 up, nearest to 2/3 of the hidden units
    that there were, so that weights and work stay the same but for that rounding: 1 is exact to a unit, 8 suits the
    matrix units of GPUs, and is at most 4 units off.

    The new layers are drawn anew with the deviation of the old ones: begin with it, a trained model loses what its
    perceptrons knew. They stay at the end, so the weights fit models that had `gate_perceptrons` only. Works on gpt,
    bert and bert_classifier, on nn.TransformerEncoderLayer and nn.TransformerDecoderLayer, and on modules that call
    their parts as timm and other libraries do (`PLACES`); perceptrons that share weights stay as they are. Warns if the model has none of them. Raises InvalidValue for
    values outside these ranges and layers with hooks, Conflict on a compiled model.
    """

    card = Card(
        title="Gated linear units (GEGLU, SwiGLU, ...)",
        paper="Shazeer: GLU Variants Improve Transformer",
        year=2020,
        arxiv="2002.05202",
        phase="start",
        cost="as many weights and multiplications as before but for rounding, and a pass over the hidden units for the "
        "product: 5 to 7 per cent of a step of gpt on a CPU, 16 with multiple=1",
        breaks="weights that were trained before; hidden units too few for the rounding (multiple=1 then)",
        domains=("language", "vision"),
        found="mixed, 1.00 times as fast to equal quality (0.947 to 1.06): books by bytes, gpt of width 64, 200 "
        "to 1,600 steps (claims/gated_linear_units.json); the paper finds lower perplexity at equal steps",
    )
    revision = 2
    neutral: ClassVar = {"gate": None}
    example: ClassVar = {"multiple": 1}
    changes_model = True
    single = True

    def __init__(self, gate: str | None = "gelu", *, multiple: int = 8) -> None:
        if gate is not None and gate not in GATES:
            raise InvalidValue(
                f"gate is one of {', '.join(map(repr, GATES))} or None, got {gate!r}; choose one of them"
            )
        self.gate = gate
        self.multiple = whole(multiple, "multiple is a whole number from 1", "8 suits GPUs", 1)
        self._report: dict[str, Any] = {}

    def start(self, context: Context) -> None:
        """Put the gated layers in."""
        self._report = {}
        if self.gate is None:
            return
        done = gate_perceptrons(context.model, context.seed, context.optimizer, gate=self.gate, multiple=self.multiple)
        self._report = {"replaced": done}
        if not done and not any(isinstance(m, Gate) for m in context.model.modules()):
            warn_of_nothing(
                "GatedLinearUnits", "perceptron of a transformer layer (two nn.Linear with a function between)"
            )

    def report(self) -> dict[str, Any]:
        """What was replaced, {"replaced": {name: "old -> new"}}, until the run ends; {} before it."""
        return dict(self._report)

    def finish(self, context: Context) -> None:
        """Forget the report; the model stays as it is."""
        self._report = {}
