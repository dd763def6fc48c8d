"""The result of `outcomes`: its figures, what they say in sentences, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import InvalidValue
from ..core.names import resolve
from ..evaluation.result import write_result
from .outcome_figures import Disputed, GroupOutcome, Votes
from .outcome_files import write_votes
from .outcome_positions import PositionFigures
from .outcome_runs import LeftOut, Repeat
from .sequence_result import read_kind

SCHEMA = 1
LEAST = 30
"""Positions of a class or subgroup without which it is not called the most divided: a rare token says little."""


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
    positions: where each pixel or token has a label, how many of them there are: all shares and the histogram are then of
    these, intervals and spreads of the examples that hold them. recipe: {} for runs of several. votes, groups: what every run says of every example, and the example's subgroup;
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
    positions: int | None = None
    figures: PositionFigures | None = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """A heading."""
        return f"Outcomes: {len(self.runs)} runs of {self.task} {self.model}".rstrip()

    @property
    def statements(self) -> tuple[str, ...]:
        """What was found, one sentence each, without a full stop."""
        whole, runs = self.whole, len(self.runs)
        unit = "examples" if self.positions is None else "positions"
        those = "" if self.positions is None else f"{self.positions:,} labelled positions of the "
        found = [
            f"two runs differ on {_share(whole.churn)} of the {those}{self.examples:,} {self.split} examples, and all {runs} "
            f"agree on {_share(whole.unanimous)}",
            f"{_share(whole.arbitrary)} of the decisions are arbitrary: on these {unit} two runs agree with a chance below "
            f"{self.below:g}",
            *self._spread(),
            f"the vote of all runs is right on {_share(whole.majority)}, a single run on {_share(whole.accuracy)}",
        ]
        for what, members in (("class", self.by_class), ("subgroup", self.by_group)):
            enough = [g for g in members if g.positions is None or g.positions >= LEAST]
            worst = max(enough, key=lambda g: g.churn, default=None)
            if worst is not None and len(members) > 1 and worst.churn > 0:
                found.append(
                    f"the most divided {what} is {worst.name}: two runs differ on {_share(worst.churn)} of its "
                    f"{worst.examples if worst.positions is None else worst.positions:,} {unit}"
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
        names = [n for n in self.__dataclass_fields__ if n not in ("votes", "groups", "figures")]
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
        return cls(**made, **{name: values[name] for name in plain}, positions=values.get("positions"))

    def report(self, path: str | Path, **more: Any) -> Path:
        """Write the page (one HTML file) to `path` and its JSON twin beside it; returns the page's path.

        more: further entries of the result, such as reproduce={"command": ...}.
        """
        target, result = Path(path), {**self.to_dict(), **more}
        write_result(result, target.with_suffix(".json"))
        written: Path = resolve("report", "outcomes")(result, target)
        return written

    def csv(self, path: str | Path) -> Path:
        """Write every vote, see `write_votes`; of positions a line an example, see `PositionFigures.csv`. Raises
        InvalidValue after `from_dict`, which has none."""
        if self.figures is not None:
            return self.figures.csv(path)
        if self.votes is None:
            raise InvalidValue(
                "votes are written where they were taken, got outcomes read from a file; ask the runs again"
            )
        return write_votes(self.votes, path, self.groups)


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
