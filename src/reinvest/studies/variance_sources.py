"""Which source of randomness makes runs differ: one at a time is free, all others are held at one seed.

The run's seed names the run; the recipe's `seeds` hold the sources that shall not go by it. So with all of them held, runs
of different seeds are the same computation, and what still differs is the machine. 2206.11834; 2103.03098.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..core.chain import NoEffectWarning
from ..core.errors import InvalidValue, unknown
from ..core.recipe import SOURCES, Recipe
from ..core.streams import key
from ..evaluation.compare import Listener
from ..evaluation.estimate import probe
from ..evaluation.execute import Machine, execute, machine_for, stop_workers, threads_of
from ..evaluation.plan import Job, found
from ..evaluation.settings import is_accuracy
from ..evaluation.timing import steps_of
from ..evaluation.variance import Part, by_source
from ..evaluation.variance_ratio import COMPARED_FROM, ratios, runs_to_tell, smallest_told
from ..loop.session import Session, run_identity
from ..loop.train import full_id
from ..methods._check import whole
from ..store.run import WEIGHTS
from .variance import Variance, variance_of
from .variance_runs import metric_of, sorted_out
from .variance_text import statements

__all__ = ["SourcesPlan", "drawing", "estimate_sources", "read_plan", "variance_sources"]

MIN_RUNS = 3
FREE, HELD = "", "none"


@dataclass(frozen=True)
class SourcesPlan:
    """recipe: whose runs differ. runs: for each source, at least 3. sources: those to look at, () for all from which the
    recipe draws. held: the seed at which the other sources are held. Raises InvalidValue or UnknownName for other values.
    """

    recipe: Recipe
    runs: int = 10
    sources: Sequence[str] = ()
    held: int = 0

    def __post_init__(self) -> None:
        whole(self.runs, f"each source has {MIN_RUNS} runs or more", "write runs: 10", MIN_RUNS)
        if not isinstance(self.held, int) or isinstance(self.held, bool):
            raise InvalidValue(f"held is a seed, a whole number, got {self.held!r}; write held: 0")
        if not isinstance(self.sources, (list, tuple)):
            raise InvalidValue(f"sources are a list of names, got {self.sources!r}; write sources: [init, order]")
        for source in self.sources:
            if source not in SOURCES:
                raise unknown("source of randomness", source, SOURCES)
        object.__setattr__(self, "sources", tuple(s for s in SOURCES if s in self.sources))
        if self.recipe.seeds:
            raise InvalidValue(
                f"the plan holds the sources itself, got a recipe with seeds {self.recipe.seeds}; leave them out of the recipe"
            )

    def arm(self, source: str) -> Recipe:
        """The recipe in which this source alone is free; FREE: all of them, HELD: none."""
        if source == FREE:
            return self.recipe
        return self.recipe.with_(seeds={name: self.held for name in SOURCES if name != source})

    @property
    def looked_at(self) -> tuple[str, ...]:
        """The sources that get runs of their own."""
        return tuple(self.sources) or drawing(self.recipe)

    def seeds(self, source: str) -> tuple[int, ...]:
        """The seeds of the runs of an arm; more runs keep those that fewer have.

        With everything free the first whole numbers, as other runs in the store have them. With one source free seeds in
        [2^30, 2^31): no run of it repeats one of another arm, so the arms' spreads are independent. Free seeds are never
        the held one: that would be the computation with everything held, in every arm. With everything held the seed
        only names the run.
        """
        if source == HELD:
            return tuple(range(self.runs))
        if source == FREE:
            return tuple(itertools.islice((seed for seed in itertools.count() if seed != self.held), self.runs))
        found: dict[int, None] = {}
        draws = ((1 << 30) + (key(k, f"variance seed {source}") >> 34) for k in itertools.count())
        while len(found) < self.runs:
            seed = next(draws)
            if seed != self.held:
                found[seed] = None
        return tuple(found)

    def jobs(self) -> list[Job]:
        """All runs, one of every arm after the other, so that a study that is stopped has as many of each."""
        arms = {name: (self.arm(name), self.seeds(name)) for name in (FREE, HELD, *self.looked_at)}
        return [
            Job(name, arm.duration, k, seeds[k], arm, run_identity(arm, seeds[k]))
            for k in range(self.runs)
            for name, (arm, seeds) in arms.items()
        ]


def read_plan(values: Mapping[str, Any]) -> SourcesPlan:
    """A plan from the values of a YAML file: `recipe`, and if wanted runs, sources, held; or a recipe's own fields.

    Raises UnknownName for other fields, InvalidValue for values as `SourcesPlan` does.
    """
    if "recipe" not in values:
        return SourcesPlan(Recipe.from_dict(values))
    known = list(SourcesPlan.__dataclass_fields__)
    for name in values:
        if name not in known:
            raise unknown("field of a plan", name, known)
    if not isinstance(values["recipe"], Mapping):
        raise InvalidValue(
            f"a plan's recipe is a mapping of recipe fields, got {values['recipe']!r}; see reinvest train --help"
        )
    rest = {name: value for name, value in values.items() if name != "recipe"}
    return SourcesPlan(Recipe.from_dict(values["recipe"]), **rest)


def drawing(recipe: Recipe) -> tuple[str, ...]:
    """The sources from which a run of this recipe draws, found by one step of it; methods count if there are any.

    Initial weights and the order of the examples always are. Call inside `store.lending()` if methods need earlier runs.
    """
    found = ["init", "order"]
    one, other = (_first_batch(recipe.with_(seeds={"augment": seed, "order": 0})) for seed in (1, 2))
    if not torch.equal(one, other):
        found.append("augment")
    if recipe.methods:
        found.append("methods")
    if _uses_torch(recipe):
        found.append("dropout")
    return tuple(found)


def _first_batch(recipe: Recipe) -> Tensor:
    batch = next(iter(Session(recipe, 0).loader(0, 0)))
    return torch.as_tensor(batch[1]).clone()


def _uses_torch(recipe: Recipe) -> bool:
    """Whether a training step moves torch's own generator."""
    session = Session(recipe, 0)
    with torch.random.fork_rng(), warnings.catch_warnings(), session.attached() as methods:
        warnings.simplefilter("ignore", NoEffectWarning)
        session.model.train()
        batch = next(iter(methods.batches(session.loader(0, 0))))
        before = torch.get_rng_state()
        session.step(batch)
        return not torch.equal(before, torch.get_rng_state())


