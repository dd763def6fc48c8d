"""Which earlier runs could help a recipe, and why others cannot: only descriptions are read, no model runs."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch

from ..core.duration import Duration
from ..core.errors import CorruptFile, ReinvestError, StoreError
from ..core.recipe import Recipe
from ..core.view import TRAIN, TaskView, view_of
from ..loop.session import build_task
from ..reuse.fit import TAUGHT, ReuseWarning, Source, check_ancestors, check_data, class_map

TOO_SHORT = 0.25
"""Share of the recipe's epochs below which an earlier run is refused: no study had students longer than its inverse."""

WEIGHTS = "weights.safetensors"
THAT = "that run"
"""What reasons call a run, so that equal reasons are equal texts."""


@dataclass(frozen=True)
class Refused:
    """An earlier run that is not re-used, and why, in one sentence; how: the way of re-use it is about, "" for all."""

    run: str
    reason: str
    how: str = ""


class Target:
    """The recipe that is to be helped: its task as earlier runs are compared with it, its length, its model."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.task = recipe, build_task(recipe)
        loader = self.task.loader("train", recipe.batch_size)
        self.view: TaskView = view_of(loader)
        self.namespace = self.view.namespace or self.task.name
        duration = Duration.parse(recipe.duration)
        self.epochs = None if duration.unit == "min" else duration.steps(len(loader)) / max(1, len(loader))
        self.model = _model_text(json.dumps(recipe.task), json.dumps(recipe.model))
        # What is compared for every run of the store must not touch the data; content and roles come later.
        self.plain_view = replace(self.view, hashes=None, roles=None)

    def better(self, run: Any) -> float:
        """A run's validation quality, higher is better; -inf where it has none."""
        value = quality_of(run, self.task.metric)
        return -math.inf if value is None else value if self.task.higher_is_better else -value

    @cached_property
    def train(self) -> torch.Tensor | None:
        """Which ids are trained on, bool [N]; None if the task does not say."""
        return None if self.view.roles is None else self.view.roles() == TRAIN


def quality_of(run: Any, metric: str) -> float | None:
    """The last validation value of a metric; the test split is never looked at."""
    value: float | None = run.last.get("validation", {}).get(metric)
    return value


