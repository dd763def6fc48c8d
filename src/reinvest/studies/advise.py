"""`advise`: which of the runs there are help a recipe, how, and what that is known to save."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import InvalidValue, ReinvestError
from ..core.recipe import Recipe
from ..loop.session import run_identity
from ..loop.train import train
from ..store.forks import parts_of
from .candidates import Refused, Target, look
from .evidence import PACKAGED, Evidence, load_evidence
from .options import Option, Search
from .policies import RATE, scaled

__all__ = ["Advice", "Option", "Refused", "advise", "follow", "train_with_advice"]

REUSING = ("Distill", "WarmStart", "Subset")
"""Methods that the policies add."""


@dataclass(frozen=True)
class Advice:
    """What `advise` found: options by expected saving, the runs that were refused, and the recipe to train.

    asked: the recipe as it came. found: id of a finished run that is this recipe and seed already, alone or with
    re-use. looked: how many runs were looked at. studied: whether any study is stored. note: why there is nothing to do.
    """

    asked: Recipe
    options: tuple[Option, ...] = ()
    refused: tuple[Refused, ...] = ()
    found: str = ""
    looked: int = 0
    studied: bool = False
    note: str = field(default="")

    @property
    def choice(self) -> Option | None:
        """The first option, None if nothing helps."""
        return self.options[0] if self.options else None

    @property
    def recipe(self) -> Recipe:
        """The recipe with the choice applied; as it was asked for if nothing helps."""
        return self.options[0].recipe if self.options else self.asked

    def expected(self, option: Option) -> str:
        """What is known of an option's saving, in words."""
        if option.saving is not None:
            return str(option.saving)
        return (
            "no stored study has judged it"
            if self.studied
            else "no study stored yet, so nothing is known of the saving"
        )

    def __str__(self) -> str:
        lines = [self.note] if self.note else []
        for k, option in enumerate(self.options, 1):
            lines.append(f"{k}. {option.how}: {option.why}.")
            lines.append(f"   Expected: {self.expected(option)}.")
            if option.length is not None:
                shorter = scaled(option.recipe.duration, option.length)
                lines.append(f"   That is the saving of shorter runs: for it, set the duration to {shorter}.")
        if not self.options and not self.note:
            lines.append(
                f"Nothing helps: of {self.looked:,} runs none can be re-used for this recipe; train it from scratch."
            )
        if self.refused:
            lines.append("Not re-used:")
            lines += [f"  {line}" for line in self.reasons()]
        return "\n".join(lines)

    def reasons(self) -> list[str]:
        """The refusals in words, runs with one reason together."""
        together: dict[tuple[str, str], list[str]] = {}
        for one in self.refused:
            together.setdefault((one.how, one.reason), []).append(one.run)
        return [f"{_some(runs)}{f' for {how}' if how else ''}: {reason}" for (how, reason), runs in together.items()]

    def done(self, run: Any) -> dict[str, Any]:
        """What was done for `run`, which was trained with this advice: plain JSON values, and `said` in words."""
        option = None if self.found else self.choice
        if option is None:
            said = self.note or "nothing: no earlier run can be re-used for this recipe, so it was trained from scratch"
        else:
            said = f"{option.how}: {option.why}; expected: {self.expected(option)}"
            if option.length is not None:
                shorter = scaled(option.recipe.duration, option.length)
                said += f"; that is the saving of shorter runs, and this one was as long as asked for: for it, set the duration to {shorter}"
        return {
            "how": [r["how"] for r in run.reuse],
            "runs": [r["run"] for r in run.reuse],
            "option": None if option is None else option.to_dict(),
            "found": self.found or None,
            "refused": len({r.run for r in self.refused if not r.how}),
            "said": said,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "asked": self.asked.to_dict(),
            "found": self.found or None,
            "looked": self.looked,
            "studied": self.studied,
            "note": self.note or None,
            "choice": None if self.choice is None else self.choice.to_dict(),
            "options": [option.to_dict() for option in self.options],
            "refused": [{"run": r.run, "how": r.how or None, "reason": r.reason} for r in self.refused],
            "recipe": self.recipe.to_dict(),
        }


def _some(runs: Sequence[str], most: int = 3) -> str:
    named = ", ".join(runs[:most])
    return f"{'run' if len(runs) == 1 else 'runs'} {named}" + (
        f" and {len(runs) - most:,} more" if len(runs) > most else ""
    )


def advise(
    recipe: Recipe,
    store: Any,
    *,
    seed: int | None = None,
    evidence: Sequence[Evidence] | str | os.PathLike[str] | None = None,
    runs: Iterable[Any] | None = None,
) -> Advice:
    """Look through a store's runs and say which help this recipe, how, and what that is known to save.

    seed: where it is given, a finished run of this recipe and seed is found too, alone or with re-use. evidence: rows, or
    a folder of stored sequence studies; default those of the store and of the package. runs: only these runs or ids;
    then ways that studies found useless are listed last instead of refused. Nothing is trained and no model is run;
    runs are ranked by validation quality, the test split is not looked at.

    Options come in this order: those that stored studies show to save time, by speed-up; then, in the order of
    `OFFERED`, those about which nothing is known or shown. Ways that the nearest studies show to save nothing are
    refused. Raises InvalidValue for what is no recipe, UnknownName for unknown runs.
    """
    if not isinstance(recipe, Recipe):
        raise InvalidValue(f"advice is about a recipe, got {recipe!r}; write ri.Recipe(task='digits', model='convnet')")
    if evidence is None:
        rows = load_evidence(store)
    elif isinstance(evidence, (str, os.PathLike)):
        rows = load_evidence(folders=[evidence])
    else:
        rows = list(evidence)
    every = store.runs()
    if runs is None:
        chosen = every
    else:
        chosen = [store.get(r) if isinstance(r, str) else r for r in runs]
    again = "" if seed is None else _found(recipe, seed, store, every, rows)
    return _advice(recipe, chosen, rows, known=every, forced=runs is not None, found=again)