def estimate_sources(plan: SourcesPlan, store: Any, **machine: Any) -> dict[str, Any]:
    """What a plan would cost: {"runs", "found", "hours", "sources", "absent", "workers"}; a dozen trial steps price it.

    And what it could tell: "tells", the ratio of standard deviations of two sources that is told in 4 of 5 studies, None of
    too few runs or of one source; "twice", the runs each that tell a ratio of 2.
    """
    plan, where = _resolved(plan, store), _machine(plan, **machine)
    with store.lending():
        drawn = drawing(plan.recipe)
        plan = replace(plan, sources=plan.sources or drawn)
        jobs = plan.jobs()
        todo = sum(found(job, store) is None for job in jobs)
        seconds = probe(plan.recipe, where)[0] * steps_of(plan.recipe) * todo
    pairs = math.comb(len(plan.sources), 2)
    return {
        "runs": len(jobs),
        "found": len(jobs) - todo,
        "hours": seconds / where.workers / 3600,
        "sources": list(plan.sources),
        "absent": [name for name in SOURCES if name not in (*plan.sources, *drawn)],
        "workers": where.workers,
        "tells": smallest_told(plan.runs, pairs) if pairs and plan.runs >= COMPARED_FROM else None,
        "twice": runs_to_tell(2.0, pairs) if pairs else None,
    }


