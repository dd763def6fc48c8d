"""A study: a baseline and arms, durations and seeds, planned before anything runs."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..core.errors import InvalidValue, ReinvestError, unknown
from ..core.recipe import Recipe
from .onerun import SEPARATE, check_one_run
from .settings import check_settings
from .study_checks import check_arms, check_durations, check_looks, check_systems, parse_durations, with_systems

Arm = Recipe | str | Callable[..., Any]
"""A recipe; a command with {duration} and {seed}; or a callable (duration, seed, store) -> Run."""

MIN_SEEDS = 3
METRIC = "accuracy"
"""Of a study whose arms are no recipes, and which names none."""


@dataclass(frozen=True)
class Study:
    """What is compared, decided beforehand.

    durations: at least 4, each at most 3 times the one before. seeds: runs per arm and duration, at least 3; every
    run has its own seed unless pairs="duration" (the same seeds in all arms, new ones for each duration). tuning:
    {arm: trials} or {arm: {"trials": n, "seconds": s}} if the arms were tuned; left out, the claim is about these
    recipes only. metric: left out, the task's own ("accuracy" where no arm is a recipe). higher_is_better: left out, it goes
    by the metric's name or by the task. looks: numbers of whole replicates, the last one `seeds`, at which the study may be
    judged, and ends where every arm is decided; spending: how they share the error rate, "obrien-fleming" (early looks
    take next to none) or "pocock" (all alike). curve: how points are made, by a "separate" run each, or all of a replicate by
    one run: "cyclic" or "cooldown-branch" (see `onerun`). systems_only: arms that claim to alter speed and no maths, which is
    tested too (`equivalence.py`). Raises InvalidValue for a plan that could not end in a verdict.
    """

    baseline: Arm
    arms: Mapping[str, Arm]
    durations: Sequence[str]
    seeds: int = 5
    baseline_name: str = "baseline"
    title: str = ""
    pairs: str | None = None
    tuning: Mapping[str, Any] | None = None
    metric: str = ""
    higher_is_better: bool | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    looks: Sequence[int] | None = None
    spending: str = ""
    curve: str = SEPARATE
    systems_only: Sequence[str] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        parsed = parse_durations(self.durations)
        put(self, "durations", tuple(str(d) for d in parsed))
        check_durations(parsed)
        if not isinstance(self.seeds, int) or isinstance(self.seeds, bool) or self.seeds < MIN_SEEDS:
            raise InvalidValue(
                f"a verdict needs at least {MIN_SEEDS} seeds per arm and duration, got {self.seeds!r}; write seeds: 5"
            )
        looks, spending = check_looks(self.looks, self.seeds, self.spending, least=MIN_SEEDS)
        put(self, "looks", looks)
        put(self, "spending", spending)
        for field_name in ("arms", "about"):
            value: Any = getattr(self, field_name)
            if not isinstance(value, Mapping):
                raise InvalidValue(
                    f"{field_name} is a mapping by the name of the arm, got {value!r}; "
                    f"write '{field_name}:' with one name per line"
                )
        if not self.arms:
            raise InvalidValue("a study has at least one arm besides the baseline, got none; add one under 'arms'")
        if self.baseline_name in self.arms:
            raise InvalidValue(
                f"arms have different names, got {self.baseline_name!r} for the baseline and for an arm; rename the arm"
            )
        if self.pairs not in (None, "duration"):
            raise unknown("pairing", self.pairs, ("duration",))
        check_settings(
            metric=METRIC if self.metric == "" else self.metric,
            higher_is_better=self.higher_is_better,
            pairs=self.pairs,
            tuning=self.tuning,
        )
        for name in self.tuning or {}:
            if name not in self.all_arms():
                raise unknown("arm in tuning", name, self.all_arms())
        check_arms(self.all_arms())
        put(self, "systems_only", check_systems(self.systems_only, self.arms))
        check_one_run(self.curve, self.all_arms(), self.durations)
        tasks = {str(a.task) for a in self.all_arms().values() if isinstance(a, Recipe)}
        if len(tasks) > 1:
            raise InvalidValue(
                f"arms are compared on one task, got {' and '.join(sorted(tasks))}; make one study per task"
            )

    def all_arms(self) -> dict[str, Arm]:
        """The baseline first, then the arms, by name."""
        return {self.baseline_name: self.baseline, **self.arms}

    def resolved(self, find: Callable[[str], str]) -> Study:
        """A copy whose recipes name the runs that they build on by full ids, as their stored runs do (`Recipe.resolved`)."""
        made = {name: a.resolved(find) if isinstance(a, Recipe) else a for name, a in self.all_arms().items()}
        return replace(self, baseline=made.pop(self.baseline_name), arms=made)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Study:
        """From the values of a YAML file.

        An arm is a mapping of recipe fields that differ from the baseline's (`methods` are added to the baseline's,
        `all_methods` replace them), {command: "..."}, or {callable: "package.module:function"}; `about` in it is a line for the report,
        `systems_only: true` says that it alters speed alone.
        """
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise unknown("study field", name, known)
        for name in ("baseline", "arms", "durations"):
            if name not in values:
                raise InvalidValue(
                    f"a study has a baseline, arms and durations, got {', '.join(values) or 'nothing'}; add '{name}:'"
                )
        rest = {k: v for k, v in values.items() if k not in ("baseline", "arms")}
        parse_durations(values["durations"])
        about = values.get("about") or {}
        if not isinstance(about, Mapping):
            raise InvalidValue(
                f"about is a mapping from arm to a line of text, got {about!r}; write 'about:' with one arm per line"
            )
        rest["about"] = dict(about)
        base = _arm_from(values["baseline"], None, values["durations"])
        if not isinstance(values["arms"], Mapping):
            raise InvalidValue(
                f"arms is a mapping from name to recipe, got {values['arms']!r}; write 'arms:' with one name per line"
            )
        arms: dict[str, Arm] = {}
        for name, arm in values["arms"].items():
            if isinstance(arm, Mapping) and "about" in arm:
                rest["about"][str(name)] = str(arm["about"])
                arm = {k: v for k, v in arm.items() if k != "about"}
            if isinstance(arm, Mapping) and "systems_only" in arm:
                rest["systems_only"] = with_systems(rest.get("systems_only", ()), str(name), arm["systems_only"])
                arm = {k: v for k, v in arm.items() if k != "systems_only"}
            arms[str(name)] = _arm_from(arm, base, values["durations"])
        return cls(baseline=base, arms=arms, **rest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which `from_dict` builds the same study (commands and callables by their text)."""
        out: dict[str, Any] = {"title": self.title} if self.title else {}
        out["baseline"] = _arm_to(self.baseline)
        out["arms"] = {name: _arm_to(arm, self.baseline) for name, arm in self.arms.items()}
        for name, text in self.about.items():
            if name in out["arms"]:
                out["arms"][name]["about"] = text
            else:
                out.setdefault("about", {})[name] = text
        for name in self.systems_only:
            out["arms"][name]["systems_only"] = True
        out["durations"], out["seeds"] = list(self.durations), self.seeds
        for name, default in (
            ("baseline_name", "baseline"),
            ("pairs", None),
            ("tuning", None),
            ("metric", ""),
            ("higher_is_better", None),
            ("looks", None),
            ("spending", ""),
            ("curve", SEPARATE),
        ):
            value = getattr(self, name)
            if value != default:
                out[name] = _plain(value)
        return out


