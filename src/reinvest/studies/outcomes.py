"""`outcomes`: over the runs of a recipe, which decisions depend on the seed, and what that makes of their accuracies.

Cooper, Frankle, De Sa, 2206.11834; Jordan, 2304.01910.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import InvalidValue
from ..core.names import resolve
from ..core.recipe import Recipe
from ..dynamics.outcomes import pairwise_churn
from ..evaluation.result import write_result
from ..loop.session import build_task
from .outcome_figures import Disputed, Figures, GroupOutcome, Votes, wilson
from .outcome_files import Groups, group_names, read_groups, write_votes
from .outcome_runs import LeftOut, Progress, Repeat, ask, by_same_code, check_runs, runs_of_recipe
from .sequence_result import read_kind

__all__ = ["BELOW", "Outcomes", "RunOutcome", "Votes", "outcomes", "outcomes_of", "read_outcomes"]

SCHEMA = 1
BELOW = 0.6
"""Self-consistency below which a decision counts as arbitrary: close to a coin flip of two classes."""


@dataclass(frozen=True)
class RunOutcome:
    """A run: its accuracy on the split with a 95 % interval for the finite number of examples, and what it logged itself."""

    run: str
    seed: int | None
    accuracy: float
    low: float
    high: float
    logged: float | None = None


@dataclass(frozen=True)
class Outcomes:
    """What the runs of a recipe say of a split, and how far they agree. Shares and accuracies in [0, 1].

    whole, by_class, by_group: see `GroupOutcome`; by_group is () without groups. churn: share of examples on which two
    runs differ, [R][R]. histogram: examples by self-consistency, in parts of 0.05. below: self-consistency under which a
    decision counts as arbitrary. disputed: the examples that divide the runs most. repeat: whether each run says the same
    when asked twice, None if it was not. left_out: runs of the recipe without a vote. notes: what to read all this with.
    recipe: {} for runs of several. votes, groups: what every run says of every example, and the example's subgroup;
    None after `from_dict`.
    """

    task: str
    model: str
    split: str
    examples: int
    classes: int
    runs: tuple[RunOutcome, ...]
    whole: GroupOutcome
    by_class: tuple[GroupOutcome, ...]
    by_group: tuple[GroupOutcome, ...]
    churn: tuple[tuple[float, ...], ...]
    histogram: tuple[int, ...]
    below: float
    disputed: tuple[Disputed, ...]
    class_names: tuple[str, ...] | None = None
    repeat: Repeat | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    version: str = ""
    votes: Votes | None = field(default=None, compare=False, repr=False)
    groups: list[str] | None = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """A heading."""
        return f"Outcomes: {len(self.runs)} runs of {self.task} {self.model}".rstrip()

    @property
    def statements(self) -> tuple[str, ...]:
        """What was found, one sentence each, without a full stop."""
        whole, runs = self.whole, len(self.runs)
        found = [
            f"two runs differ on {_share(whole.churn)} of the {self.examples:,} {self.split} examples, and all {runs} agree on "
            f"{_share(whole.unanimous)}",
            f"{_share(whole.arbitrary)} of the decisions are arbitrary: on these examples two runs agree with a chance below "
            f"{self.below:g}",
            *self._spread(),
            f"the vote of all runs is right on {_share(whole.majority)}, a single run on {_share(whole.accuracy)}",
        ]
        for what, members in (("class", self.by_class), ("subgroup", self.by_group)):
            worst = max(members, key=lambda g: g.churn, default=None)
            if worst is not None and len(members) > 1 and worst.churn > 0:
                found.append(
                    f"the most divided {what} is {worst.name}: two runs differ on {_share(worst.churn)} of its "
                    f"{worst.examples:,} examples"
                )
        if self.repeat is not None:
            found.append(_repeat(self.repeat))
        return tuple(found)

    def _spread(self) -> list[str]:
        spread = self.whole.spread
        if spread is None:
            return []
        values = spread.to_dict()
        return [
            f"their accuracies spread by {_points(values['observed_sd'])} (standard deviation), where errors that are "
            f"independent between runs would give {_points(values['sampling_sd'])}",
            f"between the runs themselves, on the whole distribution, {_points(spread.sd)} remain (95 %: "
            f"{_points(spread.low)} to {_points(spread.high)})",
            f"the finite number of examples alone leaves any one accuracy uncertain by {_points(spread.floor)} (standard deviation)",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the votes."""
        names = [n for n in self.__dataclass_fields__ if n not in ("votes", "groups")]
        return {
            "schema": SCHEMA,
            "kind": "outcomes",
            "title": self.title,
            **{name: getattr(self, name) for name in names},
            "class_names": None if self.class_names is None else list(self.class_names),
            "runs": [asdict(run) for run in self.runs],
            "whole": self.whole.to_dict(),
            "by_class": [group.to_dict() for group in self.by_class],
            "by_group": [group.to_dict() for group in self.by_group],
            "churn": [list(row) for row in self.churn],
            "histogram": list(self.histogram),
            "disputed": [one.to_dict() for one in self.disputed],
            "repeat": None if self.repeat is None else self.repeat.to_dict(),
            "left_out": [asdict(one) for one in self.left_out],
            "notes": list(self.notes),
            "statements": list(self.statements),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcomes:
        """From `to_dict()`."""
        names = values["class_names"]
        made: dict[str, Any] = {
            "class_names": None if names is None else tuple(names),
            "runs": tuple(RunOutcome(**run) for run in values["runs"]),
            "whole": GroupOutcome.from_dict(values["whole"]),
            "by_class": tuple(map(GroupOutcome.from_dict, values["by_class"])),
            "by_group": tuple(map(GroupOutcome.from_dict, values["by_group"])),
            "churn": tuple(tuple(row) for row in values["churn"]),
            "histogram": tuple(values["histogram"]),
            "disputed": tuple(map(Disputed.from_dict, values["disputed"])),
            "repeat": None if values["repeat"] is None else Repeat(**values["repeat"]),
            "left_out": tuple(LeftOut(**one) for one in values["left_out"]),
            "notes": tuple(values["notes"]),
        }
        plain = ("task", "model", "split", "examples", "classes", "below", "recipe", "created", "version")
        return cls(**made, **{name: values[name] for name in plain})

    def report(self, path: str | Path, **more: Any) -> Path:
        """Write the page (one HTML file) to `path` and its JSON twin beside it; returns the page's path.

        more: further entries of the result, such as reproduce={"command": ...}.
        """
        target, result = Path(path), {**self.to_dict(), **more}
        write_result(result, target.with_suffix(".json"))
        written: Path = resolve("report", "outcomes")(result, target)
        return written

    def csv(self, path: str | Path) -> Path:
        """Write every vote, see `write_votes`. Raises InvalidValue after `from_dict`, which has none."""
        if self.votes is None:
            raise InvalidValue(
                "votes are written where they were taken, got outcomes read from a file; ask the runs again"
            )
        return write_votes(self.votes, path, self.groups)


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
    votes, again = ask(
        chosen, split, store=store, device=device, batch_size=batch_size, repeat=repeat, progress=progress
    )
    recipes = [run.config for run in chosen]
    return outcomes_of(
        votes,
        groups=groups,
        below=below,
        split=split,
        task=chosen[0].task,
        model=", ".join(dict.fromkeys(str(recipe["model"]["name"]) for recipe in recipes)),
        seeds=[run.seed for run in chosen],
        logged=[run.last.get(split, {}).get("accuracy") for run in chosen],
        recipe=recipes[0] if not any_recipe else {},
        repeat=again,
        left_out=tuple(left),
        notes=tuple(notes),
    )


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
        left = left + others
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


def _share(value: float) -> str:
    return f"{100 * value:.2f} %" if 0 < value < 0.1 else f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:.2f} points"


def _repeat(repeat: Repeat) -> str:
    if repeat.same_bits == repeat.runs:
        return "asked twice, every run gives the same logits bit for bit: no difference comes from predicting"
    return (
        f"asked twice, {repeat.same_bits} of {repeat.runs} runs give the same logits bit for bit, and {repeat.changed:,} answers "
        "become another class: some of the differences come from predicting"
    )


def read_outcomes(path: str | Path) -> dict[str, Any]:
    """Read a result file. Raises InvalidValue if it is absent, CorruptFile if it is none, SchemaTooNew for a later one."""
    return read_kind(path, "outcomes", SCHEMA, "runs", "an outcomes'")
