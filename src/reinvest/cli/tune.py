"""`reinvest tune STUDY`: every arm tuned with the same budget, the winners run again with fresh seeds and judged."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from ._output import Output, plural, time_text
from ._parser import Command, Parser, option, store_option
from ._study import Display, check_study_options, machine_of
from ._verdicts import exit_code, target
from .compare import machine_options

if TYPE_CHECKING:
    from ..studies.tune import TuneListener
    from ..studies.tune_plan import TuningPlan


class _Display(Display):
    """Prices and trials first, then what a comparison shows."""

    def __init__(self) -> None:
        super().__init__()
        self._there = 0
        self._trials_begun = time.monotonic()
        self._trials: Any = None
        self._prices: Any = None

    def pricing(self, turn: int, rounds: int) -> None:
        """The timing block before the trials has finished a round (0: the one that only warms up)."""
        if turn == 0:
            self._say("timing a step of each arm side by side: trials are charged by it")
            if self._bar is not None:
                self._prices = self._bar.add_task("timing the arms' steps", total=rounds, count="")
        if self._bar is not None:
            self._bar.update(self._prices, completed=turn, count=f"{turn}/{max(turn, rounds)} rounds")

    def warned(self, sentence: str) -> None:
        """What is to be feared of the budgets, before they are paid."""
        print(f"warning: {sentence}", file=sys.stderr, flush=True)

    def trying(self, total: int, there: int) -> None:
        """Trials begin; there: how many of them the store holds."""
        self._there, self._trials_begun = there, time.monotonic()
        print(f"{plural(total, 'trial')}, {there:,} of them in the store already", file=sys.stderr, flush=True)
        if self._bar is not None:
            self._trials = self._bar.add_task("tuning", total=total, count=f"0/{total}")

    def tried(self, done: int, total: int, kept: bool) -> None:
        """One more trial is in the store; kept: it was there before."""
        if self._bar is not None:
            self._bar.update(self._trials, completed=done, count=f"{done}/{total}")
        if kept:
            self._there = max(self._there, done)
        made = done - self._there
        left = (time.monotonic() - self._trials_begun) / made * (total - done) if made > 0 else None
        self._say(f"tuning: {done}/{total} trials, about {time_text(left)} left", always=False)


@contextlib.contextmanager
def _listening() -> Iterator[TuneListener]:
    from ..studies.tune import TuneListener

    display = _Display()
    display.start()
    try:
        yield TuneListener(
            planned=display.planned,
            done=display.finished,
            timing=display.timing,
            pricing=display.pricing,
            warned=display.warned,
            trying=display.trying,
            tried=display.tried,
        )
    finally:
        display.stop()


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "study", type=str, metavar="STUDY", help="a YAML file: a comparison, and what of each arm is tuned"
    )
    store_option(parser)
    machine_options(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train nothing: say what is tried, what the store holds, how long it takes, and whether budgets will be equal",
    )
    option(
        parser,
        "--out",
        type=str,
        metavar="FILE.html",
        help=(
            "the page; FILE.json beside it holds every figure (default: the study's name with .html, in this folder)"
        ),
    )


def _run(options: Namespace, out: Output) -> int:
    from ..studies.tune_ask import need_optuna
    from ..studies.tune_plan import load_plan

    need_optuna()
    check_study_options(options)
    plan = load_plan(options.study)
    if options.dry_run:
        return _dry_run(plan, options, out)
    from ..report.tune import print_tuning
    from ..store import Store
    from ..studies.tune import tune
    from ..studies.tune_result import claim_text

    file = target(options.get("out") or f"{Path(options.study).stem}.html")
    command = f"reinvest tune {shlex.quote(options.study)} --store {shlex.quote(options.store)}"
    with _listening() as listener:
        found = tune(plan, Store(options.store), listener=listener, reproduce=command, **machine_of(options))
    found.report(file)
    out.show(lambda console: print_tuning(found.result, console))
    kept = {k: found.result[k] for k in ("title", "baseline", "claim", "flags", "cost")}
    arms = {name: {k: arm[k] for k in ("budget", "winners", "verdict")} for name, arm in found.result["arms"].items()}
    answer = {
        **kept,
        "claim_text": claim_text(found.result),
        "arms": arms,
        "report": str(file),
        "result": str(file.with_suffix(".json")),
    }
    out.give(answer, lambda: f"\nPage: {file}\nEvery figure in it: {file.with_suffix('.json')}")
    return exit_code([v.verdict for v in found.verdicts.values()])


def _dry_run(plan: TuningPlan, options: Namespace, out: Output) -> int:
    from ..store import Store
    from ..studies.tune_estimate import estimate_tuning

    with _listening() as listener:
        cost = estimate_tuning(plan, Store(options.store), pricing=listener.pricing, **machine_of(options))
    out.give(cost, lambda: "\n".join([*_counts(plan, cost), *_hours(cost), *_arms(plan, cost), *_outlook(cost)]))
    return 0


def _counts(plan: TuningPlan, cost: Mapping[str, Any]) -> list[str]:
    """What will be run, by arm, and what of it is there."""
    arm = next(iter(cost["arms"].values()))
    many = plan.studies > 1
    trials = f"{arm['trials']:,} of each arm" + (f" ({plan.trials} in each of {plan.studies} studies)" if many else "")
    parts = [plural(plan.seeds, "fresh seed"), plural(len(plan.study.durations), "duration")]
    runs = f"{arm['runs']:,} of each arm ({' x '.join([*parts, f'{plan.studies} studies'] if many else parts)})"
    there = "known after the last trial" if cost["runs_found"] is None else f"{cost['runs_found']:,}"
    return [
        f"{plural(cost['trials'], 'trial')}: {trials}; in the store: {cost['found']:,}",
        f"then {plural(cost['runs'], 'run')} of the winners: {runs}; in the store: {there}",
    ]


def _hours(cost: Mapping[str, Any]) -> list[str]:
    if cost["found"] == cost["trials"] and cost["runs_found"] == cost["runs"]:
        return ["nothing is missing: only the winners' steps are timed and the arms judged"]
    known = any(arm["own_step"] for arm in cost["arms"].values())
    return [
        f"about {time_text(cost['hours'] * 3600)} of training with {plural(cost['workers'], 'worker')} for what is missing, "
        f"by {'trials in the store' if known else 'trial steps of each arm'}; timing, and starting, evaluating and "
        "saving every run come on top"
    ]


def _arms(plan: TuningPlan, cost: Mapping[str, Any]) -> list[str]:
    """Budget and space of every arm."""
    from ..report.tune import space_lines
    from ..studies.tune_space import space_to_dict

    lines = []
    for name, space in plan.spaces.items():
        arm = cost["arms"][name]
        lines.append(
            f"  {name}: {plural(arm['trials'], 'trial')} of {arm['duration']}, about {time_text(arm['trial_seconds'])} of "
            "device time, over"
        )
        lines += [f"    {line}" for line in space_lines(space_to_dict(space))]
    return lines


def _outlook(cost: Mapping[str, Any]) -> list[str]:
    """Whether budgets will be equal, and what to do if not."""
    if cost["warnings"]:
        return [f"  warning: {warning}" for warning in cost["warnings"]]
    how = "measured side by side before the first trial" if cost["priced"] == "look" else "timed side by side"
    return [f"  device time of the arms lies within the 10 % that are allowed ({how})"]


TUNE = Command(
    about=(
        "Tune every arm of a comparison with the same budget over its own declared space, run the winners again with\n"
        "fresh seeds, and judge them on test. Winners are chosen on validation. A trial that diverges counts as one with\n"
        "the worst quality.\n\n"
        "A budget is trials, equal by construction, and device time: steps x seconds of a step, timed side by side before\n"
        "the first trial, so that a busy machine changes nothing. Where device time will differ by more than 10 % the plan\n"
        "is refused before anything is paid, with the durations that would be equal; --dry-run says so too.\n"
        "Only runs that the store lacks are trained, so Ctrl-C costs nothing: the same command continues.\n\n"
        "A study file (YAML) is one of reinvest compare, without pairs and tuning, and says what is tuned:\n"
        "  baseline: {task: digits, model: convnet, batch_size: 64}\n"
        "  arms:\n"
        "    smooth: {methods: [LabelSmoothing]}\n"
        "  spaces:                             # by arm: fields of its recipe, arguments of its methods\n"
        "    baseline: {optimizer.lr: {low: 0.05, high: 1.0, log: true}}\n"
        "    smooth:\n"
        "      optimizer.lr: {low: 0.05, high: 1.0, log: true}   # a range; of whole numbers if both ends are\n"
        "      methods.LabelSmoothing.alpha: [0.05, 0.1, 0.2]    # a list of choices\n"
        "  trials: 16                          # of each arm, in each study\n"
        "  duration: 12ep                      # of a trial; {baseline: 12ep, smooth: 6ep} if its steps cost double\n"
        "  studies: 3                          # independent tunings: 1 (a claim about the tuned recipes), or at least 3\n"
        "                                      # (a claim about the method)\n"
        "  sampler: qmc                        # quasi-random, or tpe\n"
        "  durations: [3ep, 6ep, 12ep, 24ep]   # of the comparison (default: a quarter to twice the trials')\n"
        "  seeds: 3                            # fresh ones, of each winner at each duration\n\n"
        "Exit code 0 if any arm got a verdict, 3 if every arm is not comparable, 2 if the plan is refused.\n"
        "docs/tuning.md says why a budget is measured so, and what one tuning cannot show."
    ),
    examples=(
        "reinvest tune examples/tuning.yaml --dry-run",
        "reinvest tune examples/tuning.yaml --out tuning.html",
        "reinvest tune examples/tuning.yaml --store runs --json",
    ),
    arguments=_arguments,
    run=_run,
)
