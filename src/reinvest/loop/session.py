"""A recipe made concrete: task, model, optimizer, schedule and methods, and one training step of them.

`train` runs a session from beginning to end; the paired timing block of a comparison runs a few steps of several.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core import names
from ..core.chain import Methods
from ..core.duration import Duration
from ..core.errors import InvalidValue, ReinvestError
from ..core.protocols import Task
from ..core.recipe import Recipe, identity, optimizer_class, source_hash, task_specs
from ..core.streams import key
from ..core.view import view_of

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def _arguments(spec: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in spec.items() if k != "name"}


def _source(kind: str, spec: dict[str, Any]) -> str:
    """What a cached thing depends on besides its text: the files of users' factories, and files that arguments name."""
    specs = list(task_specs(spec) if kind == "task" else [spec])
    found = [source_hash(names.resolve(kind, one["name"])) for one in specs if ":" in one["name"]]
    for one in specs:
        for name in getattr(names.resolve(kind, one["name"]), "reads", ()):
            path = Path(str(one.get(name) or "")).expanduser()
            found += [names.file_hash(str(path))] if path.is_file() else []
    return " ".join(found)


def sources_of(recipe: Recipe) -> str:
    """Hashes of the user's own files behind a recipe, which its text does not tell: factories and data; "" without any."""
    more = [("schedule", recipe.schedule), *(("method", spec) for spec in recipe.methods)]
    own = [source_hash(names.resolve(kind, spec["name"])) for kind, spec in more if ":" in spec["name"]]
    return " ".join(filter(None, [_source("task", recipe.task), _source("model", recipe.model), *own]))


@contextlib.contextmanager
def _told(rule: str, name: str) -> Iterator[None]:
    """What a user's own factory raises becomes one sentence; what ours raise is said as it is."""
    try:
        yield
    except Exception as error:
        if ":" not in name or isinstance(error, ReinvestError):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        file = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
        # Of a call that fails inside a library, the line of the factory that made it.
        last = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
        # A call that does not fit fails here and not in the factory's file.
        where = "" if last.filename == __file__ else f" at line {last.lineno} of {Path(last.filename).name}"
        raise InvalidValue(
            f"{rule}, got {type(error).__name__}{where} from {name!r} ({' '.join(str(error).split())}); mend the factory"
        ) from error


@functools.lru_cache(maxsize=16)
def _task(text: str, source: str) -> Task:
    spec = json.loads(text)
    with _told("a task factory returns a Task", spec["name"]):
        task = names.resolve("task", spec["name"])(**_arguments(spec))
    if not isinstance(task, Task):
        raise InvalidValue(
            f"a task factory returns a Task, got {type(task).__name__} from {spec['name']!r}; build it with ri.Task.from_tensors(...)"
        )
    return task


def build_task(recipe: Recipe) -> Task:
    """The recipe's task; the same data in one process are loaded once."""
    return _task(json.dumps(recipe.task, sort_keys=True), _source("task", recipe.task))


