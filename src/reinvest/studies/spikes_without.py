"""A spike's stretch of training made again with some examples left out: does it need them?"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidValue
from ..core.method import Context
from ..core.spikes import THRESHOLD
from ..dynamics.spike_findings import SpikeFinding, signal_z
from .spikes import AFTER, first_difference, replayable, same_threads, train_again

__all__ = ["Without", "replay_without"]

BEFORE = 10
"""Steps before a spike from which on examples are left out."""
SIGNALS = ("loss", "gradient_norm")


@dataclass(frozen=True)
class Without:
    """What came of training up to step `until` again without some examples.

    start: the spike. ids: the examples left out, from step `begin` on; steps: those whose batch held one of them. batches:
    steps whose whole batch was passed over, so that the next one took its place. before, after: the highest z of loss or
    gradient norm in the spike, and without them from the first of `steps` on (None where no step has a z). same_bits: whether every
    signal before the first change was the same bit for bit; differs: the first step where not.
    """

    start: int
    ids: tuple[int, ...]
    steps: tuple[int, ...]
    batches: tuple[int, ...]
    begin: int
    until: int
    before: float
    after: float | None
    threshold: float
    same_bits: bool
    differs: int | None
    seed: int

    @property
    def verdict(self) -> str:
        """ "vanishes": no step passes the threshold; "smaller": one does, with less than half the z; else "returns"."""
        if self.after is None or self.after <= self.threshold:
            return "vanishes"
        return "smaller" if self.after < self.before / 2 else "returns"

    @property
    def text(self) -> str:
        """One paragraph."""
        says = {
            "vanishes": "the spike vanishes",
            "smaller": "the spike is smaller",
            "returns": "the spike returns",
        }[self.verdict]
        means = {
            "vanishes": "it needs them",
            "smaller": "they are part of it",
            "returns": "it does not need them",
        }[self.verdict]
        exact = (
            f"Before that, every loss and gradient norm was the same bit for bit: {means}."
            if self.same_bits
            else f"Before that, losses or gradient norms differ from step {self.differs:,} on (other code, another machine, other "
            "libraries or threads), so that more has changed than what was left out."
        )
        return (
            f"Trained again with seed {self.seed} up to step {self.until:,} without {self._them()}, {says}: how sudden its "
            "steps are, the smaller z of a value and of its ratio to the last ten, is at most "
            f"{_z(self.after)} in place of {_z(self.before)} (threshold {self.threshold:g}). {exact}"
        )

    def _them(self) -> str:
        if self.batches:
            return f"the batch of step {', '.join(f'{step:,}' for step in self.batches)}"
        named = f"example {self.ids[0]}" if len(self.ids) == 1 else f"{len(self.ids)} examples"
        which = ", ".join(f"{step:,}" for step in self.steps[:BEFORE]) + (", ..." if len(self.steps) > BEFORE else "")
        return f"{named} (in {'step' if len(self.steps) == 1 else 'steps'} {which})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, None for what is not finite."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        ends = {
            name: None if values[name] is None or math.isinf(values[name]) else values[name]
            for name in ("before", "after")
        }
        return {**plain, **ends, "verdict": self.verdict, "text": self.text}


class _Leaving:
    """A loader whose batches lack examples `ids` from step `begin` on, or are passed over at the steps `batches`."""

    def __init__(self, ids: Sequence[int], batches: Sequence[int], begin: int) -> None:
        self.ids, self.batches, self.begin = torch.tensor(sorted(ids)), set(batches), begin
        self.steps: list[int] = []
        self.passed = 0

    def __call__(self, loader: Any, context: Context) -> Any:
        """The loader of an epoch."""
        return _Fewer(loader, self, context)

    def kept(self, ids: Tensor, context: Context) -> Tensor | None:
        """Rows of a batch that stay; None where all do."""
        planned = context.step + self.passed
        if planned in self.batches:
            self.batches.discard(planned)
            self.passed += 1
            self.steps.append(planned)
            return torch.zeros(0, dtype=torch.int64)
        if planned < self.begin:
            return None
        out = torch.isin(ids.cpu(), self.ids)
        if not bool(out.any()):
            return None
        self.steps.append(planned)
        self.passed += bool(out.all())
        return (~out).nonzero()[:, 0]


class _Fewer:
    def __init__(self, loader: Any, leaving: _Leaving, context: Context) -> None:
        self._loader, self._leaving, self._context = loader, leaving, context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for ids, x, y in self._loader:
            rows = self._leaving.kept(ids, self._context)
            if rows is None:
                yield ids, x, y
            elif len(rows):
                yield tuple(part[rows.to(part.device)] for part in (ids, x, y))


def replay_without(
    run: Any,
    spike: SpikeFinding,
    ids: Sequence[int] | None,
    *,
    store: Any = None,
    threshold: float = THRESHOLD,
    device: str | None = None,
) -> Without:
    """Train a run's recipe again with its own seed until this spike is over, with examples left out around it.

    ids: examples that are left out of every batch from 10 steps before the spike on; None passes over the whole batch, that
    of the spike's first step, or of the step before it where the update of that one is to blame. Nothing is stored.
    Raises InvalidValue for ids that are no whole numbers from 0 up, or in no batch of that stretch, and as `replay_spikes`
    does.
    """
    recipe, found = replayable(run)
    leaving = _leaving(spike, ids)
    facts = run.facts.get("hardware", {})
    until = min(len(found["loss"]), spike.end + AFTER + 1)
    with contextlib.nullcontext() if store is None else store.lending(), same_threads(facts.get("threads")):
        # Steps of batches that are passed over are not made.
        made = until - len(leaving.batches)
        steps = run.training["total_steps"]
        own, _ = train_again(recipe, run.seed, steps, made, device or facts.get("kind", "cpu"), through=leaving)
    if not leaving.steps:
        raise InvalidValue(
            f"examples are left out where they are, in the batches of steps {leaving.begin:,} to {until - 1:,}, got "
            f"{sorted(ids or ())[:BEFORE]} in none of them; take some of {spike.ids.tolist()[:BEFORE]}, which the spike's first batch held"
        )
    first = min(leaving.steps)
    differs = first_difference(found, own, first)
    return Without(
        start=spike.start,
        ids=tuple(sorted(set(ids or ()))),
        steps=tuple(leaving.steps),
        batches=tuple(leaving.steps) if ids is None else (),
        begin=leaving.begin,
        until=until,
        before=_highest(found, spike.start, spike.end + 1) or math.inf,
        after=_highest(own, first, until),
        threshold=threshold,
        same_bits=differs is None,
        differs=differs,
        seed=run.seed,
    )


def _leaving(spike: SpikeFinding, ids: Sequence[int] | None) -> _Leaving:
    begin = max(0, spike.start - BEFORE)
    if ids is None:
        step = max(0, spike.start - 1) if spike.cause == "update" else spike.start
        return _Leaving((), (step,), begin)
    if not ids:
        raise InvalidValue("examples are left out by their ids, at least one, got none; name some of the spike's batch")
    for one in ids:
        if not isinstance(one, int) or isinstance(one, bool) or one < 0:
            raise InvalidValue(
                f"ids of examples are whole numbers from 0 up, got {one!r}; name some of the spike's batch"
            )
    return _Leaving(ids, (), begin)


def _highest(found: dict[str, Any], start: int, stop: int) -> float | None:
    """The highest z of loss and gradient norm from step `start` to before `stop`; None where none has one."""
    z = torch.stack([signal_z(found, name)[start:stop] for name in SIGNALS])
    known = z[~z.isnan()]
    return float(known.max()) if len(known) else None


def _z(value: float | None) -> str:
    return "not known" if value is None else "infinite" if math.isinf(value) else f"{value:.1f}"
