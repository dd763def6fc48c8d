"""`plan_study`: what a study can show, and what it costs, before it is paid for.

The noise of seeds is learned from runs that the store holds already (of the baseline, or else of the arm that has most) or
from a pilot, which is the beginning of the study itself. What its seeds can then show is `design`'s business.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..core.errors import InvalidValue
from ..core.recipe import Recipe
from ..loop.session import run_identity
from ..loop.train import full_id
from .compare import point_of, shown_of, with_metric
from .design import Noise, looked, noise_factors, noise_of, smallest_looked
from .drawing import drawable_arm, mean_curve
from .estimate import hours_by_arm, paced, prices
from .execute import Machine, machine_for
from .looks import Look, declared
from .onerun import SEPARATE
from .outcome import plain
from .pilot import ENOUGH, LEAST, sized
from .plan import Job, distinct, found, plan
from .plan_text import statements
from .settings import check_settings
from .study import MIN_SEEDS, Study
from .study_checks import LEVEL

EFFECTS = (1.05, 1.1, 1.2, 1.3)
"""Speed-ups whose seeds are asked for where nothing else is."""
FEWEST, MOST = 10, 40
"""Seeds up to which the picture goes, at least and at most."""
SCHEMA = 1


def plan_study(
    study: Study,
    store: Any,
    *,
    effects: Sequence[float] = EFFECTS,
    price: float | None = None,
    currency: str = "",
    workers: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    reproduce: str = "",
) -> dict[str, Any]:
    """What a study can show with its seeds, which seeds an effect needs, and the hours and money of both: plain values.

    effects: speed-ups (> 1); price: of an hour of this machine (> 0), in `currency`; reproduce: the command to print. "noise" is
    None, with a "reason", where no arm has 2 finished runs or more at every duration. Raises InvalidValue.
    """
    check_asked(effects, price)
    study = with_metric(study.resolved(functools.partial(full_id, store)))
    machine = machine_for(study, workers, threads, device)
    jobs = plan(sized(study, max(study.seeds, MOST)))
    held = {job: run for job in jobs if (run := found(job, store)) is not None}
    known = _known(study, held, store)
    seconds, guessed = _seconds(study, held, store, machine)
    bill = _Bill(study, [job for job in jobs if job not in held], seconds, machine, price)
    looks = declared(study.looks, LEVEL, study.spending) if study.looks else []
    alpha = looks[-1].alpha if looks else LEVEL
    noise = known.noise
    planned = {"seeds": study.seeds, **_smallest(noise, study.seeds, alpha), **bill.of(study.seeds)}
    wanted: list[dict[str, Any]] = [
        {"effect": float(effect), **_needed(noise, study.seeds, effect, alpha)} for effect in effects
    ]
    if noise is not None and looks:
        planned |= _smallest_looked(noise, looks)
    result = {
        **_head(study, reproduce),
        "alpha": LEVEL,
        "price": price,
        "currency": None if price is None else currency,
        "noise": None if noise is None else {"arm": known.arm, "runs": noise.runs, "cells": known.cells},
        "reason": known.reason,
        "planned": planned,
        "by_seeds": [{"seeds": n, **_smallest(noise, n, alpha), **bill.of(n)} for n in _shown(study, wanted)],
        "effects": [{**row, **bill.of(row["seeds"])} for row in wanted],
        "looks": _looks(noise, looks, effects, bill) if looks else None,
        "cost": bill.whole(),
        "notes": [*known.notes, *bill.notes, *guessed],
    }
    return {**result, "statements": statements(result)}


def check_asked(effects: Sequence[float] = EFFECTS, price: float | None = None) -> None:
    """Refuse effects and prices that nothing can be planned with."""
    if not effects:
        raise InvalidValue("effects are speed-ups above 1, at least one, got none; write e.g. --effect 1.1")
    for effect in effects:
        if not (math.isfinite(effect) and effect > 1.0):
            raise InvalidValue(
                f"an effect is a speed-up above 1, got {effect:g}; 1.1 is a tenth faster, and a loss is found as often"
            )
    if price is not None and not (math.isfinite(price) and price > 0.0):
        raise InvalidValue(f"a price is above 0, got {price:g}; leave it out to plan in hours alone")


def _head(study: Study, reproduce: str) -> dict[str, Any]:
    import yaml

    from .. import __version__

    return {
        "schema": SCHEMA,
        "kind": "plan",
        "title": f"Plan: {study.title or ', '.join(study.arms) + ' against ' + study.baseline_name}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "baseline": study.baseline_name,
        "arms": list(study.arms),
        "durations": list(study.durations),
        "metric": study.metric,
        "reproduce": {
            "command": reproduce,
            "study": yaml.safe_dump(study.to_dict(), sort_keys=False, allow_unicode=True),
        },
    }


# ---- what is known of the noise ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """The noise, of which arm it is, its cells as plain values, why there is none, and what to read it with."""

    noise: Noise | None
    arm: str = ""
    cells: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()


def _known(study: Study, held: Mapping[Job, Any], store: Any) -> _Known:
    rows = {name: _rows(study, name, held, store) for name in study.all_arms()}
    fewest = {name: min(_counts(study, some).values()) for name, some in rows.items()}
    # The baseline is what every arm is compared with; another arm speaks for it only where it has too few runs.
    first = study.baseline_name
    arm = first if fewest[first] >= LEAST else max(rows, key=lambda name: fewest[name])
    if fewest[arm] < LEAST:
        had = ", ".join(f"{d} {n}" for d, n in _counts(study, rows[first]).items())
        return _Known(
            None,
            reason=f"the noise of seeds is learned from {LEAST} finished runs or more at every duration, got {had} of "
            f"{first!r} and no more of another arm; add --pilot {ENOUGH}, which trains the first {ENOUGH} seeds of the "
            "baseline and keeps them for the study",
        )
    shown = shown_of(study)
    options = {name: shown[name] for name in ("higher_is_better", "test_examples")}
    built, variances, _ = drawable_arm(rows[arm], arm, **options)
    if built is None or variances is None or set(built.labels) != set(study.durations) or not built.has_curve:
        return _Known(
            None,
            reason=f"the noise of seeds is learned from runs whose {study.metric} varies and has a place below its best, "
            f"got {arm!r} whose runs are all alike at some duration; check that the seed reaches the runs",
        )
    noise = noise_of(built, rho=check_settings(metric=study.metric).rho, paired=study.pairs is not None)
    cells = []
    for cell in mean_curve(rows[arm], arm, **shown).cells:
        low, high = noise_factors(cell.n - 1.0)
        ends = {
            f"{what}_{end}": plain(getattr(cell, what) * by)
            for what in ("sd", "sd_time")
            for end, by in (("low", low), ("high", high))
        }
        cells.append({**cell.to_dict(), **ends})
    return _Known(noise, arm, tuple(cells), notes=tuple(_notes(study, noise, arm)))


def _notes(study: Study, noise: Noise, arm: str) -> Iterator[str]:
    if arm != study.baseline_name:
        yield f"the noise is that of {arm!r}, because the baseline has too few runs"
    if noise.runs < ENOUGH:
        yield f"the noise is learned from {noise.runs} runs a duration only; --pilot {ENOUGH} tells more"
    yield "all arms are taken to be as noisy as this one, and a speed-up to be the same at every duration"
    if study.pairs is not None:
        yield "arms are paired by seed: how far pairs agree is not known before and taken as not at all; if they do, fewer seeds suffice"
    if all(isinstance(a, Recipe) for a in study.all_arms().values()):
        yield "the timing block's error, which compare adds, is not known before and not counted"


def _counts(study: Study, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {d: sum(r["duration"] == d for r in rows) for d in study.durations}


def _rows(study: Study, name: str, held: Mapping[Job, Any], store: Any) -> list[dict[str, Any]]:
    """Finished points of an arm: the study's own runs in the store, and others of the same recipe with other seeds."""
    mine = {job: run for job, run in held.items() if job.arm == name}
    arm = study.all_arms()[name]
    if isinstance(arm, Recipe) and study.curve == SEPARATE:
        mine |= _same_recipe(study, name, arm, store, {run.id for run in mine.values()})
    rows = [point_of(study, job, run, {}) for job, run in mine.items()]
    rows = [row for row in rows if row["status"] == "finished" and math.isfinite(row["quality"])]
    timed = [r for r in rows if r["steps"] and r["seconds"] > 0.0]
    if not isinstance(arm, Recipe) or len(timed) < len(rows):
        return rows
    # Compare takes the seconds of a step from one timing block, so that runs of a cell differ in quality alone.
    step = math.exp(sum(math.log(r["seconds"] / r["steps"]) for r in timed) / max(len(timed), 1))
    return [{**r, "seconds": step * r["steps"]} for r in rows]


