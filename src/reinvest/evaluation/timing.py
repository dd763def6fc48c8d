"""The paired timing block: seconds per step of all arms, measured side by side in one process.

Quality against steps does not care where a run was made; seconds do. So the seconds of a comparison come from one
block in which the arms take turns (A B C, C B A, ...), every kind of step in every tenth of the run is sampled in
every round, and the ratio of an arm to the baseline is formed inside a round, where drift of the machine cancels.

What could make the ratio wrong is measured beside it (`calibration.py`): the baseline takes part a second time, as an arm
whose ratio is known to be 1; a fixed piece of work is timed between the rounds; and rounds in which the machine moved are
measured again.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..core.clock import BINS, typical_seconds
from ..core.errors import InvalidValue
from ..core.method import overrides
from ..core.recipe import Recipe
from ..loop.session import Session
from . import calibration

Stratum = tuple[str, int]
"""(kind of step, tenth of the run)."""

MIN_ROUNDS = 10


@dataclass(frozen=True)
class ArmTiming:
    """One arm's block: median seconds by stratum, and its ratio to the baseline with the block's own error."""

    strata: dict[Stratum, float]
    seconds_per_step: float
    log_ratio: float
    log_ratio_variance: float
    df: float
    clocks: Mapping[str, float] = field(default_factory=dict)
    """Seconds per step by every clock that was read, "cpu" and "wall"; the charged one is `seconds_per_step`."""

    def interval(self, alpha: float = 0.05) -> tuple[float, float]:
        """The ratio's 1 - alpha interval (t distribution with the block's degrees of freedom)."""
        from scipy import stats

        half = float(stats.t.ppf(1 - alpha / 2, self.df)) * math.sqrt(self.log_ratio_variance)
        return math.exp(self.log_ratio - half), math.exp(self.log_ratio + half)


@dataclass(frozen=True)
class Block:
    """A finished timing block: rounds, which clock was charged, its own cost in seconds, and the arms.

    again: the baseline as an arm of its own, whose ratio is known to be 1 (None where it was left out); flags: what
    disturbed the block and could not be mended; facts: calibration, control and other programs (`calibration.facts_of`).
    """

    rounds: int
    clock: str
    seconds: float
    arms: dict[str, ArmTiming]
    notes: list[str]
    again: ArmTiming | None = None
    flags: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class _Runner:
    """One arm, ready to run a step of any stratum on demand."""

    def __init__(self, recipe: Recipe, seed: int, device: torch.device, steps: int) -> None:
        self.session = Session(recipe, seed, device, steps)
        self._attached = self.session.attached()
        self.methods = self._attached.__enter__()
        self.session.model.train()
        self.steps = strata_of(self.session, steps)
        self.counts = {stratum: len(numbers) for stratum, numbers in self.steps.items()}
        self._turn = dict.fromkeys(self.steps, 0)
        self._source: Iterator[Any] = iter(())

    def close(self) -> None:
        self._attached.__exit__(GeneratorExit, GeneratorExit(), None)

    def step(self, stratum: Stratum) -> None:
        """One whole training step, from asking for the batch to the updated weights, as it is at that point of the run."""
        context = self.methods.context
        numbers = self.steps[stratum]
        context.step = numbers[self._turn[stratum] % len(numbers)]
        self._turn[stratum] += 1
        batch = next(self._source, None)
        if batch is None:
            self._source = self.methods.batches(self.session.loader(self.methods.next_batch[0], 0))
            batch = next(self._source)
        self.session.step(batch)


def strata_of(session: Session, steps: int) -> dict[Stratum, list[int]]:
    """The step numbers of a run of `steps` steps by stratum; call with the session attached."""
    context = session.methods.context
    asked = [m for m in session.methods.members if overrides(m, "kind")]
    found: dict[Stratum, list[int]] = {}
    before, total = context.step, context.total_steps
    context.total_steps = steps
    for step in range(steps):
        context.step = step
        kind = tuple(m.kind(context) for m in asked) if asked else None
        found.setdefault(("" if kind is None else str(kind), step * BINS // steps), []).append(step)
    context.step, context.total_steps = before, total
    return found


def timing_block(
    recipes: Mapping[str, Recipe],
    baseline: str,
    *,
    rounds: int = MIN_ROUNDS,
    device: str | torch.device = "cpu",
    seed: int = 0,
    again: bool = True,
    on_round: Callable[[int], None] | None = None,
) -> Block:
    """Measure the arms interleaved (A B .. B A) for `rounds` rounds, after one round that only warms up.

    On a CPU the process's CPU time is charged, unless an arm's wall time tells a clearly different story (it sleeps
    or waits); on a GPU the wall time between synchronisations. again: the baseline takes part a second time, which costs
    as much as an arm. Rounds in which the machine moved are measured again, up to as many as were asked for. on_round(k) is
    called after round k, 0 being the one that warms up. Raises InvalidValue for fewer than 10 rounds.
    """
    if rounds < MIN_ROUNDS:
        raise InvalidValue(f"a timing block has at least {MIN_ROUNDS} rounds, got {rounds}; leave out rounds=")
    if baseline not in recipes:
        raise InvalidValue(
            f"the baseline is one of the timed arms, got {baseline!r} and {', '.join(recipes)}; time it too"
        )
    begun = time.perf_counter()
    where = torch.device(device)
    before, watch = calibration.company(), calibration.Watch()
    twin = _free_name(f"{baseline} again", recipes)
    timed = {**recipes, twin: recipes[baseline]} if again else dict(recipes)
    with torch.random.fork_rng():
        runners = {name: _Runner(recipe, seed, where, steps_of(recipe, seed)) for name, recipe in timed.items()}
        try:
            found = _Rounds(runners, baseline, twin, where, on_round)
            found.measure(rounds)
        finally:
            for runner in runners.values():
                runner.close()
    clock, notes = found.clock()
    moved = found.moved(clock)
    kept = calibration.steady(moved, rounds)
    samples = {c: _only(taken, kept) for c, taken in found.samples.items()}
    arms = {name: _summary(samples, clock, runners, name, baseline) for name in runners}
    marks = {"ends": found.ends(clock), "rounds": [mark[clock] for mark in found.marks]}
    facts = calibration.facts_of(marks, moved, len(kept), before, watch.others())
    drift = math.log1p(facts["calibration_drift"])
    return Block(
        rounds,
        clock,
        time.perf_counter() - begun,
        {name: arms[name] for name in recipes},
        notes + ([before.sentence] if before.sentence else []),
        arms.get(twin),
        tuple(calibration.disturbances(moved, rounds, drift)),
        facts,
    )


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += " again"
    return name


def steps_of(recipe: Recipe, seed: int = 0) -> int:
    """The number of steps of a recipe's run; nothing but its task is built."""
    from ..core.duration import Duration
    from ..loop.session import build_task

    per_epoch = len(build_task(recipe).loader("train", recipe.batch_size, seed=seed))
    return Duration.parse(recipe.duration).steps(per_epoch)


