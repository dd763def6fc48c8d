"""The result of an equal tuning as plain values: what the page shows and what is kept.

{"schema": 1, "kind": "tuning", "title", "created", "version",
"task": {"name", "metric", "higher_is_better", "selected_on": "validation", "judged_on": "test", "test_examples"},
"baseline", "claim" ("recipe" or "method"), "sampler", "trials", "studies", "seeds", "durations",
"arms": {name: {"about", "recipe", "space" (by path), "duration" (of its trials), "budget": {"trials", "diverged",
"seconds" (set aside), "spent", "own_clock" (what its runs' own clocks add up to)}, "best_of": [{"k", "quality"}], "winners" [{"study", "trial", "run", "quality" (on
validation), "values", "edges" (paths whose value lies at the end of its range)}], "verdict" (None for the baseline)}},
"tried" [{"arm", "study", "trial", "values", "seed", "run", "status", "quality", "steps", "own_clock", "seconds"}],
"prices": {"clock", "rounds", "notes", "flags", "measured", "once" (by arm), "steps" [{"arm", "path", "value" (both None for
an arm's middle configuration), "seconds_per_step", "ratio", "ratio_low", "ratio_high"}]},
"comparison" (a result of kind "comparison" over the winners' runs, or None where no arm was run),
"timing": {"rounds", "clock", "seconds", "notes", "winners" [{"arm", "study", "seconds_per_step", "ratio", "ratio_low",
"ratio_high"}]}, "facts", "flags", "cost", "reproduce": {"command", "plan"}}. None where nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..evaluation.refusals import TUNING
from ..evaluation.result import points_result
from ..evaluation.timing import Block
from .sequence_judge import Metric
from .sequence_result import clean, read_kind
from .tune_budget import charged
from .tune_curves import expectation_curve
from .tune_final import Final, Winners, timed_name
from .tune_plan import TuningPlan, recipes_of
from .tune_prices import Prices
from .tune_space import at_edge, space_to_dict
from .tune_trials import Trial, counted_qualities

SCHEMA = 1


def tuning_result(
    plan: TuningPlan,
    metric: Metric,
    trials: Sequence[Trial],
    winners: Winners,
    budget: Mapping[str, Mapping[str, Any]],
    prices: Prices,
    final: Final,
    *,
    cost: Mapping[str, Any],
    reproduce: str,
) -> dict[str, Any]:
    """Every figure of a finished tuning."""
    import yaml

    from .. import __version__

    title = plan.study.title or f"{_task(plan)}: {', '.join(plan.study.arms)} against {plan.baseline}, all tuned"
    facts: Mapping[str, Any] = trials[0].facts if trials else {}
    result = {
        "schema": SCHEMA,
        "kind": "tuning",
        "title": title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "task": {
            "name": _task(plan),
            "metric": metric.name,
            "higher_is_better": metric.higher_is_better,
            "selected_on": "validation",
            "judged_on": "test",
            "test_examples": metric.test_examples,
        },
        "baseline": plan.baseline,
        "claim": plan.claim,
        "sampler": plan.sampler,
        "trials": plan.trials,
        "studies": plan.studies,
        "seeds": plan.seeds,
        "durations": list(plan.study.durations),
        "arms": _arms(plan, metric, trials, winners, budget, final),
        "tried": [{**t.to_dict(), "seconds": charged(t, prices, t.steps)} for t in trials],
        "prices": prices.to_dict(),
        "comparison": _comparison(plan, metric, final, title, reproduce),
        "timing": None if final.block is None else _timing(plan, final.block),
        "facts": {k: facts.get(k, {}) for k in ("hardware", "software")},
        "flags": [*_flags(plan, final), *prices.flags, *price_flags(plan, winners, prices, final.block)],
        "cost": dict(cost),
        "reproduce": {
            "command": reproduce or "reinvest tune plan.yaml",
            "plan": yaml.safe_dump(plan.to_dict(), sort_keys=False, allow_unicode=True),
        },
    }
    return {k: clean(v) for k, v in result.items()}


def read_tuning(path: str | Path) -> dict[str, Any]:
    """Read a result file. Raises InvalidValue if it is absent, CorruptFile if it is none, SchemaTooNew for a later one."""
    return read_kind(path, "tuning", SCHEMA, "tried", "a tuning's")


def claim_text(result: Mapping[str, Any]) -> str:
    """What the verdicts of this result are about, as two sentences."""
    words = [arm["verdict"]["verdict"] for arm in result["arms"].values() if arm["verdict"] is not None]
    if all(word == "not comparable" for word in words):
        return "no claim. No arm could be judged."
    if result["claim"] == "method":
        return (
            f"claim: method. Each arm was tuned {result['studies']} times independently, and the tuning is the unit of "
            "the test."
        )
    return (
        "claim: recipe. Each arm was tuned once, so the verdict is about these two tuned recipes, not about the method."
    )


def _task(plan: TuningPlan) -> str:
    return str(next(iter(recipes_of(plan.study).values())).task["name"])


def _arms(
    plan: TuningPlan,
    metric: Metric,
    trials: Sequence[Trial],
    winners: Winners,
    budget: Mapping[str, Mapping[str, Any]],
    final: Final,
) -> dict[str, Any]:
    counted = counted_qualities(trials, metric)
    out = {}
    for name, recipe in recipes_of(plan.study).items():
        own = [values for (arm, _), values in counted.items() if arm == name]
        curve = expectation_curve(own, higher_is_better=metric.higher_is_better) if own else []
        out[name] = {
            "about": plan.study.about.get(name, ""),
            "recipe": recipe.to_dict(),
            "space": space_to_dict(plan.spaces[name]),
            "duration": plan.trial_durations[name],
            "budget": dict(budget[name]),
            "best_of": [{"k": k, "quality": quality} for k, quality in curve],
            "winners": [_winner(plan, trial) for (arm, _), trial in winners.items() if arm == name],
            "verdict": final.verdicts[name].to_dict() if name in final.verdicts else None,
        }
    return out


def _winner(plan: TuningPlan, trial: Trial) -> dict[str, Any]:
    space = plan.spaces[trial.arm]
    return {
        "study": trial.study,
        "trial": trial.number,
        "run": trial.run,
        "quality": trial.quality,
        "values": dict(trial.values),
        "edges": [path for path, value in trial.values.items() if at_edge(space[path], value)],
    }


def _comparison(plan: TuningPlan, metric: Metric, final: Final, title: str, reproduce: str) -> dict[str, Any] | None:
    ran = {p["arm"] for p in final.points}
    if not ran:
        return None
    shown = {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "test_examples": metric.test_examples,
    }
    judged = {arm: v for arm, v in final.verdicts.items() if arm in ran}
    # What binds runs in a picture is their trunk: bands are then as wide as the tunings lie apart, not only the seeds.
    points = [{**p, "trunk": p["study"]} for p in final.points]
    return points_result(points, plan.baseline, judged, shown=shown, title=title, reproduce=reproduce)


def _timing(plan: TuningPlan, block: Block) -> dict[str, Any]:
    rows = []
    for arm in recipes_of(plan.study):
        for study in range(1, plan.studies + 1):
            timing = block.arms.get(timed_name(plan, arm, study))
            if timing is None:
                continue
            low, high = timing.interval() if timing.log_ratio_variance > 0 else (None, None)
            rows.append(
                {
                    "arm": arm,
                    "study": study,
                    "seconds_per_step": timing.seconds_per_step,
                    "ratio": math.exp(timing.log_ratio),
                    "ratio_low": low,
                    "ratio_high": high,
                }
            )
    return {
        "rounds": block.rounds,
        "clock": block.clock,
        "seconds": block.seconds,
        "notes": list(block.notes),
        "winners": rows,
    }


def price_flags(plan: TuningPlan, winners: Winners, prices: Prices, block: Block | None) -> list[str]:
    """Winners whose steps, timed themselves, are not what their budgets were charged: between the timed levels of a space a
    price is an assumption."""
    if block is None:
        return []
    flags = []
    base = timed_name(plan, plan.baseline, 1)
    first = prices.step(plan.baseline, winners[plan.baseline, 1].values)
    for (arm, study), trial in winners.items():
        name = timed_name(plan, arm, study)
        if name in block.arms:
            measured = block.arms[name].seconds_per_step / block.arms[base].seconds_per_step
            assumed = prices.step(arm, trial.values) / first
            if max(measured, assumed) > TUNING * min(measured, assumed):
                flags.append(
                    f"a step of the winner of {name} takes {measured:.2f} times the baseline's, and its budget was charged "
                    f"{assumed:.2f}: budgets may differ by more than they seem to; tune fewer of the values that change a "
                    "step's work, or list choices of them"
                )
    return flags


def _flags(plan: TuningPlan, final: Final) -> list[str]:
    flags = [] if final.block is None else list(final.block.flags)
    if plan.claim == "recipe" and final.points:
        flags.append(
            "a verdict on two recipes that were tuned once also rests on how lucky each tuning was; "
            "studies: 3 or more make it one about the method"
        )
    if plan.sampler == "tpe":
        flags.append(
            "TPE follows what it has found, so its trials are not independent: the best-of-k curves describe these trials, "
            "not what k trials would find"
        )
    return flags
