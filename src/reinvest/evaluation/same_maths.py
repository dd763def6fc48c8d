"""A few steps of two recipes with one seed: are the weights the same bits, the same but for rounding, or others?"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.recipe import Recipe
from ..core.streams import key
from ..loop.session import Session

STEPS = 4
"""Enough for momentum and a second look at the weights, and too few for rounding to grow into another trajectory."""
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Maths:
    """What the first steps of two recipes have in common.

    result: "bit-identical", "equal to rounding", "different" or "other parameters" (which cannot be compared). distance:
    of the weights, relative to how far the baseline's moved (0: the same bits; 1: as far apart as that), NaN where they
    cannot be compared. limit: the distance up to which rounding explains it, the root of the precision's epsilon: between
    the two there is nothing that a few steps of either kind reach. steps: how many.
    """

    result: str
    distance: float
    limit: float
    steps: int

    @property
    def sentence(self) -> str:
        """One plain-language sentence."""
        if self.result == "other parameters":
            return "The arms have other parameters, so that their weights cannot be compared."
        how = "" if self.distance == 0.0 else f" (apart by {self.distance:.2g} of the way that they moved)"
        return f"After {self.steps} steps with one seed the weights are {self.result}{how}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        distance = self.distance if math.isfinite(self.distance) else None
        values = {"result": self.result, "distance": distance, "limit": self.limit, "steps": self.steps}
        return {**values, "sentence": self.sentence}


def same_maths(
    baseline: Recipe, arm: Recipe, *, seed: int = 0, steps: int = STEPS, device: torch.device | str = "cpu"
) -> Maths:
    """Train both for `steps` steps (1 or more) of their durations with one seed, and compare their weights and buffers."""
    kinds = [PRECISIONS.get(r.precision, torch.float32) for r in (baseline, arm)]
    limit = math.sqrt(max(torch.finfo(kind).eps for kind in kinds))
    before, one = _weights(baseline, seed, steps, device)
    _, two = _weights(arm, seed, steps, device)
    if {n: t.shape for n, t in one.items()} != {n: t.shape for n, t in two.items()}:
        return Maths("other parameters", math.nan, limit, steps)
    if all(torch.equal(one[n], two[n]) for n in one):
        return Maths("bit-identical", 0.0, limit, steps)
    moved = _norm([one[n] - before[n] for n in one])
    apart = _norm([one[n] - two[n] for n in one])
    distance = apart / moved if moved > 0.0 else math.inf
    # Not a number where an arm diverged: that is a difference.
    return Maths("equal to rounding" if distance <= limit else "different", distance, limit, steps)


def _norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(t.square().sum()) for t in tensors))


def _weights(
    recipe: Recipe, seed: int, steps: int, device: torch.device | str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Floating-point weights and buffers before the first step and after the last, in double precision."""
    with torch.random.fork_rng():
        session = Session(recipe, seed, device)
        torch.manual_seed(key(recipe.seed_of("dropout", seed), "dropout") >> 1)
        with session.attached() as methods:
            session.model.train()
            before = _state(session.model)
            epochs = itertools.count()
            done = 0
            while done < min(steps, session.total_steps):
                for batch in itertools.islice(
                    methods.batches(session.loader(next(epochs), 0)), min(steps, session.total_steps) - done
                ):
                    session.step(batch)
                    done += 1
            return before, _state(session.model)


def _state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: t.detach().double().clone() for n, t in model.state_dict().items() if t.is_floating_point()}