class Candidate:
    """A finished run on the same data set, and what it may be re-used for."""

    def __init__(self, run: Any, target: Target, find: Callable[[str], Any]) -> None:
        self.run, self._target, self._find = run, target, find
        self.known: dict[str, Any] = run.training.get("data") or {}
        self._problems: dict[str, str] = {}

    @property
    def classes(self) -> int:
        """How many classes it knows."""
        return int(self.known.get("classes") or 0)

    @property
    def same_data(self) -> bool:
        """Whether data and split are those of the recipe."""
        return bool(self.known.get("fingerprint")) and self.known["fingerprint"] == self._target.view.fingerprint

    @cached_property
    def same_model(self) -> bool:
        """Whether it has the recipe's model, by name and arguments."""
        spec = self.run.config.get("model")
        if not isinstance(spec, dict) or "task" not in self.run.config:
            return False
        try:
            return _model_text(json.dumps(self.run.config["task"]), json.dumps(spec)) == self._target.model
        except (ReinvestError, TypeError):
            return False  # a factory that is gone

    @cached_property
    def setting(self) -> str:
        """What is new in the recipe's data: "no new data", "new data" or "new classes"."""
        if self.same_data:
            return "no new data"
        if 0 < self.classes < (self._target.view.classes or 0):
            return "new classes"
        ours, theirs = self._target.train, self._trained_on
        if ours is None or theirs is None:
            return "new data"
        shared = min(len(ours), len(theirs))
        new = int(ours.sum()) - int((ours[:shared] & theirs[:shared]).sum())
        return "new data" if new else "no new data"

    @cached_property
    def _records(self) -> Any:
        try:
            return self.run.records()
        except CorruptFile:
            raise
        except StoreError:
            return None

    @property
    def _trained_on(self) -> torch.Tensor | None:
        roles = None if self._records is None else self._records.roles
        return None if roles is None else roles == TRAIN

    @property
    def source(self) -> Source:
        """What the run says of its data, without its records."""
        names = self.known.get("class_names")
        return Source(
            THAT,
            self.known.get("namespace") or "",
            self.known.get("fingerprint") or "",
            self.known.get("classes"),
            None if names is None else tuple(names),
            self.known.get("preprocessing") or "",
        )

    # ---- why not -----------------------------------------------------------------------------------------------

    def misfit(self) -> str:
        """Why it helps nobody here, as far as its description tells; "" if nothing speaks against it."""
        if self.known.get("namespace") != self._target.namespace:
            there = repr(self.known["namespace"]) if self.known.get("namespace") else "no data set it names"
            return (
                f"re-use is for runs on one data set, got one on {there} for {self._target.namespace!r}; "
                "take a run on the same data"
            )
        return (
            _reason_of(lambda: check_data(self.source, self._target.plain_view, by_id=True))
            or _reason_of(lambda: class_map(self.source, self._target.view, None))
            or self._too_poor()
            or self._taught_twice()
        )

    def _too_poor(self) -> str:
        target = self._target
        value, classes = quality_of(self.run, target.task.metric), target.view.classes
        if target.task.metric == "accuracy" and classes and value is not None and value <= 1 / classes:
            return (
                f"a run that is re-used has learned something, got a validation accuracy of {value:.3g}, no better "
                f"than guessing among {classes} classes; train it longer, or take another"
            )
        epochs = self.run.training.get("epochs")
        # A run that was made from others goes on from what they learned, so its own length says little.
        if target.epochs and epochs and not self.run.reuse and epochs < TOO_SHORT * target.epochs * (1 - 1e-9):
            return (
                f"a run that is re-used has at least {TOO_SHORT:g} of the recipe's length, got {epochs:g} epochs for "
                f"{target.epochs:g}; no study tried less, so take a longer run"
            )
        return ""

    def _taught_twice(self) -> str:
        """A constant weight hands quality down from run to run: refused where it has happened in a row already."""
        if not any(constant_weight(m) for m in self.run.config.get("methods") or () if m.get("name") == "Distill"):
            return ""
        for parent in (r["run"] for r in self.run.reuse if r["how"] in TAUGHT):
            earlier = self._find(parent)
            if earlier is not None and any(r["how"] in TAUGHT for r in earlier.reuse):
                return (
                    "a teacher was not itself distilled, with a constant weight, from a run that was distilled, got one "
                    "that was: quality falls from hand-over to hand-over that way; take the first run of that chain"
                )
        return ""

    def problem(self, needs: str) -> tuple[str, str]:
        """(why it cannot give "rows", "weights", "outputs" or several of these, which of them), ("", "") if it can."""
        data = self._once("data", self._data_problem)
        if data:
            return data, ""
        for need in () if needs == "nothing" else needs.split():
            reason = self._once(
                need, {"rows": self._no_rows, "weights": self._no_weights, "outputs": self._no_model}[need]
            )
            if reason:
                return reason, need
        return "", ""

    def _once(self, name: str, look: Callable[[], str]) -> str:
        if name not in self._problems:
            try:
                self._problems[name] = look()
            except (ReinvestError, OSError) as error:
                self._problems[name] = " ".join(str(error).split())
        return self._problems[name]

    def _data_problem(self) -> str:
        """Whether it, or a run that it was made from, saw the test set, and whether ids still mean the same examples."""
        # The fingerprint covers content and split.
        own = "" if self.same_data else self._own_data_problem()
        return own or _reason_of(lambda: check_ancestors(self.run, self._target.view))

    def _own_data_problem(self) -> str:
        records = self._records
        source = self.source
        if records is not None:
            source = replace(source, hashes=records.hashes, roles=records.roles)
        return _reason_of(lambda: check_data(source, self._target.view, by_id=True))

    def _no_rows(self) -> str:
        records = self._records
        if records is None or not records.has_rows:
            why = "no records" if records is None else records.about.get("log_probabilities", "records without rows")
            return (
                f"records that teach hold a row for each example, got {why}; train with records=True, or make a clean "
                "pass from its weights"
            )
        ours, theirs = self._target.train, self._trained_on
        if ours is not None and theirs is not None:
            shared = min(len(ours), len(theirs))
            if not bool((ours[:shared] & theirs[:shared]).any()):
                return (
                    "records know some of the training examples, got a run that trained on none of these; take one that "
                    "shares some"
                )
        return ""

    def _no_weights(self) -> str:
        if not (self.run.path / WEIGHTS).exists():
            return "a warm start begins with saved weights, got a run that kept none; take a run with weights"
        if not self.same_model:
            spec = self.run.config.get("model")
            return (
                "weights start the model that they were trained in, got "
                f"{'a model that is not described' if spec is None else _short(spec)} for "
                f"{_short(self._target.recipe.model)}; use its records or a clean pass"
            )
        return ""

    def _no_model(self) -> str:
        if not (self.run.path / WEIGHTS).exists():
            return "a clean pass runs the earlier model, got a run that kept no weights; take a run with weights"
        if not isinstance(self.run.config.get("model"), dict) or "task" not in self.run.config:
            return (
                "a clean pass builds the model from its recipe, got a run of an own loop; build the model, load its "
                "weights and pass clean_pass(model, loader) to Distill"
            )
        return ""


