"""Evidence: what stored sequence studies found, as rows that advice is ranked by. Nothing else counts as evidence."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..core.errors import CorruptFile, InvalidValue, SchemaTooNew
from .policies import EVERY_POLICY, POLICIES, parsed
from .sequence_result import FOLDER, read_sequence

PACKAGED = Path(__file__).with_name("evidence")
"""Folder of the studies that come with the package; it may be absent."""

CLOSENESS = (
    "the same setting and task, and the model changed or not as here",
    "the same setting and task",
    "the same setting, another task",
    "another setting",
)
"""How near a study is to what is asked, the nearest first."""


class EvidenceWarning(UserWarning):
    """A stored study could not be read and was left out."""


@dataclass(frozen=True)
class Evidence:
    """One arm of one sequence study against scratch, with all costs of the sequence charged.

    Teachers from outside are not, where the study says `cost: sunk`: its speed-up is that of somebody who has them.

    setting: "no new data", "new data" or "new classes". task, model: names. same_model: whether all runs of a sequence
    have one model. policy, options: what all followers did, after any fallback ("a / b" where they differ). length: runs
    in a sequence. speedup: scratch's seconds over the arm's at equal quality, for whole sequences; low, high: its
    interval; None where nothing is known, or for an open end. verdict: its word, None where a study had too few
    durations for one. sequences: how many there were. source: name of the file.
    """

    setting: str
    task: str
    model: str
    same_model: bool
    policy: str
    length: int
    speedup: float | None
    low: float | None
    high: float | None
    verdict: str | None
    sequences: int
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def helps(self) -> bool:
        """Whether a saving is shown: the whole interval lies above 1, and not all of it too near."""
        return self.low is not None and self.low > 1 and not self.fails

    @property
    def fails(self) -> bool:
        """Whether it is shown that nothing is saved: equivalent to scratch, or slower."""
        return self.verdict in ("equivalent", "worse") or (self.high is not None and self.high <= 1)


@dataclass(frozen=True)
class Saving:
    """What re-use is expected to save: the nearest stored studies of a policy, together.

    speedup: geometric mean over `rows`; low and high: from the lowest to the highest end of their intervals, None where
    one is open. closeness: index of `CLOSENESS`. options: those of the arms, with the share `length` of the duration
    that the followers ran.
    """

    speedup: float
    low: float | None
    high: float | None
    closeness: int
    options: Mapping[str, Any]
    rows: tuple[Evidence, ...]

    @property
    def helps(self) -> bool:
        """Whether every one of the studies shows a saving."""
        return all(row.helps for row in self.rows)

    @property
    def fails(self) -> bool:
        """Whether every one of the studies shows that nothing is saved."""
        return all(row.fails for row in self.rows)

    @property
    def sequences(self) -> int:
        """How many sequences were judged."""
        return sum(row.sequences for row in self.rows)

    @property
    def studies(self) -> list[str]:
        """Names of the files."""
        return sorted({row.source for row in self.rows})

    def __str__(self) -> str:
        lengths = " or ".join(str(n) for n in sorted({row.length for row in self.rows}))
        share = f" (followers at {self.options['length']:g} of the length)" if "length" in self.options else ""
        words = ", ".join(sorted({row.verdict or "no verdict" for row in self.rows}))
        return (
            f"sequences of {lengths} runs{share} were {interval_text(self.speedup, self.low, self.high)} times as fast "
            f"as from scratch at equal quality, total time {1 / self.speedup:.3g} of it; verdict {words}, "
            f"{self.sequences} sequences, {CLOSENESS[self.closeness]} ({', '.join(self.studies)})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "speedup": self.speedup,
            "low": self.low,
            "high": self.high,
            "relative_time": 1 / self.speedup,
            "relative_time_low": None if not self.high else 1 / self.high,
            "relative_time_high": None if not self.low else 1 / self.low,
            "closeness": CLOSENESS[self.closeness],
            "verdicts": sorted({row.verdict or "none" for row in self.rows}),
            "sequences": self.sequences,
            "studies": self.studies,
            "options": dict(self.options),
        }


def interval_text(value: float, low: float | None, high: float | None) -> str:
    """ "1.82 (1.4 to 2.3)"; an end without a bound reads "open"."""
    ends = ["open" if end is None else f"{end:.3g}" for end in (low, high)]
    return f"{value:.3g} ({ends[0]} to {ends[1]})"


# ---- reading -------------------------------------------------------------------------------------------------------


def folders_of(store: Any = None) -> list[Path]:
    """Where studies are looked for: those of a store, and those that come with the package."""
    return [*([] if store is None else [Path(store.path) / FOLDER]), PACKAGED]


def read_studies(folders: Iterable[str | os.PathLike[str]]) -> list[tuple[str, dict[str, Any]]]:
    """(file name, result) of every sequence study in the folders; absent folders are empty ones.

    A study (a title and a plan) counts once, as it was run last: a copy in the package is the same one.

    Files of other kinds of study are passed over; damaged ones and those of a later version are left out, with one
    EvidenceWarning that names them all.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    damaged: list[str] = []
    for folder in folders:
        for file in sorted(Path(folder).glob("*.json")):
            try:
                result = read_sequence(file)
                evidence_of(file.name, result)
            except (CorruptFile, SchemaTooNew, InvalidValue) as error:
                if not _another_kind(file):
                    damaged.append(f"{file.name}: {str(error).partition(';')[0]}")
                continue
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                damaged.append(f"{file.name}: {type(error).__name__} {error}")
                continue
            key = json.dumps([result.get(name) for name in ("title", "plan")], sort_keys=True)
            if key not in found or _created(result) > _created(found[key][1]):
                found[key] = (file.name, result)
    if damaged:
        warnings.warn(
            f"a stored study is a JSON file that reinvest sequence wrote, got {len(damaged)} that cannot be read and "
            f"were left out ({' | '.join(damaged)}); run these studies again (finished runs are kept), or remove the files",
            EvidenceWarning,
            stacklevel=2,
        )
    return list(found.values())


