"""`train`: a recipe and a seed become a finished run in a store, written with the same three calls as any own loop."""

from __future__ import annotations

import functools
import math
import signal
import statistics
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..core.chain import Methods
from ..core.duration import Duration
from ..core.errors import AlreadyFinished, CorruptFile, InvalidValue, StoreError, UnknownName
from ..core.hardware import facts
from ..core.protocols import current_recorder
from ..core.recipe import Recipe, branch_of
from ..core.streams import key
from .branches import kept_state, marked_steps, refuse_horizons, trunk_state, trunks
from .evaluate import evaluate
from .progress import Bar
from .session import Session, run_identity
from .trial import trial_seconds

CHECK_EVERY = {"cpu": 16, "cuda": 50}
"""Steps between looks at the loss and the clock: a look waits for the device, and what is not finite stays so."""

FASTEST = 1e-4
"""Seconds of a step that none is faster than: how long a run of some minutes is before its steps were timed."""

STUCK = 100
"""Batches in a row without an update (non-finite gradients skip it) after which a run counts as diverged."""


class NotKeptWarning(UserWarning):
    """A run that the store already holds was returned, and lacks the records that were asked for."""


class _Interrupt:
    """Turns Ctrl-C (or a termination) into a stop at the next step boundary, where the state is whole.

    A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


def train(
    recipe: Recipe,
    seed: int = 0,
    store: Any = None,
    *,
    parents: Sequence[Any] = (),
    device: str | None = None,
    records: bool | Mapping[str, Any] | None = None,
    evaluations: int = 10,
    checkpoint_seconds: float = 60.0,
    progress: bool | None = None,
    name: str | None = None,
    trunk: Any = None,
) -> Any:
    """Train a recipe with one seed and return its Run; a run that the store already holds is returned, not repeated.

    parents: runs (or their ids) that this one builds on. device: "cpu", "cuda", ...; default the first GPU, else the
    CPU. records: per-example records are kept unless False; {"views": K} keeps also rows of every view in the last K
    planned epochs, which students can replay (`Distill(run, source="views")`), {"margins": True} each example's margin in
    every epoch; they are no part of what makes a run the
    same, so a stored run without those that were asked for is returned with a NotKeptWarning. evaluations: looks at the
    validation split on the way (outside the clock; the test split is read once, at the end). checkpoint_seconds: wall
    time between checkpoints; a killed run goes on from the last one, bit for bit. progress: a bar on the terminal
    (default: only if it is one). trunk: a longer run of this recipe and seed, both cooling down at the end, in whose middle
    this one begins, at one of its `forks`: the same weights and seconds as training it whole; its records begin at the fork.

    Runs may be named by the beginnings of their ids; the recipe is kept with the whole ones. A loss that is not finite ends
    the run with status "diverged". Raises RunBusy if another process trains the same run, KeyboardInterrupt after Ctrl-C
    (with the state saved).
    """
    _check(recipe, store, evaluations)
    where = device_named(device, "a run trains")
    find = functools.partial(full_id, store)
    recipe = recipe.resolved(find)
    parent_ids = tuple(dict.fromkeys([*(find(str(getattr(p, "id", p))) for p in parents), *recipe.parents]))
    roots = trunks(trunk, recipe, seed, store)
    known = run_identity(recipe, seed, (*parent_ids, *(branch_of(root.identity) for root in roots)))
    if (found := store.find(known, status=("finished", "diverged"))) is not None:
        return _as_asked(found, records)
    Methods(*recipe.build_methods())  # refuses a chain before anything is stored
    begin = trunk_state(recipe, roots[0]) if roots else None
    recording = store.record(
        name or f"{recipe.task['name']} {recipe.model['name']}",
        task=recipe.task["name"],
        config=recipe.to_dict(),
        seed=seed,
        parents=(*parent_ids, *(root.id for root in roots)),
        records=True if records is None else records,
        identity=known,
        once=True,
    )
    try:
        with torch.random.fork_rng(), recording as run:
            torch.manual_seed(key(recipe.seed_of("dropout", seed), "dropout") >> 1)
            run.note(**facts(where, recipe.precision))
            _Training(recipe, seed, where, run, evaluations, checkpoint_seconds, begin).go(progress)
    except AlreadyFinished as ended:
        # Another process trained the same run while this one waited for it.
        return _as_asked(ended.run, records)
    return run.run


def _check(recipe: Any, store: Any, evaluations: int) -> None:
    if not isinstance(recipe, Recipe):
        raise InvalidValue(f"train takes a recipe, got {recipe!r}; write ri.Recipe(task='digits', model='convnet')")
    if store is None or isinstance(store, (str, bytes)) or not hasattr(store, "record"):
        raise InvalidValue(f"train keeps its run in a store, got {store!r}; pass store=ri.Store('runs')")
    if evaluations < 1:
        raise InvalidValue(f"evaluations is 1 or more (the last one is at the end), got {evaluations}; leave it at 10")


def full_id(store: Any, reference: str) -> str:
    """The id of the run that a beginning of it names; the reference itself where the store has none such.

    A run whose parent has been removed is found by that: recording a new one is what needs the parent. Raises
    InvalidValue for a beginning that several runs share.
    """
    try:
        return str(store.get(reference).id)
    except UnknownName:
        return reference


def _as_asked(run: Any, records: bool | Mapping[str, Any] | None) -> Any:
    """A run that the store already holds, with a warning where it lacks records that were asked for."""
    lacks = _lacking(run, records) if records else ""
    if lacks:
        warnings.warn(
            f"a run is trained once, whatever records are asked for, got the stored run {run.id!r}, which has {lacks}, for "
            f"records={records!r}; to have them, train another seed, or remove the run "
            f"(reinvest store gc --where id={run.id} --delete) and train it again",
            NotKeptWarning,
            stacklevel=3,
        )
    return run


def _lacking(run: Any, records: bool | Mapping[str, Any]) -> str:
    """What a run has in place of the records that were asked for; "" if nothing is missing that training could keep."""
    try:
        found = run.records()
    except CorruptFile:
        return ""  # what is wrong with the file is said to whoever reads it
    except StoreError:
        return "no records"
    if not isinstance(records, Mapping):
        return ""
    # Margins that could not be kept are said to be so in the records.
    if records.get("margins") is True and "margin" not in found.tables and "margins" not in found.about:
        return "no margins"
    wanted = records.get("views")
    if not isinstance(wanted, int):
        return ""
    if "views" not in found.about:
        return "no rows of single epochs"
    # Without any rows that were asked for, the records say why, and asking again would not change it.
    short = run.status == "finished" and 0 < found.views < min(wanted, run.training.get("epochs", wanted))
    return f"rows of its last {found.views} epochs only" if short else ""


def device_named(name: str | None, who: str) -> torch.device:
    """The device of that name; None is the first GPU, else the CPU. who: what wants it, as the refusal begins.

    Raises InvalidValue for a device that this machine does not have.
    """
    cuda = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if cuda else "cpu"))
        torch.zeros(0, device=device)
    except (RuntimeError, TypeError, AssertionError):
        raise InvalidValue(
            f"{who} on a device of this machine, got {name!r}; write 'cpu'{' or cuda' if cuda else ''}"
        ) from None
    return device


class _Training:
    """One run from its start, or its last checkpoint, to its end."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        run: Any,
        evaluations: int,
        checkpoint_seconds: float,
        begin: dict[str, Any] | None = None,
    ) -> None:
        self.run = run
        self.state = run.load_state() or begin
        if begin is not None:
            run.note(branch=begin["branch"])
        steps = self.state["chain"]["total_steps"] if self.state else None
        if steps is None and Duration.parse(recipe.duration).unit == "min":
            steps = calibrate(recipe, seed, device)
        self.session = Session(recipe, seed, device, steps)
        self.checkpoint_seconds = checkpoint_seconds
        total = self.session.total_steps
        self.marks = {math.ceil(total * k / evaluations) for k in range(1, evaluations + 1)}
        self.reads, self.keeps = (marked_steps(recipe.schedule, what, total) for what in ("reads", "keeps"))
        if self.reads or self.keeps:
            refuse_horizons(self.session.methods.members, "a run that stands for several durations")
        self.look = CHECK_EVERY.get(device.type, 50)

    def go(self, progress: bool | None) -> None:
        session, run = self.session, self.run
        with session.attached() as methods, _Interrupt() as interrupt, Bar(run, session, progress) as bar:
            if self.state:
                session.load_state_dict(self.state)
            session.model.train()
            context = methods.context
            saved, due, seen, stuck = time.monotonic(), False, 0, 0
            while context.step < context.total_steps:
                epoch, start = methods.next_batch
                for batch in methods.batches(session.loader(epoch, start)):
                    before = context.step
                    loss = session.step(batch)
                    step, seen = context.step, seen + 1
                    stuck = 0 if step > before else stuck + 1
                    if seen % self.look == 0 or step == context.total_steps:
                        value = loss.item()
                        if not math.isfinite(value) or stuck >= STUCK:
                            self._diverged(step, epoch, value)
                            return
                        bar.update(step, value)
                        due = time.monotonic() - saved >= self.checkpoint_seconds
                    if step in self.marks:
                        self._evaluate("validation", step, epoch)
                        self.marks.discard(step)
                    if step in self.reads:
                        self._evaluate("test", step, epoch)
                        self.reads.discard(step)
                    if step in self.keeps:
                        run.keep_state(step, kept_state(session.state_dict()))
                        self.keeps.discard(step)
                    if due or interrupt.asked:
                        self._checkpoint()
                        saved, due = time.monotonic(), False
                        if interrupt.asked:
                            raise KeyboardInterrupt
            self._evaluate("test", context.step, context.epoch)
        self.run.save_weights(session.model.state_dict())

    def _evaluate(self, split: str, step: int, epoch: int) -> None:
        with self.session.methods.averaged():
            values = evaluate(self.session.model, self.session.task, split)
        seconds = self.session.methods.clock["seconds"]
        self.run.log(split=split, step=step, epoch=epoch, seconds=seconds, **values)

    def _checkpoint(self) -> None:
        self.run.save_state(self.session.state_dict())

    def _diverged(self, step: int, epoch: int, loss: float) -> None:
        self.run.note(divergence={"step": step, "epoch": epoch, "loss": str(loss)})
        self.run.finish("diverged")


def calibrate(recipe: Recipe, seed: int, device: torch.device | str = "cpu", probes: int = 20) -> int:
    """The number of steps that a duration in minutes buys here: minutes over the median seconds of a few trial steps.

    Twice: the second trial has the length that the first one found, so that methods act where they will.
    """
    seconds = Duration.parse(recipe.duration).amount * 60
    steps = round(seconds / FASTEST)
    # These steps are no part of the run: nobody records them.
    token = current_recorder.set(None)
    try:
        with torch.random.fork_rng():
            for _ in range(2):
                session = Session(recipe, seed, device, steps=max(probes, steps))
                steps = max(1, round(seconds / statistics.median(trial_seconds(session, probes, warmup=3))))
    finally:
        current_recorder.reset(token)
    return steps