def load_study(path: str | Path) -> Study:
    """A study from a YAML file, or from a Python file that defines `study = ri.Study(...)`."""
    file = Path(path)
    if file.suffix == ".py" and file.is_file():
        return _load_python(file)
    from ..core.yaml_numbers import read_mapping

    values = read_mapping(
        file,
        "a study",
        holds="baseline, arms and durations",
        remedy="see reinvest compare --help",
        form="a YAML or Python file",
    )
    return Study.from_dict(values)


def _load_python(file: Path) -> Study:
    import sys

    sys.path.insert(0, str(file.parent.resolve()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise InvalidValue(f"a study file is Python, got {file.name} that cannot be imported; rename it to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except ReinvestError:
        raise
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == spec.origin]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else "?"
        raise InvalidValue(
            f"a Python study runs without an error, got {type(error).__name__}: {' '.join(str(error).split())} "
            f"at line {line} of {file.name}; mend that line"
        ) from error
    study = getattr(module, "study", None)
    if not isinstance(study, Study):
        raise InvalidValue(f"a Python study defines study = ri.Study(...), got {study!r} in {file.name}; add that line")
    return study


def _arm_from(value: Any, base: Arm | None, durations: Sequence[str]) -> Arm:
    from ..core.names import load

    if isinstance(value, (Recipe, str)):
        return value
    if callable(value):
        function: Callable[..., Any] = value
        return function
    if not isinstance(value, Mapping):
        raise InvalidValue(
            f"an arm is a mapping of recipe fields, {{command: ...}} or {{callable: ...}}, got {value!r}; see reinvest compare --help"
        )
    if "command" in value:
        return str(value["command"])
    if "callable" in value:
        made: Callable[..., Any] = load(str(value["callable"]))
        return made
    if base is None or not isinstance(base, Recipe):
        return Recipe.from_dict({"duration": str(durations[0]), **value})
    changes = dict(value)
    added = changes.pop("methods", None) or []
    if "all_methods" in changes:
        changes["methods"] = changes.pop("all_methods") or []
    return base.with_(*(added if isinstance(added, list) else [added]), **changes)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value


def _arm_to(arm: Arm, base: Arm | None = None) -> dict[str, Any]:
    if isinstance(arm, str):
        return {"command": arm}
    if not isinstance(arm, Recipe):
        return {"callable": f"{getattr(arm, '__module__', '?')}:{getattr(arm, '__qualname__', repr(arm))}"}
    values = arm.to_dict()
    values.pop("duration")
    if not isinstance(base, Recipe):
        return values
    theirs = base.to_dict()
    shared = len(theirs["methods"])
    if values["methods"][:shared] != theirs["methods"]:
        values["all_methods"] = values.pop("methods")
        return {k: v for k, v in {**values, "seeds": arm.seeds}.items() if v != theirs.get(k, {})}
    changed = {k: v for k, v in values.items() if k != "methods" and v != theirs.get(k)}
    if "seeds" in theirs and not arm.seeds:
        changed["seeds"] = {}
    added = values["methods"][shared:]
    return {**changed, **({"methods": added} if added else {})}
