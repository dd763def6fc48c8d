"""`variance`: the quality of a recipe as a distribution over its runs, and how much of the spread is luck of the test set.

Bouthillier et al., 2103.03098; Jordan, 2304.01910; Cooper et al., 2206.11834.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import DataError, InvalidValue, unknown
from ..core.names import resolve
from ..core.recipe import Recipe
from ..dynamics.outcomes import agreement_curve
from ..evaluation.result import write_result
from ..evaluation.variance import (
    Summary,
    binomial_floor,
    predicted_sd,
    probability_better,
    runs_needed,
    summarise,
)
from ..store.run import WEIGHTS
from .outcome_runs import SPLITS, Progress, ask, fingerprint_of, notes_on
from .outcomes import outcomes_of
from .sequence_result import read_kind
from .variance_runs import Chosen, choose, metric_of, of_recipe, sorted_out
from .variance_text import statements

__all__ = ["Variance", "read_variance", "variance", "variance_of"]

SCHEMA = 1


@dataclass(frozen=True)
class Variance:
    """The outcome: `result`, every figure as plain values; its `statements`, one sentence each."""

    result: dict[str, Any]

    @property
    def statements(self) -> list[str]:
        """What was found, without full stops."""
        return list(self.result["statements"])

    def __repr__(self) -> str:
        return "\n".join(self.statements)

    def report(self, path: str | Path, **more: Any) -> Path:
        """Write the page (one HTML file) to `path` and its JSON twin beside it; returns the HTML's path.

        more: further entries of the result, such as reproduce={"command": ...}.
        """
        target, result = Path(path), {**self.result, **more}
        write_result(result, target.with_suffix(".json"))
        written: Path = resolve("report", "variance")(result, target)
        return written


def variance(
    store: Any,
    *,
    runs: Sequence[str] = (),
    where: str | None = None,
    recipe: Recipe | None = None,
    against: Recipe | str | None = None,
    metric: str | None = None,
    split: str = "test",
    predict: bool = True,
    device: str | None = None,
    progress: Progress | None = None,
) -> Variance:
    """How far finished runs of one recipe, or of one own loop, lie apart, and how much of that the test set explains.

    runs, where, recipe: which, see `variance_runs.choose`. against: a second recipe, or a run of it: how probable it is
    that a run of the first beats one of the second. metric: default the task's own. split: "test" or "validation". predict:
    ask the runs about every example, where they kept weights and have one label an example; False takes the logged
    values alone. device: where. Raises InvalidValue, UnknownName and DataError as `choose` does, and for other data on
    the side of `against`.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    chosen = choose(store, runs=runs, where=where, recipe=recipe)
    result = variance_of(chosen, store, metric=metric, split=split, predict=predict, device=device, progress=progress)
    if against is not None:
        result["against"] = _against(chosen, against, store, result)
    result["statements"] = statements(result)
    return Variance(result)


