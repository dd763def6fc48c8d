"""Policies: how a run that follows others is made from the runs of its own chain.

A policy is a name and options, as a study file has them: {"reuse": "records", "weight": 0.9, "length": 0.5}. It sees
the runs before it in the same chain (and a pool that was given from outside), never those of other sequences.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.duration import Duration
from ..core.errors import InvalidValue, unknown
from ..core.recipe import Recipe

DISTILL = ("weight", "until", "every", "probability", "reweigh", "temperature", "loss")
WARM = ("keep", "noise", "heads")
SUBSET = ("share", "replay", "cap", "which")
TEACHERS = ("last", "choose")
"""Options that say which of the earlier runs teach: how many, and whether the newest or the best."""
EVERY_POLICY = ("length", "fallback")
"""Options that any policy takes: share of the position's duration for followers, and what to do where it cannot apply."""

RATE = 1 / 3
"""Peak learning rate of a warm start, as a share of the recipe's (records card, section 7)."""


@dataclass(frozen=True)
class Policy:
    """One way of re-use: make(recipe, past, options) -> recipe; past: the finished runs before it, oldest first.

    needs: "nothing", "rows" (records by id), "outputs" (the earlier model on this run's data), "weights", or
    "rows weights". several: takes all runs of the past, not the newest alone.
    """

    make: Callable[[Recipe, Sequence[Any], dict[str, Any]], Recipe]
    options: tuple[str, ...]
    needs: str
    about: str
    several: bool = False

    def __call__(self, recipe: Recipe, past: Sequence[Any], **options: Any) -> Recipe:
        """The recipe of a follower; the recipe as it is where there is nothing to re-use yet."""
        ordered = by_quality(past, recipe) if options.get("choose") == "best" else past
        chosen = ordered[-self.most(options) :] if past else []
        left = {k: v for k, v in options.items() if k not in ("length", "fallback", *TEACHERS)}
        made = self.make(recipe, chosen, left) if chosen else recipe
        return made.with_(duration=scaled(made.duration, options["length"])) if past and "length" in options else made

    def most(self, options: Mapping[str, Any]) -> int:
        """How many runs it looks at: the newest, or with choose="best" the best."""
        return int(options.get("last", 10**9 if self.several else 1))


def apply(policy: Mapping[str, Any] | str, recipe: Recipe, past: Sequence[Any]) -> Recipe:
    """The recipe of a run that follows `past` (finished runs of its chain, oldest first) under a policy.

    policy: a name, or {"reuse": name, option: value, ...}. An empty past leaves the recipe as it is: the first run is
    the same under all policies. Raises UnknownName for policies and options that are not known (listing those that
    are) and InvalidValue for values outside their range.
    """
    name, options = parsed(policy)
    return POLICIES[name](recipe, past, **options)


def parsed(policy: Mapping[str, Any] | str) -> tuple[str, dict[str, Any]]:
    """(name, options) of a policy, both known and in their ranges."""
    if isinstance(policy, str):
        policy = {"reuse": policy}
    if not isinstance(policy, Mapping) or not isinstance(policy.get("reuse"), str):
        raise InvalidValue(
            f"a policy is a name or a mapping {{reuse: name, option: value}}, got {policy!r}; write {{reuse: records}}"
        )
    name = str(policy["reuse"])
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES)
    options = {str(k): v for k, v in policy.items() if k != "reuse"}
    known = (*POLICIES[name].options, *EVERY_POLICY)
    for option in options:
        if option not in known:
            raise unknown(f"option of policy {name!r}", option, known)
    _check(name, options)
    return name, options


def _check(name: str, options: Mapping[str, Any]) -> None:
    length, last, rate = options.get("length", 1.0), options.get("last", 1), options.get("rate", 1.0)
    if not _number(length) or not 0 < length <= 1:
        raise InvalidValue(
            f"length is a share of the position's duration above 0, up to 1, got {length!r}; 0.5 halves a follower"
        )
    if not isinstance(last, int) or isinstance(last, bool) or last < 1:
        raise InvalidValue(f"last is a number of runs from 1 (the newest alone) up, got {last!r}; leave it out for all")
    if not _number(rate) or not 0 < rate <= 10:
        raise InvalidValue(f"rate is a factor on the peak learning rate above 0, up to 10, got {rate!r}; 0.33 is usual")
    if options.get("choose", "newest") not in ("newest", "best"):
        raise unknown("choice of teachers", str(options["choose"]), ("newest", "best"))
    evidence = options.get("evidence")
    if evidence is not None and not (isinstance(evidence, str) and evidence):
        raise InvalidValue(
            f"evidence is the path of a folder with stored studies, got {evidence!r}; leave it out for those of the package"
        )
    fallback = options.get("fallback")
    if fallback is not None:
        inner, settings = parsed(fallback)
        if inner == name or "fallback" in settings or "length" in settings:
            raise InvalidValue(
                f"a fallback is another policy with its own options, got {fallback!r} for {name!r}; write fallback: records"
            )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def scaled(duration: str, length: float) -> str:
    """A duration times `length` in (0, 1], in its own unit; steps are rounded, to 1 at least."""
    whole = Duration.parse(duration)
    amount = round(whole.amount * length, 9)
    return str(Duration(max(1, round(amount)) if whole.unit == "st" else amount, whole.unit))


def by_quality(past: Sequence[Any], recipe: Recipe) -> list[Any]:
    """Runs from the worst to the best by the last value on validation; of equal ones the newest last, unknown ones first."""
    from ..loop.session import build_task

    task = build_task(recipe)
    sign = 1.0 if task.higher_is_better else -1.0

    def quality(run: Any) -> float:
        value = getattr(run, "last", {}).get("validation", {}).get(task.metric)
        return -math.inf if value is None else sign * value

    return sorted(past, key=quality)