def build_model(recipe: Recipe, task: Task, seed: int) -> nn.Module:
    """A freshly initialised model; torch's own generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(key(recipe.seed_of("init", seed), "init") >> 1)
        made = names.resolve("model", recipe.model["name"])
        with _told("a model factory takes input_shape and classes and returns a torch.nn.Module", recipe.model["name"]):
            model = made(input_shape=tuple(task.input_shape), classes=task.classes, **_arguments(recipe.model))
    if not isinstance(model, nn.Module):
        raise InvalidValue(
            f"a model factory returns a torch.nn.Module, got {type(model).__name__} from {recipe.model['name']!r}"
        )
    return model


@functools.lru_cache(maxsize=256)
def _layout(task_text: str, model_text: str, sources: tuple[str, str]) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    recipe = Recipe(task=json.loads(task_text), model=json.loads(model_text))
    model = build_model(recipe, build_task(recipe), 0)
    return tuple((name, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in model.state_dict().items())


def run_identity(recipe: Recipe, seed: int, parents: tuple[str, ...] = ()) -> str:
    """The identity that `train(recipe, seed)` gives its run; the model is built once per (task, model).

    parents: ids of runs besides those that the recipe's own methods build on.
    """
    parents = tuple({*parents, *recipe.parents})
    sources = _source("task", recipe.task), _source("model", recipe.model)
    layout = _layout(json.dumps(recipe.task, sort_keys=True), json.dumps(recipe.model, sort_keys=True), sources)
    return identity(recipe, seed, fingerprint=build_task(recipe).fingerprint, layout=layout, parents=parents)


class Schedule:
    """Sets each group's rate to its peak times factor(progress), once a step and without LRScheduler's cost (15 us).

    Progress is that of the middle of the step: the first step is not wasted at a rate of zero, and the last one moves.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: Callable[[float], float], total_steps: int) -> None:
        self._optimizer, self._factor, self._total = optimizer, factor, total_steps
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._step = 0
        self._set()

    def _set(self) -> None:
        factor = self._factor(min(1.0, (self._step + 0.5) / self._total))
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def step(self) -> None:
        """One optimizer step has been made."""
        self._step += 1
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """The position and the peaks."""
        return {"step": self._step, "peaks": list(self._peaks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._step, self._peaks = state["step"], list(state["peaks"])
        self._set()


class _Begun:
    """A task's loader that begins in mid-epoch, and says so: the chain reads no further batches past."""

    indexed = True

    def __init__(self, loader: Any, start: int) -> None:
        self.loader, self.start, self.examples = loader, start, loader.examples
        self.view, self.views = view_of(loader), getattr(loader, "views", None)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


def _replaying(load: Callable[..., Any], recipe: Recipe, what: str, instead: str) -> Callable[..., Any]:
    """A task's method `loader`, refused if it cannot be told whose views to show. what: needs that; instead: the remedy."""
    known = inspect.signature(load).parameters.values()
    if not any(p.name == "views" or p.kind is p.VAR_KEYWORD for p in known):
        raise InvalidValue(
            f"{what} a task whose loader takes views=(seed, epoch), got {recipe.task['name']!r} without; "
            f"add the parameter, or {instead}"
        )
    return load


class Session:
    """Everything a recipe needs for training with one seed on one device."""

    def __init__(self, recipe: Recipe, seed: int, device: torch.device | str = "cpu", steps: int | None = None) -> None:
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        self.task = build_task(recipe)
        self.model = build_model(recipe, self.task, seed).to(self.device)
        settings = _arguments(recipe.optimizer)
        self.optimizer = optimizer_class(recipe.optimizer["name"])(self.model.parameters(), **settings)
        self._order, self._augment = (recipe.seed_of(source, seed) for source in ("order", "augment"))
        self.steps_per_epoch = len(self.task.loader("train", recipe.batch_size, seed=self._order))
        if self.steps_per_epoch == 0:
            raise InvalidValue(
                f"a batch is at most the training set, got batch size {recipe.batch_size}; choose a smaller one"
            )
        self.total_steps = steps or Duration.parse(recipe.duration).steps(self.steps_per_epoch)
        schedule = functools.partial(names.resolve("schedule", recipe.schedule["name"]), **_arguments(recipe.schedule))
        self.scheduler = Schedule(self.optimizer, schedule, self.total_steps)
        self.scaler = torch.amp.GradScaler(self.device.type) if recipe.precision == "fp16" else None
        self.methods = Methods(*recipe.build_methods())
        self.methods.reports = False  # a calibration or a timing block evaluates nothing, and that is no mistake
        self._dtype = DTYPES.get(recipe.precision)

    @contextlib.contextmanager
    def attached(self) -> Iterator[Methods]:
        """The chain attached to this session's model and optimizer."""
        loader = self.loader(0, 0)
        with self.methods.attach(
            self.model,
            self.optimizer,
            duration=f"{self.total_steps}st",
            data=loader,
            seed=self.recipe.seed_of("methods", self.seed),
            criterion=self.task.criterion,
            scheduler=self.scheduler,
            scaler=self.scaler,
        ) as methods:
            yield methods

    def loader(self, epoch: int, start: int) -> Any:
        """The training batches of an epoch from batch `start` on, with the views that the methods want."""
        views = self.methods.views(epoch)
        load: Any = self.task.loader
        if views is not None:
            load = _replaying(load, self.recipe, "replayed views need", "distil with source='records'")
        elif self._augment != self._order:
            views = self._augment, epoch
            load = _replaying(load, self.recipe, "a seed for the views alone needs", "leave augment out of the seeds")
        if views is not None:
            load = functools.partial(load, views=views)
        whole = load("train", self.recipe.batch_size, seed=self._order, epoch=epoch, start=start)
        return _Begun(whole, start) if start else whole

    def step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Forward, backward and update on one batch; returns the loss (a scalar tensor, before scaling)."""
        x, y = batch
        if self.device.type != "cpu":
            x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
        if not self.methods.needs_closure:
            loss = self._backward(x, y)
            self.methods.step()
            return loss
        losses: list[Tensor] = []
        self.methods.step(lambda: losses.append(self._backward(x, y)))
        return losses[0]

    def _backward(self, x: Tensor, y: Tensor) -> Tensor:
        if self._dtype is None:
            loss = self.methods.loss(self.model(x), y)
        else:
            with torch.autocast(self.device.type, self._dtype):
                loss = self.methods.loss(self.model(x), y)
        if self.scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "chain": self.methods.state_dict(),
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; call inside `attached()`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.methods.load_state_dict(state["chain"])
        torch.set_rng_state(state["generator"])
        # A trunk may have been trained on another kind of device.
        if self.device.type == "cuda" and state["cuda_generator"] is not None:
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)
