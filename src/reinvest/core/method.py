"""What a method is: a small class that overrides the phases in which it acts.

    call      phase       in -> out                       members
    attach    start       context                         surgery, copies, freezing
    batches   select      batch -> smaller batch          selective backprop, curricula, subsets
              augment     batch -> batch                  Mixup, Cutout, resizing, masking
    loss      targets     targets -> targets              label smoothing, label correction
              losses      losses [B] -> losses [B]        distillation, reweighting
    step      gradients   -                               clipping, SAM (with `again`), sparsity
              weights     -                               EMA, SWA, masks, freezing on schedule

A phase takes values and returns values, so there is nothing to restore afterwards. README.md beside this file says why.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .batch import Batch
from .errors import InvalidValue
from .view import TaskView

PHASES = ("select", "augment", "targets", "losses", "gradients", "weights")


@dataclass(slots=True)
class Context:
    """What a method may know of the training it is part of; `progress` and `device` are derived.

    task says what the loader told of its data, and the loss. step counts finished optimizer steps, 0 .. total_steps; epoch counts from 0; world is (virtual node, virtual nodes),
    which is (rank, ranks) unless the chain was given more nodes than there are processes.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    task: TaskView
    step: int
    total_steps: int
    steps_per_epoch: int
    epoch: int
    seed: int
    world: tuple[int, int]

    @property
    def criterion(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss, per example."""
        return self.task.criterion

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0.0 (nothing) to 1.0 (all steps)."""
        return self.step / self.total_steps if self.total_steps else 0.0

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter lives (the CPU for a model without parameters)."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class Card:
    """The source of a method and what a user should know before taking it.

    cost is the expected cost per step relative to plain training, in words; breaks says when the method fails;
    experimental: little independent evidence, so it is not counted among the methods that are recommended to be tried.
    found: what the comparisons in claims/ found, and how that differs from the source; "" where there is none.
    """

    title: str
    paper: str
    year: int
    arxiv: str  # "1512.03385", or "none" with the reason in `paper`
    phase: str
    cost: str
    breaks: str
    domains: tuple[str, ...]
    conflicts: tuple[str, ...] = ()
    references: tuple[str, ...] = field(default=())
    experimental: bool = False
    found: str = ""


class Method:
    """Base of all methods. Constructor arguments are plain values, so that a recipe can hold them.

    A subclass keeps what it needs while running in attributes set by `start`, and clears them in `finish`.
    """

    card: ClassVar[Card]
    revision: ClassVar[int] = 1
    """Raised whenever the code changes what the method computes; part of a recipe's identity."""
    neutral: ClassVar[dict[str, Any]]
    """Arguments with which the method changes nothing, bit for bit."""
    example: ClassVar[dict[str, Any]] = {}
    """Arguments that make the method act visibly in a short run; the contract tests use them."""
    needs_closure: ClassVar[bool] = False
    needs_ids: ClassVar[bool] = False
    couples_examples: ClassVar[bool] = False
    """Whether an example's treatment depends on which others share its batch."""
    uneven: ClassVar[bool] = False
    """Whether `select` may keep unlike numbers of examples on unlike processes; their means are then weighted by them."""
    changes_model: ClassVar[bool] = False
    """Whether `start` replaces modules (surgery); refused on a compiled model."""
    surgery_order: ClassVar[int] = 0
    """Among methods that change the model: 0 puts other modules in, 1 gives modules another class, 2 wraps what the others
    left; a method looks for plain modules, so lower ones start first."""
    after_surgery: ClassVar[bool] = False
    """Whether `start` goes by the model's parameters as surgery leaves them, wherever the method is listed."""
    single: ClassVar[bool] = False
    """Whether a chain holds at most one of it."""
    horizon: bool = False
    """Whether what it does or keeps depends on how long the run is, so that a short run is not the beginning of a longer
    one; of the class, or set by the constructor where it hangs on the arguments."""
    diagnostic: ClassVar[bool] = False
    """Whether it only watches, so that all its arguments change nothing: no efficiency method, and not counted as one."""
    arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Method:
        self = super().__new__(cls)
        signature = inspect.signature(cls)
        try:
            bound = signature.bind_partial(*args, **kwargs).arguments
        except TypeError as error:
            known = ", ".join(signature.parameters) or "none"
            raise InvalidValue(
                f"{cls.__name__} takes the arguments: {known}; got one it does not know ({error})"
            ) from None
        self.arguments = {
            name: plain_argument(value)
            for name, value in bound.items()
            if not _same(value, signature.parameters[name].default)
        }
        return self

    def start(self, context: Context) -> None:
        """Training begins: copy, replace or freeze what is needed; reset all running state."""

    def select(self, batch: Batch, context: Context) -> Batch:
        """Keep some examples of the batch."""
        return batch

    def augment(self, batch: Batch, context: Context) -> Batch:
        """Change inputs; blended examples are declared in `batch.mix`."""
        return batch

    def targets(self, targets: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """Change targets [B, ...]; output [B, C, ...] tells the number of classes, and nothing else should be read from it."""
        return targets

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """Change the losses [B]; they are averaged last."""
        return losses

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Change gradients in place; `again` (with needs_closure) repeats forward and backward. False skips the step."""
        return True

    def weights(self, context: Context) -> None:
        """After the optimizer's step, with `context.step` already counted."""

    def views(self, context: Context, epoch: int) -> tuple[int, int] | None:
        """(seed, epoch) of the draws whose views the loader must show in this epoch; None for the loop's own."""
        return None

    def findings(self) -> dict[str, Any]:
        """What it found, for the run's folder: tensors and plain values, nested; asked when training ends. {}: nothing."""
        return {}

    def finish(self, context: Context) -> None:
        """Training ends: leave no hook, buffer or flag behind."""

    def kind(self, context: Context) -> Hashable:
        """What kind of step comes next, if steps differ in cost (an image size, "second pass"); None if they do not."""
        return None

    def averages(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs (model tensor, averaged value) that evaluation should use in place of the model's own values."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Running state (tensors and plain values) that a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; called after `start`."""

    def reuses(self) -> list[tuple[str, str]]:
        """The earlier runs that it builds on: (id, how), such as ("3f2a...", "records")."""
        return []

    def factories(self) -> list[str]:
        """References "package.module:name" among the arguments, whose source is part of a recipe's identity."""
        return []

    def one_off(self) -> float:
        """Seconds that `start` cost this run beyond its steps (loading, a scoring pass); asked after it, and charged."""
        return 0.0

    @property
    def name(self) -> str:
        """The class name."""
        return type(self).__name__

    def spec(self) -> dict[str, Any]:
        """Plain values from which the method can be built again: its name and the arguments that are not defaults."""
        cls = type(self)
        inside = cls.__module__.partition(".")[0] == __package__.partition(".")[0]
        return {"name": cls.__name__ if inside else f"{cls.__module__}:{cls.__name__}", **self.arguments}

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"


def plain_argument(value: Any) -> Any:
    """A constructor argument as a recipe holds it: plain values as they are, a run as its id, anything else as "<Type>"."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain_argument(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_argument(v) for v in value]
    known = getattr(value, "id", None)
    return known if isinstance(known, str) and hasattr(value, "status") else f"<{type(value).__name__}>"


def _same(value: Any, default: Any) -> bool:
    return value is default or (
        type(value) is type(default) and not isinstance(value, Tensor) and bool(value == default)
    )


def overrides(method: Method, phase: str) -> bool:
    """Whether the method acts in `phase`."""
    return getattr(type(method), phase) is not getattr(Method, phase)


def phases_of(method: Method) -> list[str]:
    """The phases in which the method acts, in the order of a step; "start" first for surgery and where there is no other."""
    found = [phase for phase in PHASES if overrides(method, phase)]
    return ["start", *found] if method.changes_model else found or ["start"]


def starting_place(method: Method) -> tuple[int, int]:
    """What methods are sorted by before they start, whatever the order of the list.

    What changes the model comes first (an average begins at the weights it leaves), then what goes by its parameters. A
    warm start stays where it is listed among the replacements: weights of a plain net are loaded before it is factorized.
    """
    if phases_of(method)[0] != "start":
        return (2, 0)
    return (1, 0) if method.after_surgery else (0, method.surgery_order)