Samples = dict[str, dict[Stratum, list[list[float]]]]
"""arm -> stratum -> round -> seconds of single steps."""


class _Rounds:
    """All that is measured, round by round: seconds of steps by clock and arm, and the calibration between the rounds."""

    def __init__(
        self,
        runners: dict[str, _Runner],
        baseline: str,
        twin: str,
        device: torch.device,
        on_round: Callable[[int], None] | None,
    ) -> None:
        self._runners, self._baseline, self._twin, self._device = runners, baseline, twin, device
        self._on_round = on_round or (lambda turn: None)
        self._work = calibration.Calibration(device)
        self._clocks = ("wall",) if device.type == "cuda" else ("cpu", "wall")
        self._ends: list[dict[str, float]] = []
        self.samples: dict[str, Samples] = {
            c: {n: {s: [] for s in r.counts} for n, r in runners.items()} for c in self._clocks
        }
        self.marks: list[dict[str, float]] = []

    def measure(self, rounds: int) -> None:
        """A round to warm up, `rounds` rounds, and again those in which the machine moved."""
        self._round(-1)
        self._on_round(0)
        self._ends = [self._work.seconds(calibration.LONG)]
        self.marks = [self._work.seconds()]
        self._more(rounds)
        most = rounds + math.ceil(rounds * calibration.EXTRA)
        while missing := min(self._missing(rounds), most - self._count):
            self._more(missing)
        self._ends.append(self._work.seconds(calibration.LONG))

    @property
    def _count(self) -> int:
        return len(self.marks) - 1

    def _missing(self, rounds: int) -> int:
        moved = self.moved(self.clock()[0])
        return max(0, rounds - sum(abs(value) <= calibration.MOVED for value in moved))

    def _more(self, rounds: int) -> None:
        for _ in range(rounds):
            for clock, arms in self._round(self._count).items():
                for name, strata in arms.items():
                    for stratum, row in strata.items():
                        self.samples[clock][name][stratum].append(row)
            self.marks.append(self._work.seconds())
            self._on_round(self._count)

    def _round(self, turn: int) -> dict[str, dict[str, dict[Stratum, list[float]]]]:
        """Every stratum of every arm four times, by clock."""
        runners, names = self._runners, list(self._runners)
        rows: dict[str, dict[str, dict[Stratum, list[float]]]] = {
            c: {n: {s: [] for s in r.counts} for n, r in runners.items()} for c in self._clocks
        }
        # Arms change places every few steps, so that a disturbance of a tenth of a second meets all of them; who is
        # first changes with the round.
        order = [*names[turn % len(names) :], *names[: turn % len(names)]]
        for tenth in range(BINS):
            for name in (*order, *reversed(order)):
                for stratum in runners[name].counts:
                    if stratum[1] == tenth:
                        took = [_timed_step(runners[name], stratum, self._device) for _ in range(2)]
                        for clock in self._clocks:
                            rows[clock][name][stratum].extend(t[clock] for t in took)
        return rows

    def clock(self) -> tuple[str, list[str]]:
        """The clock that is charged, and why."""
        arms = [n for n in self._runners if n not in (self._baseline, self._twin)]
        return _choose_clock(self.samples, self._runners, arms, self._baseline)

    def moved(self, clock: str) -> list[float]:
        """By how much (in log time) the machine was slower in each round, by the baseline and the calibration."""
        taken = self.samples[clock]
        same = [n for n in (self._baseline, self._twin) if n in self._runners]
        controls = [_round_totals(taken, self._runners[n], n) for n in same]
        marks = [mark[clock] for mark in self.marks]
        around = [math.sqrt(a * b) for a, b in itertools.pairwise(marks)]
        return calibration.moves([*controls, around])

    def ends(self, clock: str) -> tuple[float, float]:
        """Seconds of the calibration before and after."""
        return self._ends[0][clock], self._ends[1][clock]


