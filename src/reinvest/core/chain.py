"""Three calls around anyone's own loop: `batches`, `loss` and `step`, between `attach` and its end."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attach import Attachment
from .batch import Batch, find_ids, unpack
from .criterion import cross_entropy
from .duration import Duration
from .errors import Conflict, InvalidValue, LoopError
from .method import Context, Method, overrides
from .nodes import split_rows, through_nodes

NO_CLASS = -(2**31)
"""An ignore_index that no label has: an ignored example must raise in the short cut and go the long way."""
LOOP = (
    "with methods.attach(model, optimizer, duration='10ep', data=loader, seed=0):\n"
    "    for x, y in methods.batches(loader):\n"
    "        methods.loss(model(x), y).backward()\n"
    "        methods.step()"
)


class NoEffectWarning(UserWarning):
    """A method could not do anything, because the loop never made the call it acts in."""


class Methods:
    """A chain of methods for one training loop.

    Order in the list matters only between methods of the same phase. reduction "example" averages over examples;
    "token" weighs each example by its valid positions, so that a language model's loss equals the usual one.
    virtual_nodes is the number of equal slices in which a global batch is selected and augmented (default: one per
    process), so that methods that couple examples give the same result on any number of processes.
    """

    def __init__(self, *methods: Method, reduction: str = "example", virtual_nodes: int | None = None) -> None:
        flat: list[Method] = []
        for method in methods:
            flat.extend(method if isinstance(method, (list, tuple)) else [method])
        for method in flat:
            if not isinstance(method, Method):
                raise InvalidValue(
                    f"a chain holds methods, got {method!r}; pass instances such as ri.LabelSmoothing(0.1)"
                )
        if reduction not in ("example", "token"):
            raise InvalidValue(f"reduction is 'example' or 'token', got {reduction!r}; choose one of the two")
        if virtual_nodes is not None and virtual_nodes < 1:
            raise InvalidValue(f"virtual_nodes is 1 or more, got {virtual_nodes}; leave it out for one per process")
        _refuse_conflicts(flat)
        self.members = tuple(flat)
        self.reduction = reduction
        self.virtual_nodes = virtual_nodes
        self._by_phase = {
            phase: tuple(m for m in flat if overrides(m, phase))
            for phase in ("select", "augment", "targets", "losses", "gradients", "weights", "kind", "averages", "views")
        }
        self.reports = True
        """Whether the end of `attach` tells which calls were missing; loops that make them all by design say no."""
        self._now: Attachment | None = None

    def __repr__(self) -> str:
        return f"Methods({', '.join(map(repr, self.members))})"

    # ---- attach ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def attach(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        duration: str | Duration,
        data: Any,
        seed: int,
        criterion: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        scheduler: Any = None,
        scaler: Any = None,
    ) -> Iterator[Methods]:
        """Join the chain to a loop for as long as the `with` block lasts.

        duration: "10ep" or "3900st", the length of the whole run, to which schedules and windows refer. data: the
        training loader (its length counts the steps of an epoch). criterion(output, target) returns losses [B], or
        [B, T] / [B, H, W]. scheduler and scaler are stepped by `step`; with a scaler write
        `scaler.scale(methods.loss(...)).backward()`.

        Raises LoopError if already attached, Conflict for surgery on a compiled model, MissingIds where a method
        needs ids that the loader does not yield, InvalidValue for a bad duration or seed.
        """
        if self._now is not None:
            raise LoopError(
                "a chain serves one loop at a time, got a second attach; make another Methods(...) for the second loop"
            )
        now = self._now = Attachment(self, model, optimizer, duration, data, seed, criterion, scheduler, scaler)
        try:
            now.start()
            yield self
            self._report_unused(now)
        finally:
            self._now = None
            now.finish()

    def _attached(self, call: str) -> Attachment:
        if self._now is None:
            raise LoopError(f"{call} works between attach and its end, got a call outside; write:\n{LOOP}")
        return self._now

    def _report_unused(self, now: Attachment) -> None:
        if not self.reports or (now.continued and not now.calls["batches"]):
            return  # the latter is a run that was already complete when it was resumed
        for call, phases in (
            ("batches", ("select", "augment")),
            ("loss", ("targets", "losses")),
            ("step", ("gradients", "weights")),
        ):
            if now.calls[call]:
                continue
            idle = dict.fromkeys(m.name for phase in phases for m in self._by_phase[phase])
            if idle:
                warnings.warn(
                    f"{call}() was never called, so {' and '.join(idle)} had no effect", NoEffectWarning, stacklevel=4
                )
        if self._by_phase["averages"] and not now.calls["averaged"] and now.context.step:
            names = " and ".join(m.name for m in self._by_phase["averages"])
            warnings.warn(
                f"averaged() was never called, so no evaluation inside the loop saw the weights of {names}; "
                "write: with methods.averaged(): evaluate(model)",
                NoEffectWarning,
                stacklevel=4,
            )

    # ---- the three calls ---------------------------------------------------------------------------------------

    def batches(self, loader: Iterable[Any], parts: int = 1) -> Iterator[Any]:
        """One epoch: yields what the loader yields, same type, less the id, until the epoch or the duration is over.

        parts=k hands every (selected, augmented) batch out in k parts for gradient accumulation; `step` acts after
        the last one. Raises LoopError once the duration is over.
        """
        now = self._attached("batches")
        if not isinstance(parts, int) or parts < 1:
            raise InvalidValue(f"parts is a whole number from 1 up, got {parts!r}; parts=2 accumulates over two halves")
        self._see_views(now, loader)
        now.begin_epoch(parts)
        indexed = find_ids(loader)[0]
        source = iter(loader)
        for _ in range(now.to_skip(loader)):
            next(source, None)
        return self._epoch(now, source, indexed, parts)

    def views(self, epoch: int) -> tuple[int, int] | None:
        """(seed, epoch) of the draws whose views a method wants in an epoch; None for the loop's own, or before `attach`.

        In an own loop: methods.batches(task.loader("train", size, seed=seed, epoch=epoch, views=methods.views(epoch))).
        Raises Conflict where methods want different ones.
        """
        now = self._now
        if now is None:
            return None
        asked = [m.views(now.context, epoch) for m in self._by_phase["views"]]
        wanted = {views for views in asked if views is not None}
        if len(wanted) > 1:
            listed = " and ".join(map(str, sorted(wanted)))
            raise Conflict(f"an epoch shows the views of one (seed, epoch), got {listed}; keep one method that replays")
        return wanted.pop() if wanted else None

    def _see_views(self, now: Attachment, loader: Any) -> None:
        """Whose views the loader shows; refuse others than a method wants."""
        shown = getattr(loader, "views", None)
        now.draws = shown if isinstance(shown, tuple) and len(shown) == 2 else None
        epoch = self.next_batch[0]
        wanted = self.views(epoch)
        if wanted is not None and wanted != now.draws:
            raise LoopError(
                f"replayed views come from the loader, which says so in its attribute `views`, got {now.draws} for "
                f"{wanted} in epoch {epoch}; write task.loader(..., views=methods.views(epoch))"
            )

    def _epoch(self, now: Attachment, source: Iterator[Any], indexed: bool, parts: int) -> Iterator[Any]:
        select, augment = self._by_phase["select"], self._by_phase["augment"]
        plain = not select and not augment and parts == 1
        context = now.context
        while context.step < context.total_steps:
            now.clock.start()
            item = next(source, now)
            if item is now:
                break
            batch = unpack(item, indexed)
            if plain:
                now.hand_out(batch, None)
                yield batch.container
            else:
                if select or augment:
                    batch = through_nodes(batch, now.nodes, lambda part, node: self._prepare(now, part, node))
                yield from self._hand_out_parts(now, batch, parts)

    def _prepare(self, now: Attachment, batch: Batch, node: int) -> Batch:
        now.context.world = (node, now.node_count)
        for method in self._by_phase["select"]:
            chosen = method.select(batch, now.context)
            batch = replace(chosen, thinned=True) if len(chosen) < len(batch) else chosen
        for method in self._by_phase["augment"]:
            batch = method.augment(batch, now.context)
        return batch

    @staticmethod
    def _hand_out_parts(now: Attachment, batch: Batch, parts: int) -> Iterator[Any]:
        if parts == 1:
            now.hand_out(batch, None)
            yield batch.package()
            return
        rows = split_rows(len(batch), min(parts, len(batch)))  # the last batch of an epoch may be short
        for k, piece in enumerate(rows):
            part = batch.take(piece)
            now.hand_out(part, batch, last=k == len(rows) - 1)
            yield part.package()

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """The loss to call `backward` on: criterion, targets and losses of the chain, averaged over the whole batch.

        output: logits [B, C], [B, C, T], [B, T, C] or [B, C, H, W]; target as the batch yielded it. A scalar output
        (a model that computes its own loss) passes through; methods of the loss side refuse it. Positions with label
        -100 do not count; an example without any other counts as loss 0.
        """
        now = self._now
        if now is None:
            now = self._attached("loss")
        value = self._loss(now, output, target)
        return value * now.relative_count if now.uneven else value

    def _loss(self, now: Attachment, output: Tensor, target: Any) -> Tensor:
        """The mean over this process's examples."""
        now.calls["loss"] += 1
        batch = now.batch
        if batch is None:
            raise LoopError(
                f"loss needs the current batch, got none; take batches from methods.batches(loader):\n{LOOP}"
            )
        if output.ndim == 0:
            now.losses_of_batch += 1
            return self._scalar(now, output, target, batch)
        now.losses_of_batch += 1
        if output.shape[0] != now.rows:
            raise LoopError(
                f"loss needs one output per example of the current batch ([B] = {now.rows}), got {output.shape[0]}; "
                "pass the outputs of the batch that batches() yielded last"
            )
        by_phase = self._by_phase
        original = target
        for method in by_phase["targets"]:
            target = method.targets(target, output, batch, now.context)
        if now.fused and now.whole is None and output.ndim == 2:
            # Same gradients bit for bit as the mean of the losses below, without an extra node in the graph.
            with contextlib.suppress(IndexError):
                return F.cross_entropy(output, target, ignore_index=NO_CLASS)
        losses = now.criterion_losses(output, target, original)
        if now.observing and not now.frozen:
            raw = losses if target is original and now.criterion is cross_entropy else None
            now.record(raw, output, original)
        if batch.targets is None and by_phase["losses"]:
            batch = replace(batch, targets=original)  # which classes and positions the outputs have is told by targets
        for method in by_phase["losses"]:
            losses = method.losses(losses, output, batch, now.context)
            if losses.ndim != 1 or len(losses) != now.rows:
                raise InvalidValue(
                    f"the losses phase returns one loss per example ([B] = [{now.rows}]), got {list(losses.shape)} from "
                    f"{method.name}; leave the mean to the chain"
                )
        if now.token_weights is not None:
            return (losses * now.token_weights).sum()
        if now.whole is None:
            return losses.mean()
        return losses.sum() / now.count

    def _scalar(self, now: Attachment, output: Tensor, target: Any, batch: Batch) -> Tensor:
        refusing = [m.name for m in (*self._by_phase["targets"], *self._by_phase["losses"])]
        if refusing:
            raise InvalidValue(
                f"{' and '.join(refusing)} need outputs per example, got a model's own scalar loss; "
                'pass the logits: methods.loss(out.logits, batch["labels"])'
            )
        if now.whole is None:
            return output
        return output * (now.share(target) if self.reduction == "token" else len(batch) / now.count)

    def step(self, closure: Callable[[], Any] | None = None) -> bool:
        """Unscale, gradients, optimizer step, scaler update, weights, scheduler, zero_grad: nobody else calls those.

        closure (forward, methods.loss, backward) is needed by methods that evaluate twice, such as SAM; given one, the
        first evaluation is made here too unless `loss` was already called for this batch. Returns whether the weights
        were updated: False in the middle of an accumulated batch and where non-finite gradients were skipped.
        """
        now = self._now
        if now is None:
            now = self._attached("step")
        if now.batch is None and now.calls["batches"]:
            raise LoopError(f"step is called once per batch, got a call without a new one; write:\n{LOOP}")
        now.calls["step"] += 1
        if closure is not None and now.losses_of_batch == 0:
            now.remember_generator()
            closure()
        if now.batch is not None and not now.last_part:
            return False
        return now.update(closure)

    # ---- evaluation, state -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Evaluate with averaged weights (EMA, SWA): values are swapped in place and swapped back at the end."""
        now = self._attached("averaged")
        now.calls["averaged"] += 1
        pairs = list(itertools.chain.from_iterable(m.averages() for m in self._by_phase["averages"]))
        kept = [own.detach().clone() for own, _ in pairs]
        with torch.no_grad():
            for own, average in pairs:
                own.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for (own, _), value in zip(pairs, kept, strict=True):
                    own.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed loop needs of the chain (tensors and plain values; safe for torch.load(weights_only=True))."""
        now = self._attached("state_dict")
        return {
            **now.state_dict(),
            "methods": [m.state_dict() for m in self.members],
            "names": [m.name for m in self.members],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`: the next `batches` goes on in the middle of the epoch.

        A loader that can start there itself (attribute `start`) is left alone; any other is read up to that batch.
        Raises InvalidValue if the state belongs to other methods.
        """
        now = self._attached("load_state_dict")
        names = [m.name for m in self.members]
        if state["names"] != names:
            raise InvalidValue(
                f"a state fits the methods that wrote it, got {state['names']} for {names}; build the same chain"
            )
        now.load_state_dict(state)
        for method, own in zip(self.members, state["methods"], strict=True):
            method.load_state_dict(own)

    @property
    def context(self) -> Context:
        """Step, epoch, progress and the rest, as the methods see them (read it, leave writing to the chain)."""
        return self._attached("context").context

    @property
    def next_batch(self) -> tuple[int, int]:
        """(epoch, batch) where the next call of `batches` begins: (e, 0), or after a resume the middle of an epoch."""
        now = self._attached("next_batch")
        return (now.context.epoch, now.batch_in_epoch) if now.resumed else (now.context.epoch + 1, 0)

    @property
    def needs_closure(self) -> bool:
        """Whether `step` needs a closure, because a method evaluates every batch twice."""
        return any(m.needs_closure for m in self.members)

    @property
    def clock(self) -> dict[str, Any]:
        """Training seconds so far: charged, warm-up, wall, and by stratum."""
        return self._attached("clock").read_clock()


def _refuse_conflicts(methods: list[Method]) -> None:
    names = {m.name for m in methods}
    for method in methods:
        clash = [n for n in method.card.conflicts if n in names and n != method.name]
        if clash:
            raise Conflict(
                f"{method.name} excludes {' and '.join(clash)}, got both in one chain; leave one of them out ({method.card.breaks})"
            )
    twice = [m.name for m in methods if m.needs_closure]
    if len(twice) > 1:
        raise Conflict(f"one method per chain may evaluate twice, got {' and '.join(twice)}; keep one of them")
    for name in dict.fromkeys(m.name for m in methods if m.single):
        same = [m for m in methods if m.name == name]
        if len(same) > 1:
            raise Conflict(f"a chain holds one {name}, got {' and '.join(map(repr, same))}; keep one of them")
