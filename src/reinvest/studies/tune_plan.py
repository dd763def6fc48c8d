"""A tuning plan: arms as in a comparison, what of each is tuned, and with how much; decided before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.duration import Duration
from ..core.errors import InvalidValue, unknown
from ..core.recipe import Recipe
from ..core.streams import key
from ..evaluation.judge import STUDIES
from ..evaluation.study import MIN_SEEDS, Study
from .tune_ask import SAMPLERS
from .tune_space import Space, read_space, resolved_space, space_to_dict

OWN = ("spaces", "trials", "duration", "studies", "sampler", "seeds")
SHARED = ("baseline", "arms", "durations", "title", "metric", "higher_is_better", "about", "baseline_name")
SEEDS = 5


@dataclass(frozen=True)
class TuningPlan:
    """What is tuned, decided beforehand.

    study: the comparison that the winners are put to (arms are recipes). spaces: {arm: space}, the baseline's too.
    trial_durations: {arm: how long its trials last}. trials: of each arm in each study, at least 2. studies: independent
    tunings of each arm, 1 for a claim about the tuned recipes, at least 3 for one about the method. seeds: runs of each
    winner at every duration, at least 3 with one study and 1 with several. Raises InvalidValue for a plan that could not
    end in a verdict.
    """

    study: Study
    spaces: Mapping[str, Space]
    trial_durations: Mapping[str, str]
    trials: int
    studies: int = 1
    sampler: str = "qmc"
    seeds: int = SEEDS

    def __post_init__(self) -> None:
        recipes_of(self.study)
        _check_count("trials is", self.trials, 2, "8")
        _check_count("studies is", self.studies, 1, "3")
        if 1 < self.studies < STUDIES:
            raise InvalidValue(
                f"studies is 1 or at least {STUDIES}, got {self.studies}; write 1 for a claim about the tuned recipes, "
                f"{STUDIES} for one about the method"
            )
        least = 1 if self.studies > 1 else MIN_SEEDS
        if not isinstance(self.seeds, int) or isinstance(self.seeds, bool) or self.seeds < least:
            raise InvalidValue(
                f"winners are run again with at least {least} seed{'s' * (least > 1)}, got {self.seeds!r}; write seeds: 5"
            )
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)

    @property
    def claim(self) -> str:
        """What a verdict can be about: "recipe" (one tuning of each arm) or "method" (several)."""
        return "method" if self.studies >= STUDIES else "recipe"

    @property
    def baseline(self) -> str:
        """The baseline's name."""
        return self.study.baseline_name

    def recipe(self, arm: str) -> Recipe:
        """An arm's recipe before tuning, as long as its trials."""
        return replace(recipes_of(self.study)[arm], duration=self.trial_durations[arm])

    def resolved(self, find: Callable[[str], str]) -> TuningPlan:
        """A copy that names earlier runs by their full ids, find(reference), as their stored runs do."""
        study = self.study.resolved(find)
        recipes = recipes_of(study)
        spaces = {arm: resolved_space(space, recipes[arm], find) for arm, space in self.spaces.items()}
        return replace(self, study=study, spaces=spaces)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TuningPlan:
        """From the values of a YAML file: a comparison's (without pairs and tuning), and `OWN`."""
        for name in values:
            if name not in (*OWN, *SHARED):
                raise unknown("field of a tuning plan", name, (*OWN, *SHARED))
        for name in ("baseline", "arms", "spaces", "trials", "duration"):
            if name not in values:
                raise InvalidValue(
                    f"a tuning plan has a baseline, arms, spaces, trials and a duration, got "
                    f"{', '.join(map(str, values)) or 'nothing'}; add '{name}:'"
                )
        given = values["duration"]
        first = next(iter(given.values()), "") if isinstance(given, Mapping) else given
        shared = {"durations": durations_around(first), **{k: v for k, v in values.items() if k in SHARED}}
        seeds = values.get("seeds", SEEDS)
        study = Study.from_dict({**shared, "seeds": max(seeds, MIN_SEEDS) if isinstance(seeds, int) else MIN_SEEDS})
        spaces = _spaces(values["spaces"], study)
        durations = _durations(given, study)
        rest = {name: values[name] for name in ("studies", "sampler") if name in values}
        return cls(study, spaces, durations, values["trials"], seeds=seeds, **rest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which `from_dict` builds the same plan."""
        shared = self.study.to_dict()
        same = len(set(self.trial_durations.values())) == 1
        return {
            **shared,
            "spaces": {name: space_to_dict(space) for name, space in self.spaces.items()},
            "trials": self.trials,
            "duration": next(iter(self.trial_durations.values())) if same else dict(self.trial_durations),
            "studies": self.studies,
            "sampler": self.sampler,
            "seeds": self.seeds,
        }


def load_plan(path: str | Path) -> TuningPlan:
    """A plan from a YAML file. Raises InvalidValue or UnknownName."""
    from ..core.yaml_numbers import read_mapping

    values = read_mapping(path, "a tuning plan", holds="baseline, arms and spaces", remedy="see reinvest tune --help")
    return TuningPlan.from_dict(values)


def recipes_of(study: Study) -> dict[str, Recipe]:
    """The arms' recipes by name, the baseline's first. Raises InvalidValue for an arm that is none."""
    found = {}
    for name, arm in study.all_arms().items():
        if not isinstance(arm, Recipe):
            what = "a command" if isinstance(arm, str) else "a callable"
            raise InvalidValue(f"a tuned arm is a recipe, got {what} for {name!r}; describe it by recipe fields")
        found[name] = arm
    return found


def durations_around(trial: Any) -> list[str]:
    """A quarter, a half, once and twice the duration of the trials; in steps from 1 up, each twice the one before."""
    whole = Duration.parse(trial)
    if whole.unit not in ("ep", "st"):
        raise InvalidValue(f"trials last epochs or steps, got {trial!r}; write '10ep' or '3900st'")
    if whole.unit == "ep":
        return [str(Duration(whole.amount * part, "ep")) for part in (0.25, 0.5, 1, 2)]
    first = max(1, round(whole.amount / 4))
    return [str(Duration(first * part, "st")) for part in (1, 2, 4, 8)]


def trial_seed(text: str, study: int, trial: int) -> int:
    """The seed of a trial, in [2^31, 2^32): no run of a comparison has one like it. text: what the arm is."""
    return (1 << 31) + (key(trial, f"tuning seed {text}", study) >> 33)


def final_seed(text: str, study: int, duration: str, replicate: int) -> int:
    """The seed of a winner's run in the comparison, in [0, 2^31). text: what the winner is."""
    return key(replicate, f"tuned seed {text} {duration}", study) >> 33


def sampler_seed(text: str, study: int) -> int:
    """The seed of the proposals of one study of one arm, in [0, 2^31). text: what the arm and its space are."""
    return key(study, f"tuning proposals {text}") >> 33


def _check_count(what: str, value: Any, least: int, example: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        more = f"{least} or more" if least > 1 else f"1 or at least {STUDIES}"
        raise InvalidValue(f"{what} {more}, got {value!r}; write {what.split()[0]}: {example}")


def _durations(given: Any, study: Study) -> dict[str, str]:
    arms = study.all_arms()
    each = dict(given) if isinstance(given, Mapping) else dict.fromkeys(arms, given)
    for name in each:
        if name not in arms:
            raise unknown("arm in duration", name, arms)
    for name in arms:
        if name not in each:
            raise InvalidValue(
                f"duration says how long trials last for every arm, got none for {name!r}; add it, or write one for all"
            )
    for value in each.values():
        durations_around(value)
    return {name: str(Duration.parse(each[name])) for name in arms}


def _spaces(given: Any, study: Study) -> dict[str, Space]:
    arms = recipes_of(study)
    if not isinstance(given, Mapping):
        raise InvalidValue(
            f"spaces is a mapping by the name of the arm, got {given!r}; write 'spaces:' with one per line"
        )
    for name in given:
        if name not in arms:
            raise unknown("arm in spaces", name, arms)
    for name in arms:
        if name not in given:
            raise InvalidValue(
                f"every arm is tuned over its own space, got none for {name!r}; "
                f"write 'spaces: {{{name}: {{optimizer.lr: {{low: 0.05, high: 1.0, log: true}}}}}}'"
            )
    return {name: read_space(name, given[name], recipe) for name, recipe in arms.items()}


def listed(values: Mapping[str, Any]) -> Sequence[str]:
    """Tuned values as short texts: "lr 0.21", "schedule linear"."""
    ends = [(path.removesuffix(".name").rpartition(".")[2], value) for path, value in values.items()]
    return [f"{end} {shown(value)}" for end, value in ends]


def shown(value: Any) -> str:
    """A tuned value as text: four digits are enough to tell configurations apart."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
