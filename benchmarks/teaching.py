"""Students of several lengths under one way of asking the teacher each, against plain training.

python -m benchmarks.teaching benchmarks/plans/teaching_cifar100.yaml --store STORE [--out RESULT.json] [--workers 1]

Teachers and students are trained by the library (runs that the store holds are not repeated); seconds per step come from
one paired timing block over all arms; each arm gets a verdict against "plain". Beside it, at each length: the accuracy,
the share of the gain of "forward" (online distillation) that each arm keeps at equal steps, and the local speed-up
t_plain(q) / t_arm, where q is the arm's mean quality and t_plain is read off the plain curve (linear in log time); its
interval is by the delta method, with t quantiles, the seeds of both arms and the error of the timing block. A teacher's own cost is left out, as it
exists; `teacher` says what it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch
import yaml
from scipy import stats

import reinvest as ri
from reinvest.core.streams import key
from reinvest.evaluation.execute import Machine, execute, stop_workers
from reinvest.evaluation.plan import Job, found
from reinvest.evaluation.settings import direction
from reinvest.evaluation.timing import Block, run_seconds, strata_of, timing_block
from reinvest.loop.session import Session, run_identity


def job(arm: str, recipe: ri.Recipe, replicate: int) -> Job:
    """A run with a seed that no other run of the study has."""
    seed = key(replicate, f"teaching {arm} {recipe.duration}") >> 33
    return Job(arm, recipe.duration, replicate, seed, recipe, run_identity(recipe, seed))


def students(plan: dict[str, Any], base: ri.Recipe, teachers: list[Any]) -> dict[str, list[ri.Recipe]]:
    """arm -> its recipe for each replicate (without a duration yet)."""
    arms = {"plain": {}} | plan["arms"]
    return {name: [student(arm, base, teachers, i) for i in range(len(teachers))] for name, arm in arms.items()}


def student(arm: dict[str, Any], base: ri.Recipe, teachers: list[Any], i: int) -> ri.Recipe:
    """The recipe of replicate `i` under an arm.

    An arm has `methods`, `distill` (arguments of Distill), `warm_start` (those of WarmStart) and `rate`, a factor on the
    learning rate. Student i has teacher i; with `teachers: n` the pool of that and the n - 1 after it.
    """
    ids = [teachers[(i + k) % len(teachers)].id for k in range(arm.get("teachers", 1))]
    methods: list[Any] = list(arm.get("methods", ()))
    if "warm_start" in arm:
        methods.append(ri.WarmStart(ids[0], **arm["warm_start"]))
    if "distill" in arm:
        methods.append(ri.Distill(ids if len(ids) > 1 else ids[0], **arm["distill"]))
    optimizer = {**base.optimizer, "lr": base.optimizer["lr"] * arm.get("rate", 1)}
    return base.with_(*methods, optimizer=optimizer)


def teacher_of(plan: dict[str, Any], base: ri.Recipe) -> ri.Recipe:
    """The recipe of the teachers: the plan says their duration, or what differs from the students' recipe."""
    changes = plan["teacher"]
    return base.with_(**(changes if isinstance(changes, dict) else {"duration": changes}))