def _only(samples: Samples, rounds: Sequence[int]) -> Samples:
    return {n: {s: [rows[r] for r in rounds] for s, rows in strata.items()} for n, strata in samples.items()}


def _timed_step(runner: _Runner, stratum: Stratum, device: torch.device) -> dict[str, float]:
    """Seconds of one step by either clock; on a GPU between two synchronisations."""
    calibration.synchronise(device)
    wall, cpu = time.perf_counter(), time.process_time()
    runner.step(stratum)
    calibration.synchronise(device)
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def trimmed_mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean without the lowest and highest tenth, its variance and degrees of freedom (Yuen, Biometrika 1974).

    One disturbed round in ten then moves neither the ratio nor its interval. values: at least 4.
    """
    ordered = sorted(values)
    n, cut = len(ordered), max(1, len(ordered) // 10)
    kept = ordered[cut : n - cut]
    winsorised = [kept[0]] * cut + kept + [kept[-1]] * cut
    variance = statistics.variance(winsorised) * (n - 1) / (len(kept) * (len(kept) - 1))
    return statistics.fmean(kept), variance, len(kept) - 1.0


def _round_totals(samples: Samples, runner: _Runner, name: str) -> list[float]:
    """Seconds per step of each round: the strata's medians weighted by how often the run takes such a step."""
    total = sum(runner.counts.values())
    rounds = len(next(iter(samples[name].values())))
    centre = {s: _centre(rows) for s, rows in samples[name].items()}
    return [
        sum(runner.counts[s] / total * centre[s](rows[r]) for s, rows in samples[name].items()) for r in range(rounds)
    ]


