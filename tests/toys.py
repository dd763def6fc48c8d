"""Small methods, models and loops for the tests of the chain: one method a phase, each visible in the weights."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reinvest.core.batch import Batch
from reinvest.core.method import Card, Context, Method
from reinvest.core.protocols import current_recorder
from reinvest.core.streams import example_uniform, stream


def card(phase: str, conflicts: tuple[str, ...] = ()) -> Card:
    return Card(
        title="toy",
        paper="none: a test",
        year=2020,
        arxiv="none",
        phase=phase,
        cost="none",
        breaks="nothing",
        domains=("any",),
        conflicts=conflicts,
    )


class Keep(Method):
    """select: the first `count` examples."""

    card = card("select")

    def __init__(self, count: int = 5) -> None:
        self.count = count

    def select(self, batch: Batch, context: Context) -> Batch:
        return batch.take(slice(0, self.count))


class Shift(Method):
    """augment: inputs move by a draw of the example's own."""

    card = card("augment")
    needs_ids = True

    def __init__(self, amount: float = 0.1) -> None:
        self.amount = amount

    def augment(self, batch: Batch, context: Context) -> Batch:
        draws = example_uniform(context.seed, "shift", context.epoch, batch.need_ids("Shift"))
        shape = (-1,) + (1,) * (batch.inputs.dim() - 1)
        return batch.with_inputs(batch.inputs + self.amount * draws.view(shape).to(batch.inputs.dtype))


class Jitter(Method):
    """augment: inputs are scaled by one draw a batch."""

    card = card("augment")

    def augment(self, batch: Batch, context: Context) -> Batch:
        return batch.with_inputs(
            batch.inputs * (1 + stream(context.seed, "jitter", context.epoch, context.step).number())
        )


class Rotate(Method):
    """augment: each example is averaged with the next one of its (virtual) batch."""

    card = card("augment")
    couples_examples = True

    def augment(self, batch: Batch, context: Context) -> Batch:
        return batch.with_inputs((batch.inputs + batch.inputs.roll(1, 0)) / 2)


class Smooth(Method):
    """targets: class numbers [B] become probabilities [B, C]."""

    card = card("targets")

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = alpha

    def targets(self, targets: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        classes = output.shape[1]
        return F.one_hot(targets, classes).to(output.dtype) * (1 - self.alpha) + self.alpha / classes


class Weigh(Method):
    """losses: multiplied by one plus the id modulo 3."""

    card = card("losses")
    needs_ids = True

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        assert losses.dim() == 1 and len(losses) == len(output)
        return losses * (1 + batch.need_ids("Weigh") % 3)


class Shrink(Method):
    """gradients: halved; keeps what it saw."""

    card = card("gradients")

    def start(self, context: Context) -> None:
        self.seen: list[list[Tensor]] = []

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        parameters = [p for p in context.model.parameters() if p.grad is not None]
        self.seen.append([p.grad.clone() for p in parameters if p.grad is not None])
        for p in parameters:
            p.grad *= 0.5
        return True


class Refuse(Method):
    """gradients: skips every second step."""

    card = card("gradients")

    def start(self, context: Context) -> None:
        self.calls = 0

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        self.calls += 1
        return self.calls % 2 == 1

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]


class Decay(Method):
    """weights: pulled towards their running average, which is state."""

    card = card("weights")

    def start(self, context: Context) -> None:
        self.average = [p.detach().clone() for p in context.model.parameters()]
        self.steps: list[int] = []

    def weights(self, context: Context) -> None:
        self.steps.append(context.step)
        with torch.no_grad():
            for a, p in zip(self.average, context.model.parameters(), strict=True):
                a.lerp_(p, 0.5)
                p.lerp_(a, 0.1)

    def state_dict(self) -> dict[str, Any]:
        return {"average": [a.clone() for a in self.average], "steps": list(self.steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average, self.steps = [a.clone() for a in state["average"]], list(state["steps"])


class Climb(Method):
    """gradients: those at w + rho * g, as sharpness-aware minimisation does."""

    card = card("gradients")
    needs_closure = True

    def __init__(self, rho: float = 0.1) -> None:
        self.rho = rho

    def start(self, context: Context) -> None:
        self.repeats = 0

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        assert again is not None
        parameters = [p for p in context.model.parameters() if p.grad is not None]
        if not all(bool(p.grad.isfinite().all()) for p in parameters if p.grad is not None):
            return False
        kept = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p in parameters:
                p += self.rho * p.grad  # type: ignore[operator]
        again()
        self.repeats += 1
        with torch.no_grad():
            for p, old in zip(parameters, kept, strict=True):
                p.copy_(old)
        return True


class Surgery(Method):
    """start: every ReLU becomes a Tanh."""

    card = card("start")
    changes_model = True

    def start(self, context: Context) -> None:
        for parent in context.model.modules():
            for name, child in parent.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(parent, name, nn.Tanh())


class Sleeper(Method):
    """weights: sleeps on every fifth step, and may say so."""

    card = card("weights")

    def __init__(self, seconds: float = 0.01, every: int = 5, declared: bool = False) -> None:
        self.seconds, self.every, self.declared = seconds, every, declared

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        import time

        if context.step % self.every == 0:
            time.sleep(self.seconds)
        return True

    def kind(self, context: Context) -> Hashable:
        return context.step % self.every == 0 if self.declared else None


class Spy(Method):
    """Acts in all phases, changes nothing and writes down who was called."""

    card = card("select")

    def __init__(self, log: list[str], name: str = "spy") -> None:
        self.log, self.label = log, name

    def write(self, phase: str) -> None:
        self.log.append(f"{self.label}.{phase}")

    def start(self, context: Context) -> None:
        self.write("start")

    def select(self, batch: Batch, context: Context) -> Batch:
        self.write("select")
        return batch

    def augment(self, batch: Batch, context: Context) -> Batch:
        self.write("augment")
        return batch

    def targets(self, targets: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        self.write("targets")
        return targets

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        self.write("losses")
        return losses

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        self.write("gradients")
        return True

    def weights(self, context: Context) -> None:
        self.write(f"weights {context.step}")

    def finish(self, context: Context) -> None:
        self.write("finish")


class Notebook:
    """A recorder that keeps what it is told, by id."""

    observing = True

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []
        self.rows: list[tuple[int, Tensor, Tensor, Tensor, Tensor, Tensor | None]] = []

    def begin(self, about: dict[str, Any]) -> None:
        self.begun.append(about)

    def observe(
        self, epoch: int, ids: Tensor, losses: Tensor, output: Tensor, targets: Tensor, valid: Tensor | None
    ) -> None:
        assert not losses.requires_grad and not output.requires_grad
        kept = None if valid is None else valid.clone()
        self.rows.append((epoch, ids.clone(), losses.clone(), output.clone(), targets.clone(), kept))

    def end(self, about: dict[str, Any]) -> None:
        self.ended.append(about)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": len(self.rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loaded = state

    def __enter__(self) -> Notebook:
        self.token = current_recorder.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        current_recorder.reset(self.token)


def take(batch: Batch, **changes: Any) -> Batch:
    return replace(batch, **changes)
