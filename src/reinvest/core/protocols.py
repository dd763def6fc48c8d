"""What the layers promise each other: a Task gives data and a metric, a Recorder keeps what a run leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .errors import InvalidValue

if TYPE_CHECKING:
    from torch import Tensor

    from .batch import Batch
    from .method import Context


class Loader(Protocol):
    """One epoch of batches (ids [B] int64, inputs [B, ...], targets [B, ...]); `len` counts the whole epoch."""

    indexed: bool
    examples: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]: ...


@runtime_checkable
class Task(Protocol):
    """Data, loss and metric. `fingerprint` covers data and split, so that altered data is another task."""

    name: str
    metric: str
    higher_is_better: bool
    classes: int
    input_shape: tuple[int, ...]
    fingerprint: str
    test_examples: int

    def loader(self, split: str, batch_size: int, *, seed: int = 0, epoch: int = 0, start: int = 0) -> Loader:
        """Batches of "train" (order and views drawn from seed and epoch), "validation" or "test" (fixed order).

        A task that can replay takes views=(seed, epoch) too: then the views are drawn from these, the order is not, and
        the loader says so in an attribute `views`.
        """
        ...

    def criterion(self, output: Tensor, target: Tensor) -> Tensor:
        """Losses [B] (or [B, T], [B, H, W], reduced by the chain)."""
        ...

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """The metric of each example [B]; the metric of a split is the mean."""
        ...


class Recorder(Protocol):
    """Receives what a chain sees. The chain finds it in `current_recorder`, so own loops need no extra argument."""

    @property
    def observing(self) -> bool:
        """Whether `observe` keeps anything; if not, the chain does not call it."""
        ...

    def begin(self, about: dict[str, Any]) -> None:
        """Training starts: duration, total_steps, steps_per_epoch, epochs, examples, methods, seed, device (plain values).

        about["where"] is a callable: {"step", "epoch", "seconds"} of the training at the moment of the call;
        about["view"] is the TaskView; about["draws"] is a callable: (seed, epoch) of the draws behind the views of the
        present epoch, None where the loader does not say; about["reuse"] lists {"run", "how"} of the earlier runs that
        methods build on.
        """
        ...

    def observe(
        self, epoch: int, ids: Tensor, losses: Tensor, output: Tensor, targets: Tensor, valid: Tensor | None
    ) -> None:
        """One batch: ids [B], raw losses [B] against the original targets, output and targets as the loop has them.

        output: [B, C], or dense [B, C, T], [B, T, C], [B, C, H, W]; `valid` [B] marks the rows to keep.
        """
        ...

    def end(self, about: dict[str, Any]) -> None:
        """Training stops: steps done, what the clock says, and what was "used" besides time (`energy.Used.plain`).

        about["findings"], where methods found something, lists {"method": name, "found": tensors and plain values, nested}.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; part of a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        ...


class Teacher(Protocol):
    """What a student learns from: an earlier run through its records or its weights, or any model.

    run: its id ("" for a model that is no run). how: "records", "views", "clean pass" or "forward". seconds: what opening it
    cost this run once. looks: whether each call costs a forward pass. centred: whether it gives log-probabilities, so
    that it knows logits only up to a constant per row. stride: it knows every stride-th pixel in both directions (1: all). draws: (seed, epoch) behind the
    views that it speaks of in the student's epochs, in turn; () if it speaks of no view in particular.
    """

    run: str
    how: str
    seconds: float
    looks: bool
    centred: bool
    stride: int
    draws: Sequence[tuple[int, int]]

    def __call__(self, batch: Batch, context: Context) -> tuple[Tensor, Tensor | None]:
        """(logits [B, C, ...], known [B] or [B, ...] or None for all) of the batch's examples, without a gradient."""
        ...

    def close(self) -> None:
        """Leave the teacher as it was found."""
        ...


current_recorder: ContextVar[Recorder | None] = ContextVar("current_recorder", default=None)
"""The run being recorded in this context; `store.record(...)` and `train` set it, `Methods.attach` reads it."""

current_runs: ContextVar[Callable[[str], Any] | None] = ContextVar("current_runs", default=None)
"""Finds a run by id; a store sets it while it records (`store.record`) and where it lends its runs (`store.lending`)."""


def find_run(reference: Any, who: str) -> Any:
    """The run that a method was given: a Run as it is, an id through the store in use.

    Raises InvalidValue for an id outside any store, and what the store raises for one that it does not hold.
    """
    if not isinstance(reference, str):
        return reference
    find = current_runs.get()
    if find is None:
        raise InvalidValue(
            f"{who} looks its run up in the store that records the loop, got {reference!r} and no store; "
            "pass the Run itself, or attach inside 'with store.record(...)' (or 'with store.lending()')"
        )
    return find(reference)


IDENTITY_VARIABLE = "REINVEST_IDENTITY"
"""Environment variable through which a comparison tells a command or callable which run it is expected to record."""