def run(plan: dict[str, Any], store: ri.Store, machine: Machine, rounds: int) -> dict[str, Any]:
    """Train what is missing, time, judge."""
    base = ri.Recipe.from_dict({**plan["recipe"], "duration": plan["durations"][0]})
    of_teachers = teacher_of(plan, base)
    first = [job("teacher", of_teachers, r) for r in range(plan["replicates"])]
    execute([j for j in first if found(j, store) is None], store, machine)
    teachers = [found(j, store) for j in first]
    arms = students(plan, base, teachers)
    jobs = [
        job(name, dataclasses.replace(recipe, duration=duration), replicate)
        for replicate in range(plan["replicates"])
        for duration in plan["durations"]
        for name, recipes in arms.items()
        for recipe in [recipes[replicate]]
    ]
    todo = [j for j in jobs if found(j, store) is None]
    print(f"{len(jobs)} runs, {len(todo)} to train", flush=True)
    execute(todo, store, machine, on_done=lambda j: print(j.arm, j.duration, j.replicate, flush=True))
    stop_workers()
    middle = plan["durations"][len(plan["durations"]) // 2]
    with store.lending():
        timed = {name: dataclasses.replace(recipes[0], duration=middle) for name, recipes in arms.items()}
        block = timing_block(timed, "plain", rounds=rounds, device=machine.device)
        points = [point(j, found(j, store), block, plan["metric"]) for j in jobs]
    return result(plan, points, block, teachers, arms)


def point(j: Job, done: Any, block: Block, metric: str) -> dict[str, Any]:
    """A run as (seconds, quality): steps priced by the block, and what its methods cost once."""
    assert isinstance(j.what, ri.Recipe)
    session = Session(j.what, j.seed)
    with session.attached() as methods:
        methods.reports = False
        counts = {s: len(steps) for s, steps in strata_of(session, session.total_steps).items()}
    once = float(done.cost.get("one_off_seconds", 0.0))
    finished = done.status == "finished"
    return {
        "arm": j.arm,
        "duration": j.duration,
        "seed": j.seed,
        "replicate": j.replicate,
        "seconds": run_seconds(block.arms[j.arm], counts) + once,
        "one_off_seconds": once,
        "quality": done.quality(metric) if finished else math.nan,
        "status": done.status,
        "steps": done.steps,
        "run": done.id,
    }


def result(
    plan: dict[str, Any], points: list[dict[str, Any]], block: Block, teachers: list[Any], arms: Any
) -> dict[str, Any]:
    """Everything that the study found, as plain values."""
    names = [n for n in arms if n != "plain"]
    timing = {n: {"log_ratio_variance": block.arms[n].log_ratio_variance, "df": block.arms[n].df} for n in names}
    metric = plan["metric"]
    judged = ri.verdict(points, baseline="plain", timing=timing, metric=metric)
    sign = 1.0 if direction(metric, None) else -1.0
    table = {n: {d: cell(points, n, d) for d in plan["durations"]} for n in arms}
    for n in names:
        for d in plan["durations"]:
            gain = sign * (table["forward"][d]["mean"] - table["plain"][d]["mean"]) if "forward" in table else None
            table[n][d]["gain"] = sign * (table[n][d]["mean"] - table["plain"][d]["mean"])
            table[n][d]["share_of_forward_gain"] = table[n][d]["gain"] / gain if gain else None
            table[n][d]["share_interval"] = share_interval(points, n, d) if "forward" in table else None
            table[n][d]["local_speedup"] = local_speedup(
                table["plain"], table[n][d], block.arms[n].log_ratio_variance, sign
            )
    return {
        "plan": plan,
        "facts": ri.facts(),
        "clock": block.clock,
        "step_ratios": {n: [math.exp(t.log_ratio), *t.interval()] for n, t in block.arms.items()},
        "teacher": {
            "quality": [t.quality(plan.get("teacher_metric", metric)) for t in teachers],
            "steps": teachers[0].steps,
            "seconds": statistics.fmean(t.seconds for t in teachers),
        },
        "flags": [
            "students of several lengths share their teachers: the lengths of an arm are not independent of each other",
            f"intervals of shares are bootstrapped over {plan['replicates']} replicates, which makes them too short",
        ],
        "table": table,
        "verdicts": {n: v.to_dict() for n, v in judged.items()},
        "points": points,
    }


def cell(points: list[dict[str, Any]], arm: str, duration: str) -> dict[str, Any]:
    """Mean, standard error, n and mean seconds of one arm at one length."""
    rows = [p for p in points if p["arm"] == arm and p["duration"] == duration]
    values = [p["quality"] for p in rows]
    return {
        "mean": statistics.fmean(values),
        "se": statistics.stdev(values) / math.sqrt(len(values)),
        "n": len(values),
        "seconds": statistics.fmean(p["seconds"] for p in rows),
    }


def share_interval(points: list[dict[str, Any]], arm: str, duration: str, draws: int = 4000) -> list[float]:
    """95 % percentile interval of an arm's share of the gain of "forward", replicates drawn with replacement."""
    ordered = sorted(points, key=lambda p: p["replicate"])
    own = [
        torch.tensor([p["quality"] for p in ordered if (p["arm"], p["duration"]) == (n, duration)], dtype=torch.float64)
        for n in ("plain", "forward", arm)
    ]
    rows = torch.randint(len(own[0]), (draws, len(own[0])), generator=torch.Generator().manual_seed(0))
    plain, forward, taught = (values[rows].mean(1) for values in own)
    low, high = ((taught - plain) / (forward - plain)).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return [low, high]


def local_speedup(
    plain: dict[str, dict[str, Any]], arm: dict[str, Any], timing: float, sign: float = 1.0
) -> dict[str, Any] | None:
    """Plain seconds to the arm's quality over the arm's seconds, with interval; None outside the plain curve's range."""
    cells = list(plain.values())
    for a, b in itertools.pairwise(cells):
        if sign * a["mean"] <= sign * arm["mean"] <= sign * b["mean"]:
            slope = (b["mean"] - a["mean"]) / math.log(b["seconds"] / a["seconds"])
            part = (arm["mean"] - a["mean"]) / (b["mean"] - a["mean"])
            seconds = math.exp(math.log(a["seconds"]) + part * math.log(b["seconds"] / a["seconds"]))
            error = math.sqrt(arm["se"] ** 2 + ((1 - part) * a["se"]) ** 2 + (part * b["se"]) ** 2) / abs(slope)
            half = float(stats.t.ppf(0.975, 2 * (arm["n"] - 1))) * math.hypot(error, math.sqrt(timing))
            value = math.log(seconds / arm["seconds"])
            return {"value": math.exp(value), "low": math.exp(value - half), "high": math.exp(value + half)}
    return None


def main() -> None:
    """Run a plan and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--store", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    plan = yaml.safe_load(chosen.plan.read_text())
    found_result = run(plan, ri.Store(chosen.store), Machine(chosen.workers, 1, chosen.device), chosen.rounds)
    if chosen.out:
        chosen.out.write_text(json.dumps(found_result, indent=1) + "\n")
    for name, row in found_result["table"].items():
        for duration, values in row.items():
            print(json.dumps({"arm": name, "duration": duration} | values))
    for name, judged in found_result["verdicts"].items():
        print(name, judged["verdict"], judged["sentence"])


if __name__ == "__main__":
    main()