def _same_recipe(study: Study, name: str, arm: Recipe, store: Any, known: set[str]) -> dict[Job, Any]:
    others = {}
    for run in store.runs(task=arm.task["name"], status="finished"):
        duration = run.config.get("duration")
        if run.id in known or duration not in study.durations:
            continue
        recipe = replace(arm, duration=duration)
        if run.identity == run_identity(recipe, run.seed):
            others[Job(name, duration, -1, run.seed, recipe, run.identity)] = run
    return others


# ---- what it shows -------------------------------------------------------------------------------------------------


def _smallest(noise: Noise | None, seeds: int, alpha: float) -> dict[str, float | None]:
    """The smallest effect shown with 80 %, and its range for how well the noise is known."""
    if noise is None:
        return {"smallest_effect": None, "low": None, "high": None, "df": None}
    design = noise.design(seeds)
    low, high = design.factors
    effect, least, most = (plain(design.smallest_effect(alpha, by)) for by in (1.0, low, high))
    return {"smallest_effect": effect, "low": least, "high": most, "df": design.df}


def _smallest_looked(noise: Noise, looks: Sequence[Look]) -> dict[str, float | None]:
    designs = [noise.design(look.seeds) for look in looks]
    found_effects = []
    for by in (1.0, *designs[-1].factors):
        found_effects.append(plain(smallest_looked([replace(d, se=by * d.se) for d in designs], looks)))
    return dict(zip(("smallest_effect", "low", "high"), found_effects, strict=True))