def follow(recipe: Recipe, past: Sequence[Any], *, evidence: str | os.PathLike[str] | None = None) -> Recipe:
    """The recipe of a run that follows `past` in a sequence study: advised, and as long as the evidence was.

    evidence: a folder of stored studies; default those of the package alone. What lies in the store is left out, so
    that a study's own result, and whatever was studied since, cannot change the runs that it consists of.
    """
    advice = _advice(recipe, past, load_evidence(folders=[PACKAGED if evidence is None else evidence]))
    choice = advice.choice
    if choice is None:
        return recipe
    return choice.recipe.with_(duration=scaled(recipe.duration, choice.length or 1.0))


def train_with_advice(
    recipe: Recipe, seed: int, store: Any, *, reuse: str = "auto", **options: Any
) -> tuple[Any, Advice]:
    """(the trained run, the advice that was followed). reuse: "auto", or the id of a run that is to be used.

    With "auto" a run that the store holds of this recipe and seed, alone or with re-use, is returned, so that the same
    call twice is one run. options: those of `train`. Raises InvalidValue, with the reason, for a run that cannot help.
    """
    if reuse != "auto":
        run = store.get(reuse)
        advice = advise(recipe, store, runs=[run])
        if advice.choice is None:
            why = "; ".join(dict.fromkeys(r.reason.partition(";")[0] for r in advice.refused)) or advice.note
            raise InvalidValue(
                f"a run that is re-used helps the recipe, got run {run.id!r}, which cannot ({why}); "
                "take another run, or reuse='auto' to have one chosen"
            )
        return train(advice.recipe, seed, store, **options), advice
    advice = advise(recipe, store, seed=seed)
    if advice.found:
        return store.get(advice.found), advice
    return train(advice.recipe, seed, store, **options), advice


# ---- how options are found -------------------------------------------------------------------------------------------


def _advice(
    recipe: Recipe,
    runs: Sequence[Any],
    evidence: Sequence[Evidence],
    *,
    known: Sequence[Any] | None = None,
    forced: bool = False,
    found: str = "",
) -> Advice:
    studied = any(row.speedup is not None for row in evidence)
    common = {"looked": len(runs), "studied": studied, "found": found}
    if found:
        note = f"Run {found} is this recipe with this seed already: there is nothing to train."
        return Advice(recipe, note=note, **common)  # type: ignore[arg-type]
    if recipe.parents:
        note = f"This recipe re-uses {_some(recipe.parents)} already: nothing is added to it."
        return Advice(recipe, note=note, **common)  # type: ignore[arg-type]
    target = Target(recipe)
    candidates, refused = look(target, runs, known)
    search = Search(target, candidates, evidence, refused, forced)
    options = search.options()
    return Advice(recipe, tuple(options), tuple(dict.fromkeys(search.refused)), **common)  # type: ignore[arg-type]


# ---- the same call twice ---------------------------------------------------------------------------------------------


def _found(recipe: Recipe, seed: int, store: Any, runs: Sequence[Any], evidence: Sequence[Evidence]) -> str:
    """Id of the finished run that is this recipe and seed already, "" if there is none."""
    plain = store.find(run_identity(recipe, seed))
    if plain is not None:
        return str(plain.id)
    rates = {1.0, RATE, *(float(row.options["rate"]) for row in evidence if "rate" in row.options)}
    for run in reversed(runs):
        if run.seed == seed and run.status == "finished" and run.parents and run.task == recipe.task["name"]:
            try:
                if _made_from(recipe, run, rates) and _up_to_date(run):
                    return str(run.id)
            except (ReinvestError, OSError):
                continue  # a description that cannot be read, or a factory that is gone
    return ""


def _up_to_date(run: Any) -> bool:
    """Whether training its recipe now would be that run: the text of a recipe does not say what its code and data are."""
    return run_identity(Recipe.from_dict(run.config), run.seed, parts_of(run)) == str(run.identity)


def _made_from(recipe: Recipe, run: Any, rates: Iterable[float]) -> bool:
    """Whether a run's recipe is this one with re-use added, in the ways in which the policies add it."""
    config = run.config
    added = [m["name"] for m in config.get("methods") or () if m.get("name") in REUSING]
    if not added or not run.reuse:
        return False
    left = {**config, "methods": [m for m in config["methods"] if m.get("name") not in REUSING]}
    wanted, rate = recipe.to_dict(), config["optimizer"].get("lr")
    if "lr" in recipe.optimizer and rate is not None:
        allowed = rates if "WarmStart" in added else (1.0,)
        if not any(abs(rate - recipe.optimizer["lr"] * factor) <= 1e-9 * abs(rate) for factor in allowed):
            return False
        left["optimizer"] = {**left["optimizer"], "lr": recipe.optimizer["lr"]}
    return Recipe.from_dict(left).canonical() == Recipe.from_dict(wanted).canonical()
