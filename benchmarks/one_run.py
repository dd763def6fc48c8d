"""Does a curve out of one run say what separate runs say, and for how much? The plan is a file; results are one JSON.

    python -m benchmarks.one_run benchmarks/plans/one_run.yaml [--store S] [--workers 1] [--out FILE]

Runs are kept in the store and never trained twice.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import yaml
from scipy.stats import t

import reinvest as ri
from benchmarks.running import give, plan_options
from reinvest.evaluation.compare import Listener, run_study
from reinvest.evaluation.onerun import SEPARATE, deviations, share_of_separate
from reinvest.evaluation.study import Study

Curves = dict[str, dict[str, list[float]]]
"""arm -> duration -> accuracy of each replicate, in order."""


def curves_of(result: Mapping[str, Any]) -> Curves:
    """Test accuracies of a comparison; points of an arm and duration keep the order of their replicates."""
    found: Curves = {}
    for name, arm in result["arms"].items():
        for point in arm["points"]:
            found.setdefault(name, {}).setdefault(point["duration"], []).append(point["quality"])
    return found


def steps_of(study: Study, store: ri.Store) -> int:
    """Optimizer steps that the runs of one kind took, what branches share with their trunks counted once."""
    from reinvest.evaluation.plan import found, plan

    total = 0
    for job in {job.identity: job for job in plan(study)}.values():
        run = found(job, store)
        total += run.steps - run.facts.get("branch", {}).get("step", 0)
    return total


def effects(curves: Curves, baseline: str, method: str) -> list[float]:
    """Method less baseline, mean over the durations, of each replicate."""
    rows = [[m - b for m, b in zip(curves[method][d], curves[baseline][d], strict=True)] for d in curves[baseline]]
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Mean difference of independent replicates with its 95 % interval (Welch)."""
    row = deviations({"": list(ours)}, {"": list(theirs)})[0]
    return {name: row[name] for name in ("difference", "low", "high")}


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean with its 95 % t-interval."""
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def compared(curves: Mapping[str, Curves], baseline: str) -> dict[str, Any]:
    """Deviations of each one-run kind from separate runs, and how it rates each method against how those do."""
    found: dict[str, Any] = {}
    separate = curves[SEPARATE]
    for kind, own in curves.items():
        rated = {m: interval(effects(own, baseline, m)) for m in own if m != baseline}
        found[kind] = {"effect": rated}
        if kind != SEPARATE:
            found[kind]["off"] = {arm: deviations(own[arm], separate[arm]) for arm in own}
            found[kind]["bias"] = {
                m: difference(effects(own, baseline, m), effects(separate, baseline, m)) for m in rated
            }
    return found


def main() -> None:
    """Run the plan and print (or write) what was found."""
    chosen = plan_options(__doc__, "runs/one_run", workers=1)
    torch.set_num_threads(1)
    plan = yaml.safe_load(chosen.plan.read_text(encoding="utf8"))
    store = ri.Store(chosen.store)
    result: dict[str, Any] = {"plan": plan, "facts": ri.facts(), "kinds": {}}
    curves: dict[str, Curves] = {}
    for kind in plan["kinds"]:
        study = Study.from_dict({**plan["study"], "curve": kind})
        listener = Listener(done=lambda job: print(job.arm, job.duration, file=sys.stderr, flush=True))
        verdicts = run_study(study, store, workers=chosen.workers, listener=listener)
        curves[kind] = curves_of(verdicts.result)
        result["kinds"][kind] = {
            "steps": steps_of(study, store),
            "planned_share_of_steps": share_of_separate(kind, study.durations),
            "accuracy": curves[kind],
            "verdicts": {
                arm: {"verdict": v.verdict, "sentence": v.sentence, "flags": list(v.flags)}
                for arm, v in verdicts.items()
            },
        }
        print(verdicts, file=sys.stderr, flush=True)
    whole = result["kinds"][SEPARATE]["steps"]
    for own in result["kinds"].values():
        own["share_of_steps"] = own["steps"] / whole
    result["compared"] = compared(curves, Study.from_dict(plan["study"]).baseline_name)
    give(result, chosen.out)


if __name__ == "__main__":
    main()