def _needed(noise: Noise | None, seeds: int, effect: float, alpha: float) -> dict[str, int | None]:
    """Seeds that an effect needs, and their range for how well the noise is known (None: unknown, or beyond 10,000)."""
    if noise is None:
        return {"seeds": None, "seeds_low": None, "seeds_high": None}
    design = noise.design(seeds)
    low, high = design.factors
    found_seeds = [design.seeds_for(effect, alpha, by) for by in (1.0, low, high)]
    return dict(zip(("seeds", "seeds_low", "seeds_high"), found_seeds, strict=True))


def _shown(study: Study, wanted: Sequence[Mapping[str, Any]]) -> range:
    """The seeds of the picture: up to twice the planned ones, and as far as an asked effect needs, within limits."""
    known = [row["seeds"] for row in wanted if row["seeds"] is not None and row["seeds"] <= MOST]
    last = max([2 * study.seeds, *known, FEWEST])
    return range(MIN_SEEDS, min(last, max(MOST, study.seeds)) + 1)


def _looks(noise: Noise | None, looks: Sequence[Look], effects: Sequence[float], bill: _Bill) -> dict[str, Any]:
    designs = [] if noise is None else [noise.design(look.seeds) for look in looks]
    taken = []
    for k, look in enumerate(looks):
        effect = plain(designs[k].smallest_effect(look.alpha)) if designs else None
        taken.append({"seeds": look.seeds, "alpha": look.alpha, "smallest_effect": effect, **bill.of(look.seeds)})
    ends = [(effect, *looked(designs, looks, effect)) for effect in effects] if designs else []
    return {
        "spending": looks[0].spending,
        "taken": taken,
        "effects": [{"effect": float(e), "found": p, "mean_seeds": n} for e, p, n in ends],
    }


