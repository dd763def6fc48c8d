"""A watch for sudden rises of loss and gradient norm, which keeps what lay around them and changes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.spikes import APART, FIRST, RECENT, THRESHOLD, WINDOW, seen_z
from .._check import number, whole

LEAST_AROUND = 12
"""Steps before a spike without which the layers have no usual norm to be compared with."""
LOSS, GRADIENT = 0, 1
_FULL = (torch.float32, torch.float64)


def measure_norms(tensors: Sequence[Tensor | None]) -> Tensor:
    """The 2-norm of each tensor of any shape, float32 [P] on the first one's device; 0 for None (no gradient)."""
    known = [t if t.layout == torch.strided else t.coalesce().values() for t in tensors if t is not None]
    if not known:
        return torch.zeros(len(tensors))
    if all(t.dtype in _FULL for t in known):
        found = torch._foreach_norm(known)
    else:
        # A norm in half precision would have few digits, and overflow.
        known = [t.float() if t.dtype == torch.float64 else t for t in known]
        found = torch._foreach_norm(known, 2, dtype=torch.float32)
    device = known[0].device
    norms = iter([n.to(device, torch.float32) for n in found])
    if len(known) == len(tensors):
        return torch.stack(list(norms))
    none = torch.zeros((), device=device)
    return torch.stack([none if t is None else next(norms) for t in tensors])