def variance_sources(
    plan: SourcesPlan,
    store: Any,
    *,
    metric: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    listener: Listener | None = None,
) -> Variance:
    """Train what the store lacks of a plan and say how much of the spread each source makes.

    The result is that of `variance` over the runs with everything free, with the table of sources in it. Raises
    InvalidValue where an arm has fewer than 2 runs with a finite quality.
    """
    listener, begun = listener or Listener(), time.perf_counter()
    plan = _resolved(plan, store)
    machine = _machine(plan, workers, threads, device)
    with store.lending():
        drawn = drawing(plan.recipe)
        plan = replace(plan, sources=plan.sources or drawn)
        jobs = plan.jobs()
    todo = [job for job in jobs if found(job, store) is None]
    listener.planned(jobs, todo)
    try:
        with threads_of(machine):
            execute(todo, store, machine, on_done=listener.done)
    finally:
        stop_workers()
    runs = {name: [found(job, store) for job in jobs if job.arm == name] for name in (FREE, HELD, *plan.sources)}
    chosen = sorted_out(runs[FREE])
    name, _, size = metric_of(chosen, metric, "test")
    result = variance_of(chosen, store, metric=name, device=device)
    result["title"] = f"Sources of variance: {result['task']['name']} {result['model']}, {plan.runs} runs each"
    step = 1 / size if is_accuracy(name) and size is not None else 0.0
    result["sources"] = _sources(plan, runs, name, step)
    asleep = _asleep(plan, runs)
    result["sources"]["absent"] = [one for one in SOURCES if one in asleep or one not in (*plan.sources, *drawn)]
    result["sources"]["left"] = [one for one in drawn if one not in plan.sources]
    result["cost"] = {"runs": len(jobs), "found": len(jobs) - len(todo), "seconds": time.perf_counter() - begun}
    result["statements"] = statements(result)
    return Variance(result)


def _resolved(plan: SourcesPlan, store: Any) -> SourcesPlan:
    """The plan whose recipe names the runs that it builds on by full ids, as their stored runs do."""
    return replace(plan, recipe=plan.recipe.resolved(functools.partial(full_id, store)))


def _machine(plan: SourcesPlan, workers: int | None = None, threads: int | None = None, device: str = "cpu") -> Machine:
    study: Any = SimpleNamespace(all_arms=lambda: {"base": plan.recipe})
    return machine_for(study, workers, threads, device)


def _sources(plan: SourcesPlan, runs: Mapping[str, Sequence[Any]], metric: str, step: float) -> dict[str, Any]:
    values = {name: [_quality(run, metric) for run in own] for name, own in runs.items()}
    finite = {name: [v for v in own if math.isfinite(v)] for name, own in values.items()}
    for name, own in finite.items():
        if len(own) < 2:
            raise InvalidValue(
                f"a source's spread is over 2 runs or more that did not diverge, got {len(own)} of {len(values[name])} with "
                f"{name or 'everything'} free; train a recipe that does not diverge, or more runs"
            )
    table = by_source({name: finite[name] for name in plan.sources}, whole=finite[FREE], none=finite[HELD])
    same_bits = len({_bits(run) for run in runs[HELD]}) == 1
    asleep = _asleep(plan, runs)
    # What the machine adds is one more source, where it adds anything.
    alive = [*(name for name in plan.sources if name not in asleep), *([] if same_bits else [HELD])]

    def entry(part: Part) -> dict[str, Any]:
        own = values[part.source]
        return {
            **asdict(part),
            "sd": part.sd,
            "values": finite[part.source],
            "diverged": len(own) - len(finite[part.source]),
        }

    return {
        "runs": plan.runs,
        "held": plan.held,
        "parts": [entry(part) for part in table.parts],
        "whole": entry(table.whole),
        "none": entry(table.none),
        "unexplained": {
            "share": table.unexplained,
            "low": table.unexplained_low,
            "high": table.unexplained_high,
        },
        "same_bits": same_bits,
        "compared": compared({name: finite[name] for name in alive or [HELD]}, step),
    }


def _asleep(plan: SourcesPlan, runs: Mapping[str, Sequence[Any]]) -> list[str]:
    """The sources whose runs are, bit for bit, those with everything held: methods are there that draw nothing."""
    held = {_bits(run) for run in runs[HELD]}
    return [name for name in plan.sources if len(held) == 1 and {_bits(run) for run in runs[name]} == held]


def compared(values: Mapping[str, Sequence[float]], step: float) -> dict[str, Any]:
    """Every pair of sources, with what so many runs can tell; "runs": of the source that has fewest."""
    pairs = ratios(values, step=step)
    fewest, count = min(map(len, values.values())), max(len(pairs), 1)
    return {
        "runs": fewest,
        "pairs": [asdict(pair) for pair in pairs],
        "smallest": smallest_told(fewest, count) if fewest >= COMPARED_FROM else None,
        "twice": runs_to_tell(2.0, count),
    }


def _quality(run: Any, metric: str) -> float:
    return float(run.quality(metric, "test")) if run.status == "finished" else math.nan


def _bits(run: Any) -> str:
    """A hash of the weights that a run ended with."""
    if run.status != "finished":
        return str(run.id)
    path = Path(run.path) / WEIGHTS
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else str(run.id)
