"""`variance`: the quality of a recipe as a distribution over its runs, and how much of the spread is luck of the test set.

Bouthillier et al., 2103.03098; Jordan, 2304.01910; Cooper et al., 2206.11834.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import DataError, InvalidValue, unknown
from ..core.names import resolve
from ..core.recipe import Recipe
from ..dynamics.outcomes import agreement_curve
from ..evaluation.result import write_result
from ..evaluation.settings import is_accuracy
from ..evaluation.variance import binomial_floor, predicted_sd
from ..store.run import WEIGHTS
from .outcome_runs import ADVISED, SPLITS, Progress, ask, notes_on
from .outcomes import outcomes_of
from .sequence_result import read_kind
from .variance_against import NAMES, set_against, summary_entry, summary_of
from .variance_runs import Chosen, choose, metric_of
from .variance_text import statements

__all__ = ["Variance", "read_variance", "variance", "variance_of"]

SCHEMA = 2


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
    names: tuple[str, str] = NAMES,
) -> Variance:
    """How far finished runs of one recipe, or of one own loop, lie apart, and how much of that the test set explains.

    runs, where, recipe: which, see `variance_runs.choose`. against: a second recipe, or a run of it: how probable it is
    that a run of the first beats one of the second. metric: default the task's own. split: "test" or "validation". predict:
    ask the runs about every example, where they kept weights and have one label an example; False takes the logged
    values alone. device: where. names: what the two sides of `against` are called, beside what differs between them. Raises
    InvalidValue, UnknownName and DataError as `choose` does, and for the same recipe or other data on the side of `against`.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    chosen = choose(store, runs=runs, where=where, recipe=recipe)
    result = variance_of(chosen, store, metric=metric, split=split, predict=predict, device=device, progress=progress)
    if against is not None:
        other = result["against"] = set_against(chosen, against, store, result, names)
        if (count := other["summary"]["n"]) < ADVISED:
            result["notes"].append(
                f"few runs of {names[1]}: {count}, of which little can be said; {ADVISED} or more are advised"
            )
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
    finished, (summary, values) = chosen.finished, summary_of(chosen, name, split)
    agreement, notes = None, notes_on(finished)
    if predict:
        agreement, more = _agreement(finished, store, split, device, progress)
        notes += more
        if agreement is not None and name != "accuracy":
            agreement["spread"] = None  # it is that of accuracies
    test: dict[str, Any] | None = None
    if is_accuracy(name) and size is not None:
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


def read_variance(path: str | Path) -> dict[str, Any]:
    """Read a result file. Raises InvalidValue if it is absent or of an earlier schema, CorruptFile if it is none,
    SchemaTooNew for a later one."""
    result = read_kind(path, "variance", SCHEMA, "runs", "a variance's")
    if result["schema"] < SCHEMA:
        raise InvalidValue(
            f"results of kind 'variance' are read from schema {SCHEMA} on, got {result['schema']} in {Path(path).name}; run "
            "reinvest variance again (finished runs are kept)"
        )
    return result