def _created(result: Mapping[str, Any]) -> float:
    """When a study was run, in seconds; long ago where that cannot be read."""
    try:
        return datetime.fromisoformat(result["created"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return -math.inf


def _another_kind(file: Path) -> bool:
    try:
        kind = json.loads(file.read_text(encoding="utf8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(kind, str) and kind != "sequence"


def evidence_of(source: str, result: Mapping[str, Any]) -> list[Evidence]:
    """The arms of a study but the baseline, in its order; fields that are not known are passed over."""
    rows = []
    for name, arm in result["arms"].items():
        if name == result["baseline"]:
            continue
        policy, options = _applied(arm)
        low, high = arm.get("interval") or (None, None)
        rows.append(
            Evidence(
                setting=str(result["setting"]),
                task=str(result["task"]),
                model=str(result["model"]),
                same_model=bool(result["same_model"]),
                policy=policy,
                options=options,
                length=int(result["length"]),
                speedup=_positive(arm.get("speedup")),
                low=_positive(low),
                high=_positive(high),
                verdict=None if arm.get("verdict") is None else str(arm["verdict"]),
                sequences=int(result["sequences"]),
                source=source,
                title=str(result.get("title", source)),
            )
        )
    return rows


def _positive(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) and number > 0 else None


def _applied(arm: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What the followers of an arm did: its policy, or the fallback where that took its place everywhere."""
    name, options = str(arm["policy"]), dict(arm.get("options") or {})
    fallback = options.pop("fallback", None)
    done = sorted({str(p) for p in arm.get("policies") or () if p != "scratch"})
    if done in ([], [name]):
        return name, options
    if len(done) == 1 and fallback is not None and parsed(fallback)[0] == done[0]:
        length = {"length": options["length"]} if "length" in options else {}
        return done[0], {**parsed(fallback)[1], **length}
    return " / ".join(done), options


def load_evidence(store: Any = None, folders: Sequence[str | os.PathLike[str]] | None = None) -> list[Evidence]:
    """The evidence of a store's studies and of those in the package, or of the studies in `folders` alone."""
    studies = read_studies(folders_of(store) if folders is None else folders)
    return [row for name, result in studies for row in evidence_of(name, result)]


# ---- matching ------------------------------------------------------------------------------------------------------


def saving_of(evidence: Iterable[Evidence], policy: str, *, setting: str, task: str, same_model: bool) -> Saving | None:
    """What the nearest studies of a policy say, None if none has judged it.

    same_model: whether the run that is to be re-used has the model of the recipe. Of the nearest studies, arms with the
    same options are taken together. Options that were not shown to be useless go first, then the highest lower end: not the
    luckiest estimate. Studies of options that this version does not have are passed over.
    """
    near: dict[int, dict[str, list[Evidence]]] = {}
    known = {*POLICIES[policy].options, *EVERY_POLICY} if policy in POLICIES else set()
    for row in evidence:
        if row.policy != policy or row.speedup is None or not set(row.options) <= known:
            continue
        level = 3 if row.setting != setting else 2 if row.task != task else int(row.same_model != same_model)
        near.setdefault(level, {}).setdefault(json.dumps(row.options, sort_keys=True), []).append(row)
    if not near:
        return None
    level = min(near)
    found = [_together(rows, level) for rows in near[level].values()]
    return max(found, key=lambda s: (not s.fails, s.low or 0.0, s.speedup))


def _together(rows: Sequence[Evidence], level: int) -> Saving:
    lows, highs = [r.low for r in rows], [r.high for r in rows]
    logs = [math.log(r.speedup) for r in rows if r.speedup is not None]
    return Saving(
        math.exp(math.fsum(logs) / len(logs)),
        None if None in lows else min(v for v in lows if v is not None),
        None if None in highs else max(v for v in highs if v is not None),
        level,
        rows[0].options,
        tuple(rows),
    )