def _centre(rows: list[list[float]]) -> Callable[[list[float]], float]:
    """The median; the mean where some steps of a stratum regularly do more than the others (their work is not free)."""
    pooled = [v for row in rows for v in row]
    return statistics.median if typical_seconds(pooled) <= statistics.median(pooled) else statistics.fmean


def _log_ratios(samples: Samples, runners: dict[str, _Runner], name: str, baseline: str) -> list[float]:
    own, other = _round_totals(samples, runners[name], name), _round_totals(samples, runners[baseline], baseline)
    return [math.log(a / b) for a, b in zip(own, other, strict=True)]


def _choose_clock(
    samples: dict[str, Samples], runners: dict[str, _Runner], arms: Sequence[str], baseline: str
) -> tuple[str, list[str]]:
    if "cpu" not in samples:
        return "wall", ["seconds between synchronisations of the device"]
    for name in arms:
        gaps = [
            w - c
            for w, c in zip(
                _log_ratios(samples["wall"], runners, name, baseline),
                _log_ratios(samples["cpu"], runners, name, baseline),
                strict=True,
            )
        ]
        middle = statistics.median(gaps)
        spread = statistics.median(abs(g - middle) for g in gaps) * 1.4826 / math.sqrt(len(gaps))
        if abs(middle) > max(0.05, 4 * spread):
            return "wall", [
                f"{name} spends {math.expm1(middle):+.0%} of time relative to the baseline without computing (it waits or sleeps), "
                "so wall time is charged to all arms"
            ]
    return "cpu", ["the process's own CPU time, blind to what other programs take"]


def _summary(
    samples: dict[str, Samples], clock: str, runners: dict[str, _Runner], name: str, baseline: str
) -> ArmTiming:
    """An arm by the charged clock, with its seconds per step by the others."""
    mean, variance, df = trimmed_mean(_log_ratios(samples[clock], runners, name, baseline))
    own = _medians(samples[clock], name)
    seconds = _level(samples[clock], runners, baseline) * math.exp(mean)
    plain = _level(samples[clock], runners, name)
    clocks = {c: seconds if c == clock else _level(taken, runners, name) for c, taken in samples.items()}
    # The paired ratio sets the level; the strata keep their shares of it.
    return ArmTiming({s: v * seconds / plain for s, v in own.items()}, seconds, mean, variance, df, clocks)


def _level(samples: Samples, runners: dict[str, _Runner], name: str) -> float:
    """Seconds per step of an arm by itself, over all rounds."""
    counts = runners[name].counts
    return sum(counts[s] / sum(counts.values()) * v for s, v in _medians(samples, name).items())


def _medians(samples: Samples, name: str) -> dict[Stratum, float]:
    return {s: typical_seconds([v for row in rows for v in row]) for s, rows in samples[name].items()}


def run_seconds(timing: ArmTiming, counts: Mapping[Stratum, int]) -> float:
    """Training seconds of a run with `counts` steps per stratum, priced by the block.

    A stratum that the block's run did not have takes the nearest tenth of the same kind, or else the mean step.
    """
    total = 0.0
    for (kind, tenth), count in counts.items():
        same = {t: v for (k, t), v in timing.strata.items() if k == kind}
        each = same[min(same, key=lambda t: abs(t - tenth))] if same else timing.seconds_per_step
        total += count * each
    return total