class SpikeWatch(Method):
    """Watches loss and gradient norm of every step, and keeps what lay around sudden rises; training stays as it is.

    A step belongs to a spike where the robust z of its loss or gradient norm is above the threshold: the distance from the
    median of the `window` steps before, in units of 1.4826 times their median absolute deviation; and the same for the
    logarithm over the median of the last 10 steps, since both vary by factors. The first 30 steps have none. Kept are the loss (the
    mean of what the `losses` phase gives at the watch's place in the list) and the joint gradient norm of each step, as it
    comes to the watch; and for the steps around the first one of each spike ids and losses of the batch, and for
    each parameter the norms of gradient, update and weights. They go into the run's folder, `reinvest spikes RUN` reads them.

    threshold: robust z, above 0; a low one keeps windows around much that is ordinary, inf keeps none. window: steps, from
    8 up; below 30 ordinary steps pass 6 now and then, and many steps remember a level that is past. around: steps kept
    before and after, from 12 up; few tell less surely what is usual for a layer. check: steps between looks, from
    1 up; each waits for the device. most: windows kept, the highest, from 1 up. Raises InvalidValue for values outside
    these ranges.
    """

    card = Card(
        title="Watch for loss spikes",
        paper="none: a detector of this project; that spikes come of certain data meeting certain weights was seen by "
        "Chowdhery and others: PaLM: Scaling Language Modeling with Pathways",
        year=2022,
        arxiv="2204.02311",
        phase="losses",
        cost="three norms and two copies for each parameter, about 1 % of a ResNet-8 step of 128 small pictures, more of a "
        "tiny model's; memory for one more copy of the weights",
        breaks="nothing in training; spikes in the first 30 steps are not seen; on several processes each watches its own "
        "share of the batch",
        domains=("vision", "language", "tabular", "audio"),
    )
    horizon = True
    neutral: ClassVar = {}
    example: ClassVar = {"threshold": 1e-9, "window": 8, "around": 12, "check": 4}
    diagnostic = True
    single = True

    def __init__(
        self,
        threshold: float = THRESHOLD,
        *,
        window: int = WINDOW,
        around: int = 24,
        check: int = 20,
        most: int = 20,
    ) -> None:
        self.threshold = number(threshold, "a threshold is a robust z above 0", "6 is usual", 0, above=True)
        self.window = whole(window, "window is a whole number of steps from 8 up", "100 is usual", FIRST)
        self.around = whole(around, "around is a whole number of steps from 12 up", "24 is usual", LEAST_AROUND)
        self.check = whole(check, "check is a whole number of steps from 1 up", "20 is usual", 1)
        self.most = whole(most, "most is a whole number of windows from 1 up", "20 is usual", 1)
        self._clear()

    def _clear(self) -> None:
        self._parameters: list[Tensor] = []
        self._names: list[str] = []
        self._before: list[Tensor] = []
        self._signals = self._norms = torch.empty(0)
        self._asked = torch.empty(0, dtype=torch.bool)
        self._recent: deque[tuple[int, int, Tensor | None, Tensor]] = deque()
        self._of: Any = None
        self._parts: list[tuple[Tensor | None, Tensor]] = []
        self._batch: tuple[Tensor | None, Tensor] | None = None
        self._fresh: list[int] = []
        self._looked = self._done = self._per_epoch = 0
        self._last_high = -APART - 1
        self._waiting: list[tuple[int, float]] = []
        self._kept: list[dict[str, Any]] = []

    def start(self, context: Context) -> None:
        """Make room for two signals a step, and for the norms of the last steps."""
        self._clear()
        names = {id(p): name for name, p in context.model.named_parameters()}
        self._parameters = [p for group in context.optimizer.param_groups for p in group["params"]]
        self._names = [names.get(id(p), f"parameter {k}") for k, p in enumerate(self._parameters)]
        # From the first step of a window to the look at which its last one has been made.
        rows = 2 * self.around + self.check + 1
        self._signals = torch.full((2, context.total_steps), torch.nan, device=context.device)
        self._norms = torch.zeros(3, rows, len(self._parameters), device=context.device)
        self._asked = torch.zeros(context.total_steps, dtype=torch.bool)
        self._recent = deque(maxlen=rows)
        self._per_epoch = context.steps_per_epoch

    # ---- the step --------------------------------------------------------------------------------------------------

    def losses(self, losses: Tensor, output: Tensor, batch: Batch, context: Context) -> Tensor:
        """The same losses [B]; a second look at one batch (SAM) is not kept."""
        if batch.container is not self._of:
            self._of = batch.container
            # Clones: a loader, or a compiled model, may fill the same memory at the next step.
            ids = None if batch.ids is None else batch.ids.clone()
            self._parts.append((ids, losses.detach().to(torch.float32, copy=True)))
        return losses

    def gradients(self, context: Context, again: Callable[[], None] | None) -> bool:
        """Measure the gradients, which stay as they are, and remember the weights; never skips the step."""
        parts, self._of, self._parts, self._batch = self._parts, None, [], None
        step = context.step
        if step >= self._signals.shape[1]:
            return True  # a loop that goes on after its planned end
        if parts:
            all_ids = [ids for ids, _ in parts if ids is not None]
            losses = parts[0][1] if len(parts) == 1 else torch.cat([part for _, part in parts])
            self._batch = (torch.cat(all_ids) if len(all_ids) == len(parts) else None, losses)
            self._signals[LOSS, step] = losses.mean()
            self._asked[step] = True
        with torch.no_grad():
            norms = measure_norms([p.grad for p in self._parameters])
            self._signals[GRADIENT, step] = torch.linalg.vector_norm(norms)
            self._norms[0, step % self._norms.shape[1]] = norms
            if self._before:
                torch._foreach_copy_(self._before, self._parameters)
            else:
                self._before = [p.detach().clone() for p in self._parameters]
        return True

    def weights(self, context: Context) -> None:
        """Measure the update and the weights after it; every so many steps look for spikes."""
        step = context.step - 1
        if step >= self._signals.shape[1]:
            return
        row = step % self._norms.shape[1]
        with torch.no_grad():
            # The copies are needed no more: they become the update.
            torch._foreach_sub_(self._before, self._parameters)
            self._norms[1, row] = measure_norms(self._before)
            self._norms[2, row] = measure_norms([p.detach() for p in self._parameters])
        ids, losses = self._batch or (None, torch.empty(0))
        self._recent.append((step, context.epoch, ids, losses))
        self._fresh.append(step)
        self._done = context.step
        if context.step % self.check == 0:
            self._look()

    # ---- looking ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Find the spikes that began since the last look, and keep the windows that are complete."""
        waiting, self._last_high = self._found()
        self._looked, self._fresh = self._done, []
        self._waiting = [w for w in waiting if w[0] + self.around >= self._done]
        self._kept = self._highest([*self._kept, *(self._window_of(*w) for w in waiting if w not in self._waiting)])

    def _found(self) -> tuple[list[tuple[int, float]], int]:
        """(first step, highest z so far) of the spikes whose windows are not yet kept, and the last step of any."""
        waiting, last = list(self._waiting), self._last_high
        if not self._fresh or self._done <= self._looked:
            return waiting, last
        z = torch.stack([self._new_z(LOSS, self._asked), self._new_z(GRADIENT, torch.ones_like(self._asked))])
        highest = z.nan_to_num(-torch.inf, torch.inf, -torch.inf).amax(0)
        for step in self._fresh:
            height = float(highest[step - self._looked]) if self._looked <= step < self._done else -torch.inf
            if not height > self.threshold:
                continue
            if step - last > APART:
                waiting.append((step, height))
            elif waiting:
                waiting[-1] = (waiting[-1][0], max(waiting[-1][1], height))
            last = step
        return waiting, last

    def _new_z(self, signal: int, seen: Tensor) -> Tensor:
        """z of a signal in the steps since the last look, by as many of those before as were seen and count."""
        before = seen[: self._looked].nonzero()[-(self.window + RECENT) :]
        begin = int(before[0]) if len(before) else self._looked
        values = self._signals[signal, begin : self._done].cpu()
        z = seen_z(values, seen[begin : self._done], self.window, start=self._looked - begin)
        return z[self._looked - begin :]

    def _highest(self, windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """At most `most` windows, the highest, in order of time."""
        chosen = sorted(windows, key=lambda w: (-w["z"], w["start"]))[: self.most]
        return sorted(chosen, key=lambda w: w["start"])

    def _window_of(self, start: int, z: float) -> dict[str, Any]:
        """What is known of the steps around the first one of a spike, on the CPU."""
        held = [r for r in self._recent if start - self.around <= r[0] <= start + self.around]
        rows = [step % self._norms.shape[1] for step, *_ in held]
        gradient, update, weight = self._norms[:, rows].cpu()
        seen = [(ids, losses) for _, _, ids, losses in held if len(losses)]
        known = [ids for ids, _ in seen if ids is not None]
        return {
            "start": start,
            "z": z,
            "steps": torch.tensor([step for step, *_ in held]),
            "epochs": torch.tensor([epoch for _, epoch, _, _ in held]),
            "gradient_norms": gradient,
            "update_norms": update,
            "weight_norms": weight,
            "counts": torch.tensor([len(losses) for *_, losses in held]),
            "losses": torch.cat([losses for *_, losses in held]).cpu(),
            "ids": torch.cat(known).cpu() if known and len(known) == len(seen) else torch.empty(0, dtype=torch.int64),
        }

    def findings(self) -> dict[str, Any]:
        """loss and gradient_norm float32 [T] of each step done, asked bool [T], names [P] of the parameters, and the windows.

        asked: steps in which the loop asked the chain for a loss; those without have NaN, and no z.

        A window: start (first step of a spike), z (its highest); steps [n], epochs [n]; gradient_norms, update_norms,
        weight_norms float32 [n, P]; counts [n] of examples, and their ids and losses one after the other (no ids where
        the loader has none).
        """
        if not self._done:
            return {}
        windows = self._highest([*self._kept, *(self._window_of(*w) for w in self._found()[0])])
        loss, gradient = self._signals[:, : self._done].cpu()
        return {
            "loss": loss,
            "gradient_norm": gradient,
            "asked": self._asked[: self._done].clone(),
            "names": list(self._names),
            "steps_per_epoch": self._per_epoch,
            "threshold": self.threshold,
            "window": self.window,
            "around": self.around,
            "windows": windows,
        }

    # ---- state -----------------------------------------------------------------------------------------------------

    def finish(self, context: Context) -> None:
        """Forget the model and all signals."""
        self._clear()

    def state_dict(self) -> dict[str, Any]:
        """The signals, the norms of the last steps, and the windows so far."""
        return {
            "names": list(self._names),
            "signals": self._signals[:, : self._done].clone(),
            "asked": self._asked[: self._done].clone(),
            "norms": self._norms.clone(),
            "recent": [list(entry) for entry in self._recent],
            "fresh": list(self._fresh),
            "looked": self._looked,
            "last_high": self._last_high,
            "waiting": [list(entry) for entry in self._waiting],
            "kept": list(self._kept),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; raises InvalidValue for the state of another model."""
        if state["names"] != self._names:
            raise InvalidValue(
                f"a watch goes on with the same parameters, got a state of {len(state['names'])} for {len(self._names)}; "
                "load the state into the same model"
            )
        self._done = state["signals"].shape[1]
        self._signals[:, : self._done] = state["signals"].to(self._signals)
        self._asked[: self._done] = state["asked"]
        self._norms.copy_(state["norms"])
        device = self._signals.device
        self._recent.clear()
        self._recent.extend((step, epoch, ids, losses.to(device)) for step, epoch, ids, losses in state["recent"])
        self._fresh, self._looked, self._last_high = list(state["fresh"]), state["looked"], state["last_high"]
        self._waiting = [(start, z) for start, z in state["waiting"]]
        self._kept = list(state["kept"])
