"""What a sequence costs: every step at its price, and on top what re-use costs once.

Steps are priced by paired timing blocks: one for each shape of run (task, model, batch size, precision) that occurs,
over all recipes that the arms run at that shape, so that the ratio of an arm to scratch is formed side by side. Where
a method drops examples, what a step costs depends on how many of them earlier runs saw, so that every position of such
an arm is timed by itself. What methods cost once (a clean pass, reading weights and records) is charged as it was measured in each run. The first run
of a sequence is charged to every arm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core import names
from ..core.duration import Duration
from ..core.errors import ReinvestError
from ..core.recipe import Recipe
from ..evaluation.blocks import Timing, timed
from ..evaluation.timing import ArmTiming, Block, Stratum, run_seconds
from .sequence_chain import Chain
from .sequence_plan import AMOUNTS, SequencePlan

PLAIN = "scratch"
"""Name of the recipe without re-use in every block."""
REFERENCES = ("teacher", "run")
"""Arguments of methods that name runs."""


@dataclass(frozen=True)
class Charge:
    """What one run cost: steps x seconds_per_step + one_off = seconds.

    ratio: its step against one from scratch of the same shape (None on the runs' own clock), with its 95 % interval
    (None for scratch itself).
    """

    steps: int
    seconds_per_step: float
    one_off: float
    seconds: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Prices:
    """Timing blocks by shape; without any, runs are charged by their own clocks."""

    blocks: Mapping[str, Block] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """shape -> how the page calls it."""
    teachers: Callable[[str], Any] = lambda run: None

    def timing(self, recipe: Recipe, plain: Recipe, position: int = 0) -> ArmTiming | None:
        """The price of a recipe's step, or None on the runs' own clock."""
        block = self.blocks.get(shape_of(plain))
        return None if block is None else block.arms[price_name(recipe, plain, self.teachers, position)]

    def charge(self, run: Any, recipe: Recipe, plain: Recipe, position: int = 0) -> Charge:
        """What a run cost; plain: the recipe of its position (from 0) without re-use."""
        once = float(run.cost.get("one_off_seconds") or 0.0)
        steps = int(run.steps or 0)
        timing = self.timing(recipe, plain, position)
        if timing is None:
            whole = float(run.seconds) if run.seconds is not None else math.nan
            return Charge(steps, (whole - once) / steps if steps else math.nan, once, whole)
        trained = run_seconds(timing, counts_of(run))
        low, high = timing.interval() if timing.log_ratio_variance > 0 else (None, None)
        return Charge(
            steps, trained / steps if steps else math.nan, once, trained + once, math.exp(timing.log_ratio), low, high
        )


def counts_of(run: Any) -> dict[Stratum, int]:
    """Steps of a run by (kind, tenth), as its clock counted them; all of one kind where it did not."""
    rows = run.cost.get("strata") or []
    counts = {(str(r["kind"]), int(r["tenth"])): int(r["steps"]) for r in rows}
    steps = int(run.steps or 0)
    if sum(counts.values()) != steps:
        return {("", t): len(range(t * steps // 10, (t + 1) * steps // 10)) for t in range(10)}
    return counts


def shape_of(recipe: Recipe) -> str:
    """What decides the price of a plain step: all of a recipe but its length, rate, schedule and amount of data.

    The amount of data counts where a method drops examples: what it keeps of a batch may depend on it.
    """
    values = recipe.to_dict()
    values.pop("duration"), values.pop("schedule")
    if not uneven(recipe.methods):
        values["task"] = {k: v for k, v in values["task"].items() if k not in AMOUNTS}
    values["optimizer"].pop("lr", None)
    return json.dumps(values, sort_keys=True)


def uneven(methods: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any of a recipe's methods drops examples, so that the work of a step depends on which it was given."""
    return any(getattr(names.resolve("method", m["name"]), "uneven", False) for m in methods)


def price_name(recipe: Recipe, plain: Recipe, teachers: Callable[[str], Any], position: int = 0) -> str:
    """Name of a recipe in the block of its shape: what its methods add, with runs by number and model only.

    position: from 0. Where a method drops examples the name says it too, with the amount of data and the durations of
    runs that need not have seen all of theirs: examples without a score are kept.
    """
    if shape_of(recipe) == shape_of(plain):
        return PLAIN
    values = json.loads(shape_of(recipe))
    partial = []
    for method in values["methods"]:
        for name in REFERENCES:
            if name in method and method[name] is not None:
                listed = method[name] if isinstance(method[name], list) else [method[name]]
                partial += [found for r in listed if (found := _partial(teachers(r)))]
                looks = method.get("source") == "forward"
                count = len(listed) if method.get("pool") == "average" else 1
                models = sorted({_model_of(teachers(r)) for r in listed}) if looks else []
                method[name] = [count, *models]
    if not uneven(recipe.methods):
        return json.dumps(values["methods"], sort_keys=True)
    amounts = {k: v for k, v in values["task"].items() if k in AMOUNTS}
    own = {"methods": values["methods"], "position": position + 1, "task": amounts, "partial": sorted(set(partial))}
    return json.dumps(own, sort_keys=True)


def _partial(run: Any) -> str:
    """The duration of a run that need not have seen every example, "" of one that did."""
    config = getattr(run, "config", None) or {}
    text = str(config.get("duration", ""))
    try:
        duration = Duration.parse(text)
        whole = duration.unit == "ep" and duration.amount >= 1 and not uneven(config.get("methods") or ())
    except (ReinvestError, KeyError, TypeError):
        whole = False  # an own loop's, or a method that is gone
    return "" if whole else text


def _model_of(run: Any) -> str:
    config = getattr(run, "config", None)
    return json.dumps((config or {}).get("model"), sort_keys=True)


def time_sequences(
    plan: SequencePlan,
    chains: Sequence[Chain],
    store: Any,
    *,
    timing: Timing,
    device: str,
    on_round: Callable[[int, int], None] = lambda turn, rounds: None,
) -> Prices:
    """The timing blocks of a study whose runs are there; call inside `store.lending()`.

    Each distinct recipe (but for which runs it names, see `price_name`) is timed once, at the middle duration, beside
    scratch. Undisturbed blocks that the store keeps are used again (`evaluation/blocks.py`).
    """
    middle = plan.durations[len(plan.durations) // 2]
    groups: dict[str, dict[str, Recipe]] = {}
    words: dict[str, str] = {}
    # From the middle duration first, so that a price is that of a run of typical length.
    for chain in sorted(chains, key=lambda c: c.duration != middle):
        for position in range(len(chain.runs)):
            plain = plan.recipe(position, middle)
            shape = shape_of(plain)
            words.setdefault(shape, shape_text(plan, position))
            group = groups.setdefault(shape, {PLAIN: plain})
            recipe = chain.recipe(position)
            group.setdefault(
                price_name(recipe, plain, store.get, position),
                replace(recipe, duration=_at(plan, recipe, chain, middle)),
            )
    blocks = {}
    total, done = timing.rounds * len(groups), 0
    for shape, recipes in groups.items():
        begun = done

        def tell(turn: int, begun: int = begun) -> None:
            on_round(begun + turn, total)

        blocks[shape] = timed(recipes, PLAIN, timing, device, store, tell)
        done += timing.rounds
    return Prices(blocks, words, store.get)


def _at(plan: SequencePlan, recipe: Recipe, chain: Chain, middle: str) -> str:
    """The middle duration for a follower: as much of it as the follower has of its own."""
    from .policies import scaled

    own, whole = Duration.parse(recipe.duration).amount, Duration.parse(chain.duration).amount
    return scaled(middle, min(1.0, own / whole))


def shape_text(plan: SequencePlan, position: int) -> str:
    """A shape in words: what of it differs between positions, or the model's name."""
    change = plan.positions[position]
    amounts = () if uneven(plan.recipe(position, plan.durations[0]).methods) else AMOUNTS
    parts = []
    for name, value in change.items():
        if isinstance(value, Mapping):
            shown = {k: v for k, v in value.items() if k not in amounts and not (name == "optimizer" and k == "lr")}
            parts += [f"{k} {v}" for k, v in shown.items()]
        elif name not in ("methods", "schedule"):
            parts.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(parts) or str(plan.base.model["name"])


def timing_of(
    plan: SequencePlan,
    chains: Sequence[Chain],
    prices: Prices,
    charges: Mapping[tuple[str, str, int], Sequence[Charge]],
) -> dict[str, dict[str, float]]:
    """{arm: {"log_ratio_variance", "df"}} of the cumulated seconds against scratch, from the blocks' own errors.

    The first run's price is scratch's own, so the error of a ratio counts by the share of the arm's seconds that it
    prices; shares are means over chains. Ratios of one block are to the same steps from scratch, so their errors are
    taken to go together, with the fewest degrees of freedom among them; blocks of different shapes are independent.
    """
    found: dict[str, dict[str, float]] = {}
    if not prices.blocks:
        return found
    for arm in plan.arms:
        parts: dict[tuple[str, str], list[float]] = {}
        own = [c for c in chains if c.arm == arm and c.complete]
        for chain in own:
            listed = charges[chain.arm, chain.duration, chain.number]
            whole = sum(c.seconds for c in listed)
            for k, charge in enumerate(listed):
                plain = plan.recipe(k, chain.duration)
                key = shape_of(plain), price_name(chain.recipe(k), plain, prices.teachers, k)
                parts.setdefault(key, []).append((charge.seconds - charge.one_off) / whole)
        errors: dict[str, list[tuple[float, float]]] = {}
        for (shape, name), shares in parts.items():
            timing = prices.blocks[shape].arms[name]
            if name != PLAIN:
                error = sum(shares) / len(own) * math.sqrt(timing.log_ratio_variance)
                errors.setdefault(shape, []).append((error, timing.df))
        terms = [(sum(e for e, _ in block) ** 2, min(df for _, df in block)) for block in errors.values()]
        total = sum(v for v, _ in terms)
        spread = sum(v * v / df for v, df in terms if df > 0)
        if arm != plan.baseline:
            found[arm] = {"log_ratio_variance": total, "df": total * total / spread if spread > 0 else 1e6}
    return found
