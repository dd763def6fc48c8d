"""The plan of a sequence study: related runs in order, ways of re-use, durations, and how often the sequence is repeated."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..core.duration import Duration
from ..core.errors import InvalidValue, unknown
from ..core.recipe import Recipe
from ..core.streams import key
from ..evaluation.study_checks import parse_durations
from .policies import apply, parsed, text_of

SETTINGS = ("no new data", "new data", "new classes")
COSTS = ("sunk", "charged")
MIN_SEQUENCES, FULL_SEQUENCES = 3, 5
AMOUNTS = ("train_examples", "train_start")
"""Options of a task that say how much of its data there is."""
LABEL_SPACE = "first_classes"


@dataclass(frozen=True)
class SequencePlan:
    """What is compared, decided beforehand. One arm, the baseline, is {reuse: scratch}.

    base: the recipe that all positions share. positions: a number, or per position what differs from the base: recipe
    fields, where a mapping of the same name is merged ({task: {train_examples: 2000}}, {model: {width: 12}}) and
    `methods` are added. arms: {name: policy}, see `policies`. durations: of a run from scratch; a point of the verdict
    is a whole sequence whose positions all have that duration (followers times the arm's `length`); four or more for a
    verdict, fewer for a table at these durations. sequences: how many times the sequence is repeated, or {count, first}
    with the number of the first one, so that exploration and confirmation share no seed. setting: what changes, found
    from the positions where it is left out. metric: the task's own by default. target: a quality whose cost is reported.
    teachers: {pool: run ids, cost: "sunk" or "charged"} for runs from outside that all sequences may use.

    Raises InvalidValue and UnknownName for what breaks these rules.
    """

    base: Recipe
    arms: Mapping[str, Any]
    positions: Any = 5
    durations: Sequence[str] = ()
    sequences: Any = FULL_SEQUENCES
    title: str = ""
    setting: str = ""
    metric: str = ""
    target: float | None = None
    teachers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.base, Recipe):
            raise InvalidValue(f"base is the recipe that all positions share, got {self.base!r}; write 'base:' fields")
        put(self, "positions", _positions(self.positions))
        recipes = [merged(self.base, change) for change in self.positions]
        put(self, "_recipes", tuple(recipes))
        put(self, "durations", _durations(self.durations))
        put(self, "sequences", _sequences(self.sequences))
        put(self, "arms", _arms(self.arms, self.base))
        put(self, "teachers", _teachers(self.teachers))
        found = setting_of(recipes)
        if self.setting and self.setting not in SETTINGS:
            raise unknown("setting of a sequence", self.setting, SETTINGS)
        if self.setting and self.setting != found:
            raise InvalidValue(
                f"the setting says what changes along the sequence, got {self.setting!r} for positions with {found}; "
                f"write setting: {found}, or change the positions"
            )
        put(self, "setting", found)
        put(self, "title", str(self.title or f"{self.base.task['name']}: {len(recipes)} runs in sequence, {found}"))
        if self.target is not None and (not isinstance(self.target, (int, float)) or isinstance(self.target, bool)):
            raise InvalidValue(f"target is a quality, a number, got {self.target!r}; write target: 0.9 or leave it out")

    @property
    def baseline(self) -> str:
        """Name of the arm from scratch that the others are compared with."""
        return next(name for name, policy in self.arms.items() if parsed(policy) == ("scratch", {}))

    @property
    def length(self) -> int:
        """Runs in a sequence."""
        return len(self.positions)

    @property
    def numbers(self) -> range:
        """The numbers of the sequences."""
        return range(self.sequences["first"], self.sequences["first"] + self.sequences["count"])

    @property
    def pool(self) -> tuple[str, ...]:
        """Ids of the runs from outside."""
        return tuple(self.teachers.get("pool", ()))

    def recipe(self, position: int, duration: str) -> Recipe:
        """The recipe at a position (from 0) without any re-use."""
        recipes: tuple[Recipe, ...] = self._recipes  # type: ignore[attr-defined]
        return replace(recipes[position], duration=duration)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SequencePlan:
        """From the values of a YAML file.

        Besides the fields: `grow` {task option: value per position}, `classes` (first_classes per position) and `keep`
        (share of the older data that stays, in [0, 1]) are short for positions.
        """
        short = ("grow", "classes", "keep")
        known = [*(f.name for f in fields(cls)), *short]
        for name in values:
            if name not in known:
                raise unknown("field of a sequence study", name, known)
        for name in ("base", "arms", "durations"):
            if name not in values:
                raise InvalidValue(
                    f"a sequence study has a base recipe, arms and durations, got {', '.join(values) or 'nothing'}; "
                    f"add '{name}:'"
                )
        rest = {k: v for k, v in values.items() if k not in ("base", *short) and v is not None}
        base = values["base"]
        if not isinstance(base, (Recipe, Mapping)):
            raise InvalidValue(
                f"base is a mapping of recipe fields, got {base!r}; write 'base:' with one field per line"
            )
        if not isinstance(base, Recipe):
            base = Recipe.from_dict({"duration": str((_durations(values["durations"]))[0]), **base})
        rest["positions"] = _expanded(rest.get("positions"), values, base)
        return cls(base=base, **rest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which `from_dict` builds the same plan."""
        base = self.base.to_dict()
        base.pop("duration")
        plain = {
            "title": self.title,
            "setting": self.setting,
            "base": base,
            "positions": [dict(p) for p in self.positions],
            "arms": {n: {"reuse": parsed(p)[0], **parsed(p)[1]} for n, p in self.arms.items()},
            "durations": list(self.durations),
            "sequences": dict(self.sequences),
        }
        for name in ("metric", "target", "teachers"):
            if getattr(self, name):
                plain[name] = getattr(self, name)
        return plain


def load_plan(path: str | Path) -> SequencePlan:
    """A plan from a YAML file. Raises InvalidValue for a file that is absent, does not parse, or is no plan."""
    from ..core.yaml_numbers import read_mapping

    values = read_mapping(
        path, "a sequence study", holds="base, arms and durations", remedy="see reinvest sequence --help"
    )
    return SequencePlan.from_dict(values)


def seed_of(sequence: int, position: int, duration: str) -> int:
    """The seed in [0, 2^31) of a run: the same in all arms, another for each sequence, position and duration.

    Durations have their own seeds because a verdict needs cells that are independent.
    """
    return key(sequence, f"sequence study {position} {duration}") >> 33


def merged(base: Recipe, change: Mapping[str, Any]) -> Recipe:
    """The base recipe with a position's changes: mappings of the same name merged, methods added."""
    put = dict(change)
    added = put.pop("methods", None) or []
    for name, value in put.items():
        current = getattr(base, name, None)
        if (
            isinstance(current, dict)
            and isinstance(value, Mapping)
            and value.get("name", current["name"]) == current["name"]
        ):
            put[name] = {**current, **value}
    return base.with_(*(added if isinstance(added, list) else [added]), **put)


def setting_of(recipes: Sequence[Recipe]) -> str:
    """What changes along the positions. Raises InvalidValue for different tasks, which no test set could compare."""
    first = recipes[0].task
    for recipe in recipes[1:]:
        fixed = [{k: v for k, v in t.items() if k not in (*AMOUNTS, LABEL_SPACE)} for t in (first, recipe.task)]
        if fixed[0] != fixed[1]:
            raise InvalidValue(
                f"a sequence stays on one task and one test set, got {fixed[0]} and {fixed[1]}; "
                f"change only {', '.join((*AMOUNTS, LABEL_SPACE))} of the task along it"
            )
    if len({r.task.get(LABEL_SPACE) for r in recipes}) > 1:
        return "new classes"
    amounts = {tuple(r.task.get(a) for a in AMOUNTS) for r in recipes}
    return "new data" if len(amounts) > 1 else "no new data"


# ---- reading a plan ------------------------------------------------------------------------------------------------


def _positions(value: Any) -> tuple[dict[str, Any], ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = [{}] * value
    if not isinstance(value, (list, tuple)) or len(value) < 2:
        raise InvalidValue(
            f"a sequence has at least 2 positions, got {value!r}; write their number, or a list of what differs at each"
        )
    found = []
    for k, change in enumerate(value, start=1):
        change = {} if change is None else change
        if not isinstance(change, Mapping):
            raise InvalidValue(
                f"a position is a mapping of recipe fields, got {change!r} for run {k}; write {{}} for none"
            )
        if "duration" in change:
            raise InvalidValue(
                f"all positions of a sequence have the duration of the point, got one of its own for run {k}; "
                "leave it out, and give an arm a 'length' for shorter followers"
            )
        found.append({str(n): v for n, v in change.items()})
    return tuple(found)


def _expanded(positions: Any, values: Mapping[str, Any], base: Recipe) -> Any:
    """Positions with `grow`, `classes` and `keep` written out."""
    grow = values.get("grow") or {}
    if not isinstance(grow, Mapping):
        raise InvalidValue(
            f"grow is a mapping from a task's option to its values, got {grow!r}; write grow: {{train_examples: [2000, 4000]}}"
        )
    grow = dict(grow)
    if values.get("classes") is not None:
        grow[LABEL_SPACE] = values["classes"]
    for name, listed in grow.items():
        if not isinstance(listed, (list, tuple)) or len(listed) < 2:
            raise InvalidValue(
                f"what grows is a list with one value per position, got {listed!r} for {name}; write e.g. [2000, 4000]"
            )
    lengths = {len(v) for v in grow.values()} | ({len(positions)} if isinstance(positions, (list, tuple)) else set())
    if isinstance(positions, int) and not isinstance(positions, bool):
        lengths.add(positions)
    if len(lengths) > 1:
        raise InvalidValue(
            f"positions, grow and classes have one value per position, got lists of {sorted(lengths)}; make them equally long"
        )
    keep = values.get("keep")
    if keep is not None and "train_examples" not in grow:
        raise InvalidValue(
            f"keep is about data that arrive, got keep: {keep!r} without grow; add grow: {{train_examples: [...]}}"
        )
    if not grow:
        return 5 if positions is None else positions
    count = lengths.pop()
    listed = _positions(positions if isinstance(positions, (list, tuple)) else count)
    if keep is not None:
        grow["train_start"] = _starts(keep, grow["train_examples"])
    out = []
    for k, change in enumerate(listed):
        task = change.get("task") or {}
        task = {"name": task} if isinstance(task, str) else dict(task)
        out.append({**change, "task": {**task, **{name: v[k] for name, v in grow.items()}}})
    return out


def _starts(keep: Any, amounts: Sequence[Any]) -> list[int]:
    """Where the kept part of the older data begins at each position."""
    if not isinstance(keep, (int, float)) or isinstance(keep, bool) or not 0 <= keep <= 1:
        raise InvalidValue(f"keep is the share of the older data that stays, from 0 to 1, got {keep!r}; 1 keeps all")
    whole = [a for a in amounts if isinstance(a, int) and not isinstance(a, bool)]
    if len(whole) < len(amounts) or any(b <= a for a, b in itertools.pairwise(whole)):
        raise InvalidValue(
            f"with keep, train_examples are rising numbers, got {list(amounts)}; write e.g. [2000, 4000, 6000]"
        )
    return [0, *(round((1 - keep) * before) for before in whole[:-1])]


def _durations(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        one = value if isinstance(value, str) else "2ep"
        raise InvalidValue(
            f"durations of a sequence are a list, got {value!r}; write [{one}], or 4 or more of them for a verdict about time"
        )
    parsed_all = parse_durations(value)
    texts = tuple(str(d) for d in parsed_all)
    units = {d.unit for d in parsed_all}
    if not texts or len(units) > 1 or not units <= {"ep", "st"} or len(set(texts)) < len(texts):
        raise InvalidValue(
            f"durations of a sequence are different numbers of epochs, or all of steps, got {', '.join(texts) or 'none'}; "
            "write e.g. [2ep, 4ep, 8ep, 16ep]"
        )
    return tuple(sorted(texts, key=lambda t: Duration.parse(t).amount))


def _sequences(value: Any) -> dict[str, int]:
    put = (
        {"count": value, "first": 0}
        if not isinstance(value, Mapping)
        else {"count": FULL_SEQUENCES, "first": 0, **value}
    )
    for name in put:
        if name not in ("count", "first"):
            raise unknown("field of sequences", name, ("count", "first"))
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in put.values()) or put["first"] < 0:
        raise InvalidValue(f"sequences is a number, or {{count, first}}, got {value!r}; write sequences: 5")
    if put["count"] < MIN_SEQUENCES:
        raise InvalidValue(
            f"the sequence is the unit, and at least {MIN_SEQUENCES} of them are compared, got {put['count']}; "
            f"write sequences: {FULL_SEQUENCES}"
        )
    return put


def _arms(value: Any, base: Recipe) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise InvalidValue(
            f"arms is a mapping from name to policy, got {value!r}; write 'arms:' with one name per line"
        )
    arms: dict[str, Any] = {}
    seen: dict[str, str] = {}
    for name, policy in value.items():
        inner, options = parsed(policy)
        arms[str(name)] = {"reuse": inner, **options}
        _tried(arms[str(name)], base)
        if options.get("fallback") is not None:
            _tried(options["fallback"], base)
        other = seen.setdefault(text_of(policy) + str(options.get("fallback")), str(name))
        if other != str(name):
            raise InvalidValue(f"arms must differ, got the same policy for {other!r} and {str(name)!r}; leave one out")
    if not any(parsed(p) == ("scratch", {}) for p in arms.values()):
        raise InvalidValue(
            f"re-use is compared with sequences from scratch, got only {', '.join(arms)}; add the arm 'scratch: {{reuse: scratch}}'"
        )
    if len(arms) < 2:
        raise InvalidValue(
            "a sequence study has an arm besides the one from scratch, got none; add 'records: {reuse: records}'"
        )
    return arms


class _Stand:
    """A run that there is not yet, for trying out a policy's options."""

    id = "0" * 16


def _tried(policy: Any, base: Recipe) -> None:
    # What will be advised depends on runs that are not there yet; its own option is checked where it is read.
    if parsed(policy)[0] != "advise":
        apply(policy, base, [_Stand(), _Stand()])


def _teachers(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValue(
            f"teachers is a mapping with pool and cost, got {value!r}; write {{pool: [run id], cost: sunk}}"
        )
    for name in value:
        if name not in ("pool", "cost"):
            raise unknown("field of teachers", name, ("pool", "cost"))
    if not value:
        return {}
    pool, cost = value.get("pool"), value.get("cost", "sunk")
    if not isinstance(pool, (list, tuple)) or not pool or not all(isinstance(p, str) and p for p in pool):
        raise InvalidValue(f"a pool is a list of run ids that is not empty, got {pool!r}; leave teachers out for none")
    if cost not in COSTS:
        raise unknown("cost of teachers", cost, COSTS)
    return {"pool": list(pool), "cost": cost}
