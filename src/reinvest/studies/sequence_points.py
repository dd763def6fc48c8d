"""Points of a sequence study: whole sequences as (cumulated seconds, mean quality), and each run by its position."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .sequence_chain import Chain
from .sequence_cost import Charge, Prices
from .sequence_plan import SequencePlan

ADVISE = "advise"
"""The policy whose runs may each do something else."""

Charges = dict[tuple[str, str, int], list[Charge]]
"""(arm, duration, sequence) -> what each of its runs cost."""


def charges_of(plan: SequencePlan, chains: Sequence[Chain], prices: Prices) -> Charges:
    """What every run cost."""
    return {
        (c.arm, c.duration, c.number): [
            prices.charge(run, c.recipe(k), plan.recipe(k, c.duration), k) for k, run in enumerate(c.runs)
        ]
        for c in chains
    }


def rows_of(plan: SequencePlan, chains: Sequence[Chain], charges: Charges, metric: str) -> list[dict[str, Any]]:
    """One row per run: where it stands, what it cost, cumulated cost, and its test quality (NaN if it diverged).

    methods: those of the recipe that was run, with earlier runs by id; with `advise` nothing else tells what it chose.
    """
    rows = []
    for chain in chains:
        total, steps = 0.0, 0
        for k, (run, charge) in enumerate(
            zip(chain.runs, charges[chain.arm, chain.duration, chain.number], strict=True)
        ):
            total, steps = total + charge.seconds, steps + charge.steps
            rows.append(
                {
                    "arm": chain.arm,
                    "duration": chain.duration,
                    "sequence": chain.number,
                    "position": k + 1,
                    "run": run.id,
                    "status": run.status,
                    "policy": chain.policies[k]["reuse"],
                    "methods": chain.recipe(k).to_dict()["methods"],
                    "steps": charge.steps,
                    "seconds_per_step": charge.seconds_per_step,
                    "ratio": charge.ratio,
                    "ratio_low": charge.low,
                    "ratio_high": charge.high,
                    "one_off": charge.one_off,
                    "seconds": charge.seconds,
                    "cumulated": total,
                    "cumulated_steps": steps,
                    "quality": run.quality(metric, "test") if run.status == "finished" else math.nan,
                }
            )
    return rows


def chosen_of(plan: SequencePlan, chains: Sequence[Chain], arm: str) -> list[dict[str, Any]]:
    """What an arm's runs under `advise` re-use, the most frequent first: [{"methods": text, "runs": how many}]."""
    counts: Counter[str] = Counter()
    for chain in (c for c in chains if c.arm == arm):
        for k in range(len(chain.runs)):
            if chain.policies[k]["reuse"] == ADVISE:
                own = len(plan.recipe(k, chain.duration).methods)
                counts[" + ".join(_called(m) for m in chain.recipe(k).methods[own:]) or "nothing"] += 1
    return [{"methods": text, "runs": count} for text, count in counts.most_common()]


def _called(method: Mapping[str, Any]) -> str:
    return str(method["name"]) + (f" ({method['source']})" if "source" in method else "")


def uses_pool(chain: Chain) -> bool:
    """Whether any run of a chain is built on one from outside."""
    outside = {run.id for run in chain.pool}
    return any(not outside.isdisjoint(run.parents) for run in chain.runs)


def points_of(
    plan: SequencePlan, chains: Sequence[Chain], rows: Sequence[Mapping[str, Any]], teachers: float = 0.0
) -> list[dict[str, Any]]:
    """One point per sequence: all its seconds (plus those of `teachers` if it uses any), mean quality over its positions.

    teachers: seconds of all runs from outside.
    A sequence is one seed of a cell: durations have their own seeds, so its name says which duration it is.
    """
    points = []
    for chain in chains:
        own = [r for r in rows if (r["arm"], r["duration"], r["sequence"]) == (chain.arm, chain.duration, chain.number)]
        extra = teachers if uses_pool(chain) else 0.0
        status = "finished" if chain.complete else own[-1]["status"] if chain.lost else "unfinished"
        points.append(
            {
                "arm": chain.arm,
                "duration": chain.duration,
                "seed": f"{chain.number} at {chain.duration}",
                "sequence": chain.number,
                "steps": sum(r["steps"] for r in own),
                "seconds": sum(r["seconds"] for r in own) + extra,
                "quality": sum(r["quality"] for r in own) / len(own) if chain.complete else math.nan,
                "status": status,
            }
        )
    return points


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def t_interval(values: Sequence[float], alpha: float = 0.05) -> tuple[float, float, float]:
    """(mean, low, high) of Student's 1 - alpha interval; infinite ends for fewer than two values."""
    from scipy import stats

    middle = mean(values)
    if len(values) < 2:
        return middle, -math.inf, math.inf
    variance = math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1)
    half = float(stats.t.ppf(1 - alpha / 2, len(values) - 1)) * math.sqrt(variance / len(values))
    return middle, middle - half, middle + half


def stratified(groups: Sequence[Sequence[float]], alpha: float = 0.05) -> tuple[float, float, float]:
    """(mean over groups of their means, low, high): groups are independent, each with its own variance (Welch)."""
    from scipy import stats

    known = [list(g) for g in groups if len(g) > 1]
    if not known:
        return mean([v for g in groups for v in g]), -math.inf, math.inf
    middle = mean([mean(g) for g in known])
    parts = []
    for group in known:
        centre = mean(group)
        parts.append(
            (
                math.fsum((v - centre) ** 2 for v in group) / (len(group) - 1) / len(group) / len(known) ** 2,
                len(group) - 1,
            )
        )
    total = math.fsum(v for v, _ in parts)
    spread = math.fsum(v * v / df for v, df in parts)
    if spread == 0.0:
        return middle, middle, middle
    half = float(stats.t.ppf(1 - alpha / 2, total * total / spread)) * math.sqrt(total)
    return middle, middle - half, middle + half