def text_of(policy: Mapping[str, Any] | str) -> str:
    """One line of text that is equal for equal policies; the fallback is left out."""
    name, options = parsed(policy)
    return json.dumps({"reuse": name, **{k: v for k, v in options.items() if k != "fallback"}}, sort_keys=True)


# ---- how followers are made ----------------------------------------------------------------------------------------


def _scratch(recipe: Recipe, past: Sequence[Any], options: dict[str, Any]) -> Recipe:
    return recipe


def _distilled(source: str, pool: str, **fixed: Any) -> Callable[[Recipe, Sequence[Any], dict[str, Any]], Recipe]:
    def make(recipe: Recipe, past: Sequence[Any], options: dict[str, Any]) -> Recipe:
        ids = [str(run.id) for run in past]
        more = {"pool": pool} if len(ids) > 1 else {}
        return recipe.with_(
            {
                "name": "Distill",
                "teacher": ids if len(ids) > 1 else ids[0],
                "source": source,
                **more,
                **{**fixed, **options},
            }
        )

    return make


def _warm(rate: float, **fixed: Any) -> Callable[[Recipe, Sequence[Any], dict[str, Any]], Recipe]:
    def make(recipe: Recipe, past: Sequence[Any], options: dict[str, Any]) -> Recipe:
        settings = {**fixed, **options}
        slower = _at_rate(recipe, float(settings.pop("rate", rate)))
        return slower.with_({"name": "WarmStart", "run": str(past[-1].id), **settings})

    return make


def _warm_records(recipe: Recipe, past: Sequence[Any], options: dict[str, Any]) -> Recipe:
    warm = {k: v for k, v in options.items() if k in (*WARM, "rate")}
    return _distilled("records", "random")(
        _warm(RATE)(recipe, past, warm), past[-1:], {k: v for k, v in options.items() if k not in warm}
    )


def _high_loss(recipe: Recipe, past: Sequence[Any], options: dict[str, Any]) -> Recipe:
    warm = {k: v for k, v in options.items() if k in (*WARM, "rate")}
    subset = {k: v for k, v in options.items() if k not in warm}
    return _warm(RATE)(recipe, past, warm).with_({"name": "Subset", "run": str(past[-1].id), **subset})


def _advised(recipe: Recipe, past: Sequence[Any], options: dict[str, Any]) -> Recipe:
    from . import advise

    chosen: Recipe = advise.follow(recipe, list(past), **options)
    return chosen


def _at_rate(recipe: Recipe, rate: float) -> Recipe:
    if rate == 1.0:
        return recipe
    if "lr" not in recipe.optimizer:
        raise InvalidValue(
            f"a warm start changes the peak learning rate, got an optimizer without one ({recipe.optimizer['name']!r}); "
            "write its lr into the recipe, or rate: 1"
        )
    return recipe.with_(optimizer={**recipe.optimizer, "lr": recipe.optimizer["lr"] * rate})


POLICIES: dict[str, Policy] = {
    "scratch": Policy(_scratch, (), "nothing", "every run starts from nothing"),
    "records": Policy(
        _distilled("records", "random"),
        (*DISTILL, *TEACHERS),
        "rows",
        "distilled from what the newest run recorded of each example",
    ),
    "records average": Policy(
        _distilled("records", "average"),
        (*DISTILL, *TEACHERS),
        "rows",
        "distilled from the average of the records of earlier runs",
        several=True,
    ),
    "records all": Policy(
        _distilled("records", "random"),
        (*DISTILL, *TEACHERS),
        "rows",
        "distilled from the records of earlier runs, one of them at random each step",
        several=True,
    ),
    "clean pass": Policy(
        _distilled("clean pass", "random"),
        (*DISTILL, *TEACHERS),
        "outputs",
        "distilled from one pass of the newest run's model over the training examples",
    ),
    "forward": Policy(
        _distilled("forward", "random"),
        (*DISTILL, *TEACHERS),
        "outputs",
        "distilled from the newest run's model, asked at every step",
    ),
    "forward first": Policy(
        _distilled("forward", "random", until=0.2, weight=[0.9, 0.9]),
        (*DISTILL, *TEACHERS),
        "outputs",
        "distilled from the newest run's model in the first fifth of the run",
    ),
    "forward every": Policy(
        _distilled("forward", "random", every=10),
        (*DISTILL, *TEACHERS),
        "outputs",
        "distilled from the newest run's model, asked at every tenth step",
    ),
    "forward random": Policy(
        _distilled("forward", "random"),
        (*DISTILL, *TEACHERS),
        "outputs",
        "distilled from earlier models, one of them at random each step",
        several=True,
    ),
    "warm start": Policy(
        _warm(RATE),
        (*WARM, "rate"),
        "weights",
        "begins with the newest run's weights, at a third of the peak learning rate",
    ),
    "shrink-perturb": Policy(
        _warm(1.0, keep=0.6, noise=0.4),
        (*WARM, "rate"),
        "weights",
        "begins with the newest run's weights, shrunk and mixed with fresh ones",
    ),
    "warm start + records": Policy(
        _warm_records,
        (*WARM, "rate", *DISTILL),
        "rows weights",
        "begins with the newest run's weights and is distilled from its records",
    ),
    "high-loss": Policy(
        _high_loss,
        (*WARM, "rate", *SUBSET, "until"),
        "rows weights",
        "begins with the newest run's weights and trains on what it found hard, with some of the rest",
    ),
    "advise": Policy(_advised, ("evidence",), "nothing", "re-uses what is advised of the runs there are", several=True),
}
"""Name of a policy -> how a follower is made."""