def variance_of(
    chosen: Chosen,
    store: Any,
    *,
    metric: str | None = None,
    split: str = "test",
    predict: bool = True,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The result of runs that have been chosen, without what it is set against and the statements."""
    from .. import __version__

    name, higher, size = metric_of(chosen, metric, split)
    finished, (summary, values) = chosen.finished, _summary(chosen, name, split)
    agreement, notes = None, notes_on(finished)
    if predict:
        agreement, more = _agreement(finished, store, split, device, progress)
        notes += more
    test: dict[str, Any] | None = None
    if name == "accuracy" and size is not None:
        predicted = predicted_sd(1 - summary.mean, size)
        ratio = summary.sd / predicted if predicted > 0 else None
        floor = binomial_floor(summary.mean, size)
        test = {"examples": size, "floor": floor, "predicted_sd": predicted, "observed_over_predicted": ratio}
    return {
        "schema": SCHEMA,
        "kind": "variance",
        "title": f"Variance: {summary.n} runs of {chosen.task} {chosen.model}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "task": {"name": chosen.task, "metric": name, "higher_is_better": higher, "split": split},
        "model": chosen.model,
        "recipe": {} if chosen.recipe is None else chosen.recipe.to_dict(),
        "runs": [{"run": r.id, "seed": r.seed, "value": v} for r, v in zip(finished, values, strict=True)],
        "diverged": [{"run": run.id, "seed": run.seed} for run in chosen.diverged],
        "summary": summary_entry(summary),
        "test": test,
        "agreement": agreement,
        "against": None,
        "sources": None,
        "left_out": [asdict(one) for one in chosen.left],
        "notes": notes,
    }


def summary_entry(summary: Summary) -> dict[str, Any]:
    """A summary as plain values; `bca` as two of them."""
    found = asdict(summary)
    low, high = found.pop("bca") or (None, None)
    return {**found, "bca_low": low, "bca_high": high}


def _summary(chosen: Chosen, metric: str, split: str) -> tuple[Summary, list[float]]:
    values = [run.quality(metric, split) for run in chosen.finished]
    return summarise(values, diverged=len(chosen.diverged)), values


def _agreement(
    runs: Sequence[Any], store: Any, split: str, device: str | None, progress: Progress | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """What the runs say of every example, or None with the reason as a note."""
    without = [run for run in runs if not (run.path / WEIGHTS).exists()]
    if without:
        return None, [f"{len(without)} of {len(runs)} runs kept no weights, so no example was looked at"]
    try:
        votes, _ = ask(runs, split, store=store, device=device, progress=progress)
        found = outcomes_of(
            votes,
            split=split,
            seeds=[run.seed for run in runs],
            logged=[run.last.get(split, {}).get("accuracy") for run in runs],
        )
    except (InvalidValue, DataError) as reason:
        return None, [f"no example was looked at: {reason}"]
    whole = found.whole
    shown = {name: getattr(whole, name) for name in ("accuracy", "majority", "churn", "arbitrary", "unanimous")}
    curve = [list(point) for point in agreement_curve(votes.predictions)]
    spread = None if whole.spread is None else whole.spread.to_dict()
    return {**shown, "below": found.below, "spread": spread, "curve": curve}, list(found.notes)


def _against(chosen: Chosen, against: Recipe | str, store: Any, result: Mapping[str, Any]) -> dict[str, Any]:
    """The other recipe's summary, the probability of beating it, and the difference of the means (Welch)."""
    from scipy.stats import ttest_ind

    if isinstance(against, str):
        run = store.get(against)
        against = Recipe.from_dict(run.config) if {"task", "model"} <= set(run.config) else against
    if isinstance(against, str):
        raise InvalidValue(
            f"runs are set against those of a recipe, got run {against!r} of an own loop; name a run of reinvest train"
        )
    found = of_recipe(store, against)
    other = sorted_out([run for run in found if run.status in ("finished", "diverged")])
    mine, theirs = fingerprint_of(chosen.finished[0]), fingerprint_of(other.finished[0])
    if mine != theirs:
        raise DataError(
            f"two recipes are compared on one test set, got run {other.finished[0].id!r} on other data or splits than run "
            f"{chosen.finished[0].id!r} (another fingerprint); name a recipe of the same task"
        )
    task = result["task"]
    summary, values = _summary(other, task["metric"], task["split"])
    own = [run["value"] for run in result["runs"]]
    sides = (own, values) if task["higher_is_better"] else ([-v for v in own], [-v for v in values])
    better = probability_better(*sides)
    constant = len({*own}) == len({*values}) == 1
    interval = None if constant else ttest_ind(own, values, equal_var=False).confidence_interval(0.95)
    difference = result["summary"]["mean"] - summary.mean
    return {
        "title": f"{other.task} {other.model}",
        "recipe": {} if other.recipe is None else other.recipe.to_dict(),
        "values": values,
        "summary": summary_entry(summary),
        "better": asdict(better),
        "needed": runs_needed(),
        "difference": {
            "mean": difference,
            "low": difference if interval is None else float(interval.low),
            "high": difference if interval is None else float(interval.high),
        },
    }


def read_variance(path: str | Path) -> dict[str, Any]:
    """Read a result file. Raises InvalidValue if it is absent, CorruptFile if it is none, SchemaTooNew for a later one."""
    return read_kind(path, "variance", SCHEMA, "runs", "a variance's")
