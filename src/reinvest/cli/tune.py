"""`reinvest tune STUDY`: every arm tuned with the same budget, the winners run again with fresh seeds and judged."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
    """The trials first, then what a comparison shows."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = 0
        self._trials_begun = time.monotonic()

    def tried(self, done: int, total: int, kept: bool) -> None:
        """One more trial is in the store; kept: it was there before."""
        if done == 1 or self._row is None:
            self._trials_begun = time.monotonic()
            self._say(f"{plural(total, 'trial')} over all arms")
            if self._bar is not None:
                self._row = self._bar.add_task("tuning", total=total, count=f"0/{total}")
        if kept:
            self._kept = done
        if self._bar is not None:
            self._bar.update(self._row, completed=done, count=f"{done}/{total}")
        made = done - self._kept
        left = (time.monotonic() - self._trials_begun) / made * (total - done) if made else None
        self._say(f"tuning: {done}/{total} trials, about {time_text(left)} left", always=False)


@contextlib.contextmanager
def _listening() -> Iterator[TuneListener]:
    from ..studies.tune import TuneListener

    display = _Display()
    display.start()
    try:
        yield TuneListener(planned=display.planned, done=display.finished, timing=display.timing, tried=display.tried)
    finally:
        display.stop()


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "study", type=str, metavar="STUDY", help="a YAML file: a comparison, and what of each arm is tuned"
    )
    store_option(parser)
    machine_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what is tried, how many runs and hours it would take"
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
    from ..report.tune import space_lines
    from ..store import Store
    from ..studies.tune import estimate_tuning
    from ..studies.tune_space import space_to_dict

    cost = estimate_tuning(plan, Store(options.store), **machine_of(options))

    def text() -> str:
        lines = [
            f"{plural(cost['trials'], 'trial')}: {cost['found']:,} in the store; "
            f"then {plural(cost['runs'], 'run')} of the winners",
            f"about {time_text(cost['hours'] * 3600)} with {plural(cost['workers'], 'worker')} for all of them, and the "
            "timing block",
        ]
        for arm, space in plan.spaces.items():
            trial = f"{plan.trials * plan.studies} trials of {plan.trial_durations[arm]}"
            lines.append(f"  {arm}: {trial}, about {time_text(cost['trial_seconds'][arm])} of device time, over")
            lines += [f"    {line}" for line in space_lines(space_to_dict(space))]
        if not cost["equal"]:
            lines.append(
                "  these budgets seem to differ by more than 10 %, and then there is no verdict: give the dearer arm shorter "
                "trials (duration: {ARM: ...})"
            )
        return "\n".join(lines)

    out.give(cost, text)
    return 0


TUNE = Command(
    about=(
        "Tune every arm of a comparison with the same budget over its own declared space, run the winners again with\n"
        "fresh seeds, and judge them on test. Winners are chosen on validation. Budgets are trials and device time: where\n"
        "they differ by more than 10 % there is no verdict. A trial that diverges counts as one with the worst quality.\n"
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
        "  duration: 12ep                      # of a trial; {baseline: 12ep, smooth: 11ep} where steps cost unlike\n"
        "  studies: 3                          # independent tunings: 1 (a claim about the tuned recipes), or at least 3\n"
        "                                      # (a claim about the method)\n"
        "  sampler: qmc                        # quasi-random, or tpe\n"
        "  durations: [3ep, 6ep, 12ep, 24ep]   # of the comparison (default: a quarter to twice the trials')\n"
        "  seeds: 3                            # fresh ones, of each winner at each duration\n\n"
        "Exit code 0 if any arm got a verdict, 3 if every arm is not comparable."
    ),
    examples=(
        "reinvest tune examples/tuning.yaml --dry-run",
        "reinvest tune examples/tuning.yaml --out tuning.html",
        "reinvest tune examples/tuning.yaml --store runs --json",
    ),
    arguments=_arguments,
    run=_run,
)
