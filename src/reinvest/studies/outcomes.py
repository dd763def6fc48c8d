"""`outcomes`: over the runs of a recipe, which decisions depend on the seed, and what that makes of their accuracies.

Cooper, Frankle, De Sa, 2206.11834; Jordan, 2304.01910.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import InvalidValue
from ..core.recipe import Recipe
from ..dynamics.outcomes import pairwise_churn
from ..loop.session import build_task
from .outcome_figures import Figures, Votes, wilson
from .outcome_files import Groups, group_names, read_groups
from .outcome_position_runs import ask_positions, on_positions
from .outcome_positions import MOST_CLASSES, PositionFigures
from .outcome_result import Outcomes, RunOutcome, read_outcomes
from .outcome_runs import SPLITS, LeftOut, Progress, ask, by_same_code, check_runs, one_a_seed, runs_of_recipe

__all__ = [
    "BELOW",
    "Outcomes",
    "PositionFigures",
    "RunOutcome",
    "Votes",
    "outcomes",
    "outcomes_of",
    "outcomes_of_positions",
    "read_outcomes",
]

BELOW = 0.6
"""Self-consistency below which a decision counts as arbitrary: close to a coin flip of two classes."""
LOGGED = ("accuracy", "pixel_accuracy", "token_accuracy")
"""What runs call the share that they have right."""


def outcomes(
    runs: Sequence[Any],
    *,
    split: str = "test",
    groups: Groups | None = None,
    store: Any = None,
    below: float = BELOW,
    same_recipe: bool = False,
    any_recipe: bool = False,
    repeat: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Outcomes:
    """Let finished runs of one recipe decide on every example of a split, and say how far they agree.

    split: "test" or "validation". groups: a subgroup for each example: int64 [N] in the order of the split, {id: name}, or
    a CSV file with the columns id and group. store: needed where recipes build on earlier runs, and for same_recipe, which
    adds all further runs of the recipe of these. below: see `Outcomes`. any_recipe: compare runs of several recipes on the
    same data. repeat: ask every run twice, and say whether logits are the same bit for bit. device: default the first
    GPU, else the CPU. progress: called as the work goes on.

    Raises InvalidValue, UnknownName, DataError as `check_runs` and `ask` do.
    """
    chosen, left = _with_same_recipe(list(runs), store, any_recipe) if same_recipe else (list(runs), [])
    notes = check_runs(chosen, any_recipe=any_recipe)
    # What cannot be used is refused before the work begins.
    below, groups = _threshold(below), read_groups(groups) if isinstance(groups, (str, Path)) else groups
    known = getattr(build_task(Recipe.from_dict(chosen[0].config)), "splits", {}).get(split)
    if known is not None:
        group_names(groups, known)
    asked: dict[str, Any] = {
        "store": store,
        "device": device,
        "batch_size": batch_size,
        "repeat": repeat,
        "progress": progress,
    }
    recipes = [run.config for run in chosen]
    about: dict[str, Any] = {
        "below": below,
        "split": split,
        "task": chosen[0].task,
        "model": ", ".join(dict.fromkeys(str(recipe["model"]["name"]) for recipe in recipes)),
        "seeds": [run.seed for run in chosen],
        "logged": [_logged(run.last.get(split, {})) for run in chosen],
        "recipe": recipes[0] if not any_recipe else {},
        "left_out": tuple(left),
        "notes": tuple(notes),
    }
    if split in SPLITS and on_positions(chosen[0], split):
        figures, again = ask_positions(chosen, split, groups=groups, **asked)
        return outcomes_of_positions(figures, repeat=again, **about)
    votes, again = ask(chosen, split, **asked)
    return outcomes_of(votes, groups=groups, repeat=again, **about)


def outcomes_of(
    votes: Votes,
    *,
    groups: Groups | None = None,
    below: float = BELOW,
    split: str = "test",
    task: str = "",
    model: str = "",
    seeds: Sequence[int] | None = None,
    logged: Sequence[float | None] | None = None,
    **more: Any,
) -> Outcomes:
    """The outcomes of votes from anywhere. below: in (0, 1]. more: recipe, repeat, left_out and notes of `Outcomes`."""
    from .. import __version__

    below, names = _threshold(below), group_names(groups, votes.ids)
    figures, size = Figures(votes, below), len(votes.ids)
    right = figures.correct.sum(1).tolist()
    members = []
    for place, (run, count) in enumerate(zip(votes.runs, right, strict=True)):
        low, high = wilson(count, size)
        seed = None if seeds is None else seeds[place]
        said = None if logged is None else logged[place]
        members.append(RunOutcome(run, seed, count / size, low, high, said))
    return Outcomes(
        task=task,
        model=model,
        split=split,
        examples=size,
        classes=votes.classes,
        class_names=votes.class_names,
        runs=tuple(members),
        whole=figures.everything(),
        by_class=figures.by_class(),
        by_group=() if names is None else figures.by_group(names),
        churn=tuple(tuple(row) for row in pairwise_churn(votes.predictions).tolist()),
        histogram=figures.histogram(),
        below=below,
        disputed=figures.disputed(names),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        votes=votes,
        groups=names,
        **{**more, "notes": (*more.get("notes", ()), *_moved(members, split))},
    )


def outcomes_of_positions(
    figures: PositionFigures,
    *,
    below: float = BELOW,
    split: str = "test",
    seeds: Sequence[int] | None = None,
    logged: Sequence[float | None] | None = None,
    **more: Any,
) -> Outcomes:
    """The outcomes of votes on pixels or tokens, which `figures.add` has counted. more: task, model and as `outcomes_of`.

    Raises InvalidValue for fewer than 2 examples with a label.
    """
    from .. import __version__

    below, size = _threshold(below), len(figures.ids)
    if size < 2:
        raise InvalidValue(
            f"votes are those on 2 examples or more with a labelled position, got {size}; take the whole split"
        )
    whole, by_class, by_group = figures.groups_of(below)
    members = [
        RunOutcome(
            run, None if seeds is None else seeds[k], *figures.accuracies()[k], None if logged is None else logged[k]
        )
        for k, run in enumerate(figures.runs)
    ]
    return Outcomes(
        **{
            "task": "",
            "model": "",
            **more,
            "notes": (*more.get("notes", ()), *_of_positions(figures), *_moved(members, split)),
        },
        split=split,
        examples=size,
        positions=figures.positions,
        classes=figures.classes,
        class_names=figures.class_names,
        runs=tuple(members),
        whole=whole,
        by_class=by_class,
        by_group=by_group,
        churn=figures.churn(),
        histogram=figures.histogram(),
        below=below,
        disputed=figures.disputed(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        figures=figures,
    )


def _of_positions(figures: PositionFigures) -> list[str]:
    """Notes on what was counted."""
    found = [
        "a position is a pixel or token that has a label; those of one example are no independent evidence, so intervals and "
        "spreads are those of examples"
    ]
    if figures.empty:
        have = "example has" if figures.empty == 1 else "examples have"
        found.append(f"{figures.empty:,} {have} no labelled position and no say")
    if figures.classes > MOST_CLASSES:
        found.append(
            f"classes are not told apart, as there are {figures.classes:,} of them (up to {MOST_CLASSES:,} are)"
        )
    return found


def _logged(last: Mapping[str, Any]) -> float | None:
    """What a run logged of its accuracy on a split."""
    return next((last[name] for name in LOGGED if last.get(name) is not None), None)


def _threshold(below: Any) -> float:
    if not isinstance(below, (int, float)) or isinstance(below, bool) or not 0 < below <= 1:
        raise InvalidValue(f"a threshold of agreement is in (0, 1], got {below!r}; leave it at {BELOW}")
    return float(below)


def _with_same_recipe(runs: list[Any], store: Any, any_recipe: bool) -> tuple[list[Any], list[LeftOut]]:
    if store is None or not runs:
        raise InvalidValue(
            f"further runs of a recipe are looked up for a run in a store, got {len(runs)} runs and store={store!r}; pass both"
        )
    found, left = runs_of_recipe(runs[0], store)
    if not any_recipe:
        found, others = by_same_code(runs[0], found)
        found, twice = one_a_seed(found, runs[0])
        left = left + others + twice
    known = {run.id for run in found}
    return [*found, *(run for run in runs[1:] if run.id not in known)], left


def _moved(runs: Sequence[RunOutcome], split: str) -> list[str]:
    """A note on runs whose accuracy is not what they logged when they were trained."""
    moved = [run for run in runs if run.logged is not None and abs(run.logged - run.accuracy) > 1e-6]
    if not moved:
        return []
    one = moved[0]
    return [
        f"{len(moved)} of {len(runs)} runs logged another {split} accuracy when they were trained (run {one.run}: "
        f"{one.logged:.4f}, here {one.accuracy:.4f}): another machine, other libraries, or a precision other than that of "
        "their evaluation, which is fp32"
    ]
