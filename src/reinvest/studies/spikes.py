"""Loss spikes of a stored run made again: with the same seed bit for bit, and the same examples under another one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..core.chain import Methods
from ..core.errors import InvalidValue
from ..core.method import Context
from ..core.protocols import current_recorder
from ..core.recipe import Recipe
from ..core.spikes import THRESHOLD
from ..core.streams import key
from ..dynamics.spike_findings import ADD, WATCH, SpikeFinding, explain_spikes, signal_z
from ..loop.session import Session
from ..loop.train import STUCK

__all__ = ["Replay", "replay_spikes"]

AFTER = 4
"""Steps that are trained beyond the end of a spike."""
ASKED = 5
"""Examples that another seed is asked about, where no few suspects stand out."""


@dataclass(frozen=True)
class Replay:
    """What came of training again. Up to `until` with the run's own seed, then as long as the run with `other_seed`.

    same_ids: whether the spike's first batch held the same examples; same_bits: whether losses and gradient norms were equal
    bit for bit; differs: the first step where not; again: whether a spike began at the same step. asked: the examples whose
    steps are compared with the others under the other seed: `held` steps had one of them, `held_high` of these passed the
    threshold, as did `others_high` of `others`; above: the probability that a step with them has a higher z than one
    without. None where nothing was asked.
    """

    until: int
    same_ids: bool | None
    same_bits: bool
    differs: int | None
    again: bool
    start: int
    seed: int
    other_seed: int | None = None
    asked: tuple[int, ...] = ()
    held: int = 0
    held_high: int = 0
    others: int = 0
    others_high: int = 0
    above: float | None = None

    @property
    def text(self) -> str:
        """One or two sentences."""
        return " ".join(part for part in (self._exact(), self._elsewhere()) if part)

    def _exact(self) -> str:
        if self.same_bits:
            return (
                f"Trained again with seed {self.seed} up to step {self.until:,}, every loss and gradient norm was the same bit "
                f"for bit, and the spike came again at step {self.start:,}: it is a matter of data and weights, not of the machine."
            )
        came = f"came again at step {self.start:,}" if self.again else "did not come again"
        return (
            f"Trained again with seed {self.seed}, losses or gradient norms differ from step {self.differs:,} on (other code, "
            f"another machine, other libraries or threads), and the spike {came}."
        )

    def _elsewhere(self) -> str:
        if self.other_seed is None:
            return ""
        them = f"{len(self.asked)} examples" if len(self.asked) > 1 else "example"
        if not self.held:
            return f"With seed {self.other_seed} the same {them} came in no batch that could be watched."
        rate, usual = self.held_high / self.held, self.others_high / max(1, self.others)
        if rate >= 0.5:
            says = "spikes come with other weights too, so that the data are to blame"
        elif rate > 10 * usual:
            says = "spikes come now and then, with some weights"
        else:
            says = "no more than other batches with these weights"
        return (
            f"With seed {self.other_seed} the same {them} came in {self.held:,} batches, of which {self.held_high:,} passed the "
            f"threshold, as {self.others_high:,} of the {self.others:,} others did: {says}."
        )


class _Seen:
    """A recorder that remembers which of the examples asked about each step saw."""

    observing = True

    def __init__(self, asked: Sequence[int]) -> None:
        self.context: Any = None
        self.asked = torch.tensor(sorted(set(asked)), dtype=torch.int64)
        self.steps: dict[int, frozenset[int]] = {}

    def begin(self, about: dict[str, Any]) -> None:
        """Nothing to plan."""

    def observe(
        self, epoch: int, ids: Tensor, losses: Tensor, output: Tensor, targets: Tensor, valid: Tensor | None
    ) -> None:
        """Keep those ids."""
        ids = ids.cpu()
        self.steps[self.context.step] = frozenset(ids[torch.isin(ids, self.asked)].tolist())

    def end(self, about: dict[str, Any]) -> None:
        """Nothing to close."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


def replay_spikes(
    run: Any,
    spikes: Sequence[SpikeFinding],
    *,
    store: Any = None,
    threshold: float = THRESHOLD,
    other_seed: int | None = None,
    elsewhere: bool = True,
    device: str | None = None,
) -> list[Replay]:
    """Train a run's recipe again until the last of these spikes is over, and once in full with another seed.

    Nothing is stored. The order of examples and all draws are functions of the seed, so that the first must give the same
    bits on the same machine. store: lends the runs that the recipe builds on. other_seed: default the next one;
    elsewhere=False leaves it out. device: default the kind that the run was trained on. Raises InvalidValue for a run that
    was not trained from a recipe with SpikeWatch, and for another seed that is its own.
    """
    recipe, found = replayable(run)
    seed = run.seed + 1 if other_seed is None else other_seed
    if seed == run.seed:
        raise InvalidValue(f"another seed than the run's own shows other weights, got {seed}; leave it out")
    if not spikes:
        return []
    facts = run.facts.get("hardware", {})
    where, steps = device or facts.get("kind", "cpu"), run.training["total_steps"]
    asked = [s.suspects or tuple(e.id for e in s.examples[:ASKED]) for s in spikes]
    lent = contextlib.nullcontext() if store is None else store.lending()
    with lent, same_threads(facts.get("threads")):
        untils = [min(len(found["loss"]), s.end + AFTER + 1) for s in spikes]
        own, _ = train_again(recipe, run.seed, steps, max(untils), where)
        everyone = [one for ids in asked for one in ids]
        # Sources whose seeds the recipe fixes would draw the same again.
        free = recipe.with_(seeds={})
        other, seen = train_again(free, seed, steps, steps, where, everyone) if elsewhere and everyone else ({}, {})
    first = {s.start for s in explain_spikes(own, None, threshold)}
    replays = []
    for spike, until, ids in zip(spikes, untils, asked, strict=True):
        differs = first_difference(found, own, until)
        same, again = _same_batch(own, spike), spike.start in first
        exact = Replay(until, same, differs is None, differs, again, spike.start, run.seed)
        if other and ids:
            exact = replace(exact, other_seed=seed, asked=ids, **_compared(other, seen, ids, threshold))
        replays.append(exact)
    return replays


