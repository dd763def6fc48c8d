"""The state of one chain in one loop, from `attach` to its end. Private to `chain.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .batch import IDS_REMEDY, Batch, find_ids
from .clock import StepClock
from .criterion import check_losses, cross_entropy, in_range, labelled, per_example, valid_counts, valid_total
from .duration import Duration
from .energy import Used
from .errors import Conflict, InvalidValue, LoopError, MissingIds
from .method import Context, Method, starting_place
from .protocols import current_recorder
from .view import view_of
from .wrappers import averaged_parameters, inner_module, is_compiled, ranks, refuse_unaveraged, relative_count

if TYPE_CHECKING:
    from .chain import Methods

CLOSURE = "def closure():\n    methods.loss(model(x), y).backward()\nmethods.step(closure)"


class Attachment:
    """One loop's context, current batch, clock and recorder."""

    draws: tuple[int, int] | None = None
    """(seed, epoch) behind the views that the present epoch's loader shows, None where it does not say."""
    findings: tuple[dict[str, Any], ...] = ()

    def __init__(
        self,
        chain: Methods,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        duration: str | Duration,
        data: Any,
        seed: int,
        criterion: Callable[[Tensor, Tensor], Tensor],
        scheduler: Any,
        scaler: Any,
    ) -> None:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise InvalidValue(f"a seed is a whole number, got {seed!r}; pass an int")
        self.chain, self.scheduler, self.scaler, self.criterion = chain, scheduler, scaler, criterion
        self.duration = Duration.parse(duration)
        total, steps_per_epoch = _steps(self.duration, data)
        self.indexed, self.examples = find_ids(data)
        self.compiled, self.averaged = is_compiled(model), averaged_parameters(model)
        rank, size = ranks()
        self.nodes, node_count = _nodes(chain.virtual_nodes, rank, size)
        self.context = Context(
            inner_module(model),
            optimizer,
            replace(view_of(data), criterion=criterion),
            0,
            total,
            steps_per_epoch,
            -1,
            seed,
            (self.nodes[0], node_count),
        )
        self.clock = StepClock(self.context.device)
        self.recorder = current_recorder.get()
        self.used = Used(None if self.recorder is None else self.context.device, alone=size == 1)
        self.observing = self.recorder is not None and self.indexed and self.recorder.observing
        self.calls = {"batches": 0, "loss": 0, "step": 0, "averaged": 0}
        gradients = chain._by_phase["gradients"]
        self.twice = tuple(m for m in gradients if m.needs_closure)
        self.once = tuple(m for m in gradients if not m.needs_closure)
        self.ending = contextlib.ExitStack()
        self.one_off, self.relative_count = 0.0, 1.0
        self.batch: Batch | None = None
        self.whole: Batch | None = None
        self.last_part = True
        self.rows = self.count = self.losses_of_batch = self.batch_in_epoch = 0
        self.recording = self.resumed = self.continued = self.frozen = False
        self.kind: Any = None
        self.fused = (
            criterion is cross_entropy
            and not self.observing
            and chain.reduction == "example"
            and not chain._by_phase["losses"]
            and self.context.device.type == "cpu"  # elsewhere an ignored label would not raise, but stop the device
        )
        self.generator: tuple[Tensor, Tensor | None] | None = None
        self.token_weights: Tensor | None = None
        self.uneven = size > 1 and any(m.uneven for m in chain.members)

    @property
    def node_count(self) -> int:
        """Virtual nodes over all processes."""
        return self.context.world[1]

    def start(self) -> None:
        """Start the methods in order; each one that has started will be finished, whatever happens."""
        self.ending.callback(self._end_recording)
        self.ending.enter_context(self.used)
        for method in sorted(self.chain.members, key=starting_place):
            if method.changes_model and self.compiled:
                raise Conflict(
                    f"{method.name} replaces modules and needs a model that is not compiled yet, got a compiled one; attach first, compile inside"
                )
            if method.needs_ids and not self.indexed:
                raise MissingIds(f"{method.name} needs example ids and the loader yields none; {IDS_REMEDY}")
            method.start(self.context)
            self.ending.callback(method.finish, self.context)
            if method.changes_model:
                refuse_unaveraged(self.averaged, self.context.model, method.name)
            self.one_off += method.one_off()
        if self.recorder is not None:
            context, self.recording = self.context, True
            self.recorder.begin(
                {
                    "duration": str(self.duration),
                    "total_steps": context.total_steps,
                    "steps_per_epoch": context.steps_per_epoch,
                    "epochs": -(-context.total_steps // context.steps_per_epoch),
                    "examples": self.examples,
                    "methods": [m.spec() for m in self.chain.members],
                    "seed": context.seed,
                    "data": context.task.plain(),
                    "device": str(context.device),
                    "where": self.where,
                    "view": context.task,
                    "draws": lambda: self.draws,
                    "reuse": [{"run": run, "how": how} for m in self.chain.members for run, how in m.reuses()],
                }
            )
            self.ending.callback(self._collect)

    def where(self) -> dict[str, Any]:
        """Where training stands: steps done, epoch, training seconds so far."""
        return {"step": self.context.step, "epoch": self.context.epoch, "seconds": self.read_clock()["seconds"]}

    def finish(self) -> None:
        """Finish the methods in reverse order, all of them, then the record."""
        self.ending.close()

    def _collect(self) -> None:
        found = [(m.name, m.findings()) for m in self.chain.members]  # they forget it when they finish
        self.findings = tuple({"method": name, "found": values} for name, values in found if values)

    def _end_recording(self) -> None:
        if self.recorder is not None and self.recording:
            more = {"findings": list(self.findings)} if self.findings else {}
            ended = {"clock": self.read_clock(), "used": self.used.plain(self.continued)}
            self.recorder.end({"steps": self.context.step} | ended | more)

    def read_clock(self) -> dict[str, Any]:
        """Training seconds by stratum, with what methods cost once (loading, scoring passes) charged on top."""
        found, once = self.clock.read(), self.one_off
        return found | {"seconds": found["seconds"] + once, "one_off_seconds": once} if once else found

    # ---- batches -----------------------------------------------------------------------------------------------

    def begin_epoch(self, parts: int) -> None:
        """Move to the next epoch, or go on in the resumed one; refuse one beyond the duration."""
        context = self.context
        if context.step >= context.total_steps:
            raise LoopError(
                f"the duration {self.duration} is over ({context.step} steps), got another call of batches(); "
                "attach with a longer duration or end the loop"
            )
        if parts > 1 and self.twice:
            raise Conflict(
                f"{self.twice[0].name} evaluates the whole batch twice and cannot do so part by part, got parts={parts}; "
                "use parts=1 with a smaller batch"
            )
        self.calls["batches"] += 1
        if self.resumed:
            self.resumed = False
            return
        context.epoch += 1
        self.batch_in_epoch = 0

    def to_skip(self, loader: Any) -> int:
        """Batches to read past after a resume, where the loader does not start in mid-epoch itself."""
        start = getattr(loader, "start", 0)
        return self.batch_in_epoch - (start if isinstance(start, int) and start <= self.batch_in_epoch else 0)

    def hand_out(self, batch: Batch, whole: Batch | None, last: bool = True) -> None:
        self.losses_of_batch = 0
        if whole is None or self.whole is not whole:
            self.batch_in_epoch += 1
            by_kind = self.chain._by_phase["kind"]
            self.kind = tuple(m.kind(self.context) for m in by_kind) if by_kind else None
            if self.uneven:
                self.relative_count = relative_count(len(batch if whole is None else whole), self.context.device)
        self.batch, self.whole, self.last_part = batch, whole, last
        self.rows = len(batch)
        self.count = self.rows if whole is None else len(whole)
        if self.twice:
            self.remember_generator()

    # ---- loss --------------------------------------------------------------------------------------------------

    def criterion_losses(self, output: Tensor, target: Any, original: Any) -> Tensor:
        """The criterion's losses as [B]; keeps the weights of a token-wise mean."""
        losses = self.criterion(output, target)
        if losses.__class__ is not Tensor or losses.ndim != 1 or len(losses) != len(output):
            losses = check_losses(losses, len(output), self.criterion)
        original = labelled(original, self.batch)
        if self.chain.reduction == "token":
            self.token_weights = self._token_weights(losses, original)
        return losses if losses.ndim == 1 else per_example(losses, original)

    def _token_weights(self, losses: Tensor, original: Any) -> Tensor:
        counts = valid_counts(losses, original)
        weights = counts / counts.sum().clamp(min=1)
        return weights if self.whole is None else weights * self.share(original)

    def share(self, target: Any) -> float:
        """This part's share of the whole batch's valid positions.

        The loop may have cut positions off at the front of the targets (a language model's labels[:, 1:]); they are cut
        off in the whole batch too.
        """
        whole = None if self.whole is None else self.whole.targets
        if not isinstance(target, Tensor) or not isinstance(whole, Tensor):
            return self.rows / self.count
        if target.ndim > 1 and whole.ndim == target.ndim:
            whole = whole[:, -target.shape[1] :]
        return valid_total(target) / max(1.0, valid_total(labelled(whole, self.whole)))

    def record(self, losses: Tensor | None, output: Tensor, target: Any) -> None:
        """Hand the raw cross-entropy against the original labels to the recorder; blended and moved examples are left out."""
        batch = self.batch
        if self.recorder is None or batch is None or batch.ids is None or batch.mix is not None or batch.moved:
            return
        if not isinstance(target, Tensor) or target.is_floating_point() or output.ndim != target.ndim + 1:
            return
        with torch.no_grad():
            output = output.detach()
            if target.ndim > 1:  # whatever else a criterion leaves out (255, say) counts as no label
                target = in_range(target, output)
            raw = per_example(cross_entropy(output.float(), target), target) if losses is None else losses.detach()
            self.recorder.observe(self.context.epoch, batch.ids, raw, output, target, None)

    # ---- step --------------------------------------------------------------------------------------------------

    def remember_generator(self) -> None:
        """Keep torch's generator as it is before the first evaluation, for a second one with the same dropout."""
        if self.twice:
            device = self.context.device
            self.generator = (
                torch.get_rng_state(),
                torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            )

    def again(self, closure: Callable[[], Any]) -> None:
        """Forward and backward once more: same random numbers, buffers and records as if it had not happened."""
        device = self.context.device
        buffers = [(b, b.detach().clone()) for b in self.context.model.buffers()]
        after = (torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)
        self.context.optimizer.zero_grad(set_to_none=True)
        self.frozen = True
        try:
            self._set_generator(self.generator)
            closure()
        finally:
            self.frozen = False
            self._set_generator(after)
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)

    def _set_generator(self, state: tuple[Tensor, Tensor | None] | None) -> None:
        if state is not None:
            torch.set_rng_state(state[0])
            if state[1] is not None:
                torch.cuda.set_rng_state(state[1], self.context.device)

    def update(self, closure: Callable[[], Any] | None) -> bool:
        """Everything between gradients and the next batch; whether the weights were updated."""
        context, scaler = self.context, self.scaler
        progress, updated = context.step / context.total_steps, True
        for method in self.twice:
            if closure is None:
                raise LoopError(
                    f"{method.name} evaluates every batch twice and needs a closure, got none; write:\n{CLOSURE}"
                )
            updated = self._evaluate_twice(method, closure) and updated
        if scaler is not None:
            self._unscale()
        for method in self.once:
            updated = method.gradients(context, None) is not False and updated
        if scaler is None:
            if updated:
                context.optimizer.step()
        else:
            before = scaler.get_scale()
            if updated:
                scaler.step(context.optimizer)
            scaler.update()
            updated = updated and scaler.get_scale() >= before
        if updated:
            context.step += 1
            for method in self.chain._by_phase["weights"]:
                method.weights(context)
            if self.scheduler is not None:
                self.scheduler.step()
        context.optimizer.zero_grad(set_to_none=True)
        self.batch = None
        self.clock.stop(self.kind, progress)
        return updated

    def _evaluate_twice(self, method: Method, closure: Callable[[], Any]) -> bool:
        """The gradients phase with a second pass; under a scaler the method sees unscaled gradients of both.

        A scaler unscales once a step, which is done afterwards as for any other method, so here the factor is taken out
        and put back by hand.
        """
        scale = self.scaler.get_scale() if self.scaler is not None else 1.0
        if scale == 1.0:
            return method.gradients(self.context, lambda: self.again(closure))

        def again() -> None:
            self.again(closure)
            self._multiply_gradients(1.0 / scale)

        self._multiply_gradients(1.0 / scale)
        go = method.gradients(self.context, again)
        self._multiply_gradients(scale)
        return go

    def _multiply_gradients(self, factor: float) -> None:
        with torch.no_grad():
            for group in self.context.optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(factor)

    def _unscale(self) -> None:
        try:
            self.scaler.unscale_(self.context.optimizer)
        except AssertionError:
            raise LoopError(
                "with a scaler the loss is scaled before backward, got gradients that were never scaled; "
                "write scaler.scale(methods.loss(model(x), y)).backward()"
            ) from None

    # ---- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        context = self.context
        state: dict[str, Any] = {
            "step": context.step,
            "epoch": context.epoch,
            "batch": self.batch_in_epoch,
            "total_steps": context.total_steps,
            "seed": context.seed,
            "clock": self.clock.state_dict(),
        }
        if self.recorder is not None:
            state["recorder"] = self.recorder.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        context = self.context
        for name, value in (("total_steps", context.total_steps), ("seed", context.seed)):
            if state[name] != value:
                raise InvalidValue(
                    f"a resumed run keeps its {name}, got {value} for a state with {state[name]}; attach with the same values"
                )
        context.step, context.epoch, self.batch_in_epoch = state["step"], state["epoch"], state["batch"]
        self.resumed, self.continued = context.epoch >= 0, True
        if self.batch_in_epoch >= context.steps_per_epoch and context.step < context.total_steps:
            context.epoch, self.batch_in_epoch = context.epoch + 1, 0
        self.clock.load_state_dict(state["clock"])
        if self.recorder is not None and "recorder" in state:
            self.recorder.load_state_dict(state["recorder"])


def _steps(duration: Duration, data: Any) -> tuple[int, int]:
    """(steps of the run, steps of an epoch); data without a length are one epoch."""
    per_epoch = len(data) if hasattr(data, "__len__") else None
    total = duration.steps(per_epoch)
    if total < 1:
        raise InvalidValue(
            f"a run has at least one step, got duration '{duration}' and {per_epoch} steps per epoch; train longer"
        )
    return total, per_epoch or total


def _nodes(wanted: int | None, rank: int, size: int) -> tuple[tuple[int, ...], int]:
    total = wanted or size
    if total % size:
        raise InvalidValue(
            f"virtual nodes are shared out evenly, got {total} of them for {size} processes; choose a multiple"
        )
    each = total // size
    return tuple(range(rank * each, (rank + 1) * each)), total