def constant_weight(options: Mapping[str, Any]) -> bool:
    """Whether distillation options keep their weight all the way: a pair of equal numbers above 0."""
    weight = options.get("weight")
    return isinstance(weight, (list, tuple)) and len(weight) == 2 and weight[0] == weight[1] != 0


def _reason_of(check: Callable[[], object]) -> str:
    """What a check refuses or warns of, as text: what could not be checked is not advised either."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReuseWarning)
        try:
            check()
        except (ReinvestError, ReuseWarning) as found:
            return " ".join(str(found).split())
    return ""


@lru_cache(maxsize=256)
def _model_text(task: str, model: str) -> str:
    """A model's spec without the arguments that are defaults, as one text."""
    spec = json.loads(Recipe(task=json.loads(task), model=json.loads(model)).canonical())["model"]
    return json.dumps(spec, sort_keys=True)


def _short(spec: Mapping[str, Any]) -> str:
    more = ", ".join(f"{k} {v}" for k, v in spec.items() if k != "name")
    return f"{spec.get('name')}{f' ({more})' if more else ''}"


# ---- looking through a store -----------------------------------------------------------------------------------------


def look(
    target: Target, runs: Sequence[Any], known: Sequence[Any] | None = None
) -> tuple[list[Candidate], list[Refused]]:
    """(the runs that may help, the most promising first; those that cannot, with the reason).

    known: all runs there are, among which the parents of `runs` are looked up; by default `runs`.
    Status and task are told by the index; only descriptions of finished runs of this task are opened. Order: more
    classes known, then validation quality, then the newest.
    """
    found: list[Candidate] = []
    refused: list[Refused] = []
    by_id = {run.id: run for run in (runs if known is None else known)}
    for run in runs:
        reason = _by_index(run, target)
        if not reason:
            try:
                candidate = Candidate(run, target, by_id.get)
                reason = candidate.misfit()
            except (CorruptFile, StoreError, OSError) as error:
                reason = " ".join(str(error).split())
            if not reason:
                found.append(candidate)
                continue
        refused.append(Refused(run.id, reason))
    found.sort(key=lambda c: c.run.created, reverse=True)
    found.sort(key=lambda c: (-c.classes, -target.better(c.run)))
    return found, refused


def _by_index(run: Any, target: Target) -> str:
    if run.task not in (target.recipe.task["name"], target.namespace):
        return (
            f"re-use is for runs on one data set, got one on {run.task!r} for {target.namespace!r}; "
            "take a run on the same data"
        )
    if run.status != "finished":
        ends = {
            "diverged": "its loss was not finite, take another",
            "interrupted": "the same command finishes it",
            "running": "wait for its end",
        }
        return f"only finished runs are re-used, got one that is {run.status}; {ends.get(run.status, 'take another')}"
    return ""
