"""The ways in which a recipe can re-use the runs that may help it, ranked by what stored studies found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import ReinvestError
from ..core.recipe import Recipe
from ..reuse.fit import TAUGHT
from .candidates import Candidate, Refused, Target, constant_weight, quality_of
from .evidence import Evidence, Saving, saving_of
from .policies import POLICIES, RATE, apply

OFFERED = ("warm start", "records", "records average", "clean pass", "high-loss")
"""What is offered without any evidence, in this order; other policies need a stored study that shows a saving."""

SEVERAL = 3
"""Runs that a policy of several looks at, unless its options say otherwise."""

NEEDS = {"rows": "records", "weights": "warm start", "outputs": "clean pass"}
"""What a way of re-use takes from a run -> what refusals call it."""


@dataclass(frozen=True)
class Option:
    """One way to re-use runs: `how` is a policy's name, `policy` what `studies.policies.apply` takes.

    runs: ids, the last one first chosen. setting: what is new in the recipe's data. why: a sentence. saving: what stored
    studies say, None where none has judged it. recipe: the recipe with it applied. length: share of the duration that
    the followers of those studies ran, where it was not all of it; `recipe` keeps its duration.
    """

    how: str
    runs: tuple[str, ...]
    policy: Mapping[str, Any]
    setting: str
    why: str
    saving: Saving | None
    recipe: Recipe
    length: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "how": self.how,
            "runs": list(self.runs),
            "policy": dict(self.policy),
            "setting": self.setting,
            "why": self.why,
            "saving": None if self.saving is None else self.saving.to_dict(),
            "length": self.length,
            "recipe": self.recipe.to_dict(),
        }


class Search:
    """The options for one recipe out of the runs that may help."""

    def __init__(
        self,
        target: Target,
        candidates: Sequence[Candidate],
        evidence: Sequence[Evidence],
        refused: Sequence[Refused],
        forced: bool,
    ) -> None:
        self.target, self.candidates, self.evidence, self.forced = target, list(candidates), list(evidence), forced
        self.refused = list(refused)

    def options(self) -> list[Option]:
        """All options, ranked."""
        found: list[tuple[tuple[float, ...], Option]] = []
        others = [name for name in POLICIES if name not in (*OFFERED, "scratch", "advise")]
        for place, how in enumerate((*OFFERED, *others)):
            if how in OFFERED or any(row.policy == how and row.helps for row in self.evidence):
                option = self._option(how)
                if option is not None:
                    found.append((self._rank(option, place), option))
        return [option for _, option in sorted(found, key=lambda pair: pair[0])]

    @staticmethod
    def _rank(option: Option, place: int) -> tuple[float, ...]:
        saving = option.saving
        if saving is None or not (saving.helps or saving.fails):
            return (1, 0, 0, place)
        return (0 if saving.helps else 2, -saving.speedup, saving.closeness, place)

    def _option(self, how: str) -> Option | None:
        policy = POLICIES[how]
        chosen = self._usable(how, SEVERAL if policy.several else 1)
        if not chosen or (policy.several and len(chosen) < 2):
            return None
        best = chosen[0]
        saving = saving_of(
            self.evidence,
            how,
            setting=best.setting,
            task=str(self.target.recipe.task["name"]),
            same_model=best.same_model,
        )
        if how not in OFFERED and (saving is None or not saving.helps):
            return None
        if saving is not None and saving.fails and not self.forced:
            self._refuse(
                chosen, how, f"stored studies show no saving by it ({saving}); take another way, or train from scratch"
            )
            return None
        # Settings that were not shown to save anything are no better than the defaults.
        options = dict(saving.options) if saving is not None and saving.helps else {}
        chosen = chosen[: policy.most(options)]
        if constant_weight(options) and any(r["how"] in TAUGHT for r in best.run.reuse):
            self._refuse(
                chosen[:1],
                how,
                "a constant weight is for teachers that were not distilled themselves, got one that was; take another run",
            )
            return None
        return self._made(how, chosen, options, saving)

    def _made(
        self, how: str, chosen: Sequence[Candidate], options: dict[str, Any], saving: Saving | None
    ) -> Option | None:
        share = options.pop("length", None)
        policy = {"reuse": how, **options}
        past = [c.run for c in chosen[::-1]]
        try:
            recipe = apply(policy, self.target.recipe, past)
        except ReinvestError as error:
            self._refuse(chosen, how, " ".join(str(error).split()))
            return None
        return Option(
            how,
            tuple(c.run.id for c in chosen),
            policy,
            chosen[0].setting,
            self._why(how, chosen, float(options.get("rate", RATE))),
            saving,
            recipe,
            None if share is None else float(share),
        )

    def _usable(self, how: str, count: int) -> list[Candidate]:
        """The first `count` candidates that can give what a policy needs; those before them that cannot are refused."""
        needs, found = POLICIES[how].needs, []
        for candidate in self.candidates:
            reason, need = candidate.problem(needs)
            if reason:
                self._refuse([candidate], NEEDS.get(need, ""), reason)
                continue
            found.append(candidate)
            if len(found) == count:
                break
        # Where the run left records, one pass over its model finds out nothing that they do not tell.
        if how == "clean pass" and found and not found[0].problem("rows")[0] and not self._shown(how):
            return []
        return found

    def _shown(self, how: str) -> bool:
        return any(row.policy == how and row.helps for row in self.evidence)

    def _refuse(self, candidates: Sequence[Candidate], how: str, reason: str) -> None:
        self.refused += [Refused(c.run.id, reason, how) for c in candidates]

    @staticmethod
    def _told_by_a_pass(candidate: Candidate) -> str:
        if candidate.problem("rows")[0]:
            return ", but no records of single examples: one pass of its model over them makes up for that"
        return ": one pass of its model over the examples tells what it learned of each"

    def _why(self, how: str, chosen: Sequence[Candidate], rate: float) -> str:
        metric = self.target.task.metric
        named = []
        for one in chosen:
            value = quality_of(one.run, metric)
            named.append(f"{one.run.id} ({'no validation' if value is None else f'validation {metric} {value:.4g}'})")
        who = f"run {named[0]}" if len(named) == 1 else f"runs {', '.join(named)}"
        data = {
            "no new data": "trained on the same data" if chosen[0].same_data else "trained on these data among others",
            "new data": "trained on a part of these data",
            "new classes": "knows some of these classes",
        }[chosen[0].setting]
        said = {
            "warm start": f"{data} with this model: begin with its weights, at {rate:.2g} of the peak learning rate "
            "(the new run inherits them, so it is no independent test of the recipe)",
            "records": f"{data} and recorded what it learned of each example, which teaches any architecture",
            "records average": "recorded what they learned of each example: the average of that teaches",
            "clean pass": f"{data} and left weights{self._told_by_a_pass(chosen[0])}",
            "high-loss": f"{data} with this model and knows which examples are hard: begin with its weights and train on "
            "these, with some of the rest",
        }
        return f"{who} {said[how] if how in said else f'{data}: the new run is {POLICIES[how].about}'}"