# ---- what it costs -------------------------------------------------------------------------------------------------


def _seconds(
    study: Study, held: Mapping[Job, Any], store: Any, machine: Machine
) -> tuple[dict[tuple[str, str], float], list[str]]:
    """Seconds of one run by (arm, duration): by the runs that there are, of recipes else by trial steps; a note on that."""
    priced, known = paced(prices(study.all_arms(), study.durations, store, machine), held, machine)
    seconds = {(name, d): price.seconds(d) for name, price in priced.items() for d in study.durations}
    for name in study.all_arms():
        for d in study.durations:
            runs = [run.seconds for job, run in held.items() if job.arm == name and job.duration == d]
            taken = [s for s in runs if s is not None]
            if taken and (name, d) not in seconds:
                seconds[name, d] = sum(taken) / len(taken)
    whole = {name for name in study.all_arms() if all((name, d) in seconds for d in study.durations)}
    guessed = [
        "hours are a first guess, by a dozen trial steps; runs of this machine in the store, such as a pilot's, tell better"
    ]
    return {at: value for at, value in seconds.items() if at[0] in whole}, guessed if priced and not known else []


class _Bill:
    """Runs, hours and money that the store lacks for any number of seeds."""

    def __init__(
        self,
        study: Study,
        todo: Sequence[Job],
        seconds: Mapping[tuple[str, str], float],
        machine: Machine,
        price: float | None,
    ) -> None:
        self._study, self._todo, self._machine, self._price = study, todo, machine, price
        self._planned = max(study.seeds, MOST)
        self._seconds = dict(seconds)
        self.notes = ["hours are of training alone: evaluation and the timing block come on top"]
        known = [name for name in study.all_arms() if (name, study.durations[0]) in seconds]
        if not known:
            self.notes = ["hours are not known: no arm is a recipe, and none has a run at every duration"]
            return
        for name in study.all_arms():
            # Of an arm that nobody has run, another's seconds (the baseline's, if there are any) are the best guess.
            if name not in known:
                self._seconds |= {(name, d): seconds[known[0], d] for d in study.durations}
                self.notes.append(
                    f"no runs of {name!r} say what one takes: its hours are counted as those of {known[0]!r}"
                )

    def _hours(self, todo: Sequence[Job]) -> float | None:
        if not self._seconds:
            return None
        return sum(hours_by_arm(self._study, todo, self._seconds, self._machine).values())

    def of(self, seeds: int | None) -> dict[str, Any]:
        """{"runs", "hours", "money"} that are lacking for this number of seeds; None where not known."""
        if seeds is None:
            return {"runs": None, "hours": None, "money": None}
        todo = [job for job in self._todo if job.replicate < seeds]
        runs, hours = distinct(todo), self._hours(todo)
        if seeds > self._planned:
            # Nothing of what lies beyond is in the store.
            beyond = seeds - self._planned
            one = [job for job in plan(sized(self._study, MIN_SEEDS)) if job.replicate == 0]
            runs += beyond * distinct(one)
            hours = None if hours is None else hours + beyond * (self._hours(one) or 0.0)
        money = None if hours is None or self._price is None else hours * self._price
        return {"runs": runs, "hours": hours, "money": money}

    def whole(self) -> dict[str, Any]:
        """What the study as it is planned takes: runs in all, those in the store, hours in all and by arm, money."""
        total = distinct(plan(sized(self._study, self._study.seeds)))
        lacking = self.of(self._study.seeds)
        todo = [job for job in self._todo if job.replicate < self._study.seeds]
        return {
            "runs": total,
            "found": total - lacking["runs"],
            "hours": lacking["hours"],
            "money": lacking["money"],
            "hours_by_arm": hours_by_arm(self._study, todo, self._seconds, self._machine),
            "workers": self._machine.workers,
            "threads": self._machine.threads,
        }