@contextlib.contextmanager
def same_threads(count: int | None) -> Iterator[None]:
    """As many threads as the run had: sums on a CPU depend on how they are shared out."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def replayable(run: Any) -> tuple[Recipe, dict[str, Any]]:
    """(recipe, what its watch found) of a run. Raises InvalidValue as `replay_spikes` does."""
    config = run.config
    if not {"task", "model"} <= set(config):
        raise InvalidValue(
            f"a replay trains a recipe again, got run {run.id!r} of an own loop; train it with a recipe (reinvest train)"
        )
    found = run.findings().get(WATCH)
    if found is None:
        raise InvalidValue(
            f"a replay is compared with what a watch kept of each step, got run {run.id!r} without; {ADD} and train it again"
        )
    return Recipe.from_dict(config), found


def train_again(
    recipe: Recipe,
    seed: int,
    steps: int,
    until: int,
    device: str,
    asked: Sequence[int] = (),
    through: Callable[[Any, Context], Any] | None = None,
) -> tuple[dict[str, Any], dict[int, frozenset[int]]]:
    """(what the watch found, which of the examples `asked` each step saw) after the first `until` steps of a run of `steps`.

    through: what makes the loader of each epoch another one.
    """
    seen = _Seen(asked)
    token = current_recorder.set(seen)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(key(recipe.seed_of("dropout", seed), "dropout") >> 1)
            session = Session(recipe, seed, device, steps)
            with session.attached() as methods:
                seen.context = methods.context
                session.model.train()
                _go(session, methods, until, through)
                watch = next(m for m in methods.members if m.name == WATCH)
                return watch.findings(), seen.steps
    finally:
        current_recorder.reset(token)


def _go(session: Session, methods: Methods, until: int, through: Callable[[Any, Context], Any] | None = None) -> None:
    """Train until that many steps are done, or until none is made any more, as a run that has diverged."""
    context, stuck = methods.context, 0
    while context.step < until:
        epoch, start = methods.next_batch
        loader = session.loader(epoch, start)
        for batch in methods.batches(loader if through is None else through(loader, context)):
            before = context.step
            session.step(batch)
            stuck = 0 if context.step > before else stuck + 1
            if context.step >= until or stuck >= STUCK:
                return


def first_difference(found: dict[str, Any], own: dict[str, Any], until: int) -> int | None:
    """The first step at which a signal is not the same, bit for bit; a step that was not made is not."""
    both = min(until, len(own["loss"]))
    unlike = torch.zeros(both, dtype=torch.bool)
    for name in ("loss", "gradient_norm"):
        one, two = (signals[name][:both].contiguous().view(torch.int32) for signals in (found, own))
        unlike |= one != two
    return int(unlike.nonzero()[0]) if bool(unlike.any()) else both if both < until else None


def _same_batch(own: dict[str, Any], spike: SpikeFinding) -> bool | None:
    """Whether the spike's first batch held the same examples in the same order; None where that is not known."""
    if not len(spike.ids):
        return None
    for window in own["windows"]:
        steps = window["steps"].tolist()
        if spike.start in steps and len(window["ids"]):
            row = steps.index(spike.start)
            begin, size = int(window["counts"][:row].sum()), int(window["counts"][row])
            return torch.equal(window["ids"][begin : begin + size], spike.ids)
    return None


def _compared(
    found: dict[str, Any], seen: dict[int, frozenset[int]], asked: Sequence[int], threshold: float
) -> dict[str, Any]:
    """Steps that held one of the examples `asked` against those that did not."""
    z = torch.stack([signal_z(found, name) for name in ("loss", "gradient_norm")])
    height = z.nan_to_num(-math.inf, math.inf, -math.inf).amax(0)
    wanted = set(asked)
    known = [step for step in sorted(seen) if step < len(height) and float(height[step]) > -math.inf]
    mine = height[[step for step in known if wanted & seen[step]]]
    rest = height[[step for step in known if not wanted & seen[step]]].sort().values
    above = None
    if len(mine) and len(rest):
        # Half of the equal ones; a table of all pairs would be as large as the run is long times its epochs.
        lower, upper = (torch.searchsorted(rest, mine, right=right) for right in (False, True))
        above = float((lower + upper).double().mean() / (2 * len(rest)))
    return {
        "held": len(mine),
        "held_high": int((mine > threshold).sum()),
        "others": len(rest),
        "others_high": int((rest > threshold).sum()),
        "above": above,
    }
