"""`reinvest compare STUDY`: runs what the store lacks of a study, times the arms side by side, and judges each."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from ._output import Output, plural, size_text, time_text
from ._parser import Command, Parser, option, store_option
from ._study import ASK_ABOVE_HOURS, agreed, asks, check_study_options, machine_of, prices_of, prices_option, runs_text
from ._verdicts import target

if TYPE_CHECKING:
    from ..evaluation.study import Study


def machine_options(parser: Parser) -> None:
    """--workers, --threads and --device."""
    option(
        parser,
        "--workers",
        type=int,
        metavar="N",
        help=("runs that train at the same time (default: one per core on a CPU, each with one thread; one on a GPU)"),
    )
    option(parser, "--threads", type=int, metavar="N", help="threads of torch for each run (default: 1 on a CPU)")
    parser.add_argument("--device", type=str, default="cpu", help='where to train: "cpu", "cuda", "cuda:1"')


def time_again_option(parser: Parser) -> None:
    """--time-again."""
    parser.add_argument(
        "--time-again",
        action="store_true",
        help="measure the seconds anew, though the store keeps an undisturbed timing block of these arms on this machine",
    )


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "study", type=str, metavar="STUDY", help="a YAML file, or a Python file that defines `study = ri.Study(...)`"
    )
    store_option(parser)
    machine_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say how many runs, hours and bytes it would take")
    option(
        parser,
        "--max-hours",
        type=float,
        metavar="H",
        help=("begin no replicate (one seed of every arm and duration) that would not end within H hours of now"),
    )
    option(
        parser,
        "--calibrate",
        type=int,
        metavar="N",
        help="for a curve out of one run: first train N separate runs of the baseline at the shortest and longest duration",
    )
    option(
        parser,
        "--systems",
        type=str,
        nargs="+",
        metavar="ARM",
        help="arms that claim to alter speed and no maths: tested too (an arm's `systems_only: true` in the study says the same)",
    )
    parser.add_argument(
        "--no-again",
        action="store_true",
        help="leave the baseline's second turn out of the timing block, which takes an arm's time and memory",
    )
    time_again_option(parser)
    prices_option(parser, "adds money to the costs")
    parser.add_argument(
        "--yes",
        action="store_true",
        help=f"do not ask before a study of more than {ASK_ABOVE_HOURS:g} hour (a terminal is asked)",
    )
    option(
        parser,
        "--out",
        type=str,
        metavar="FILE.html",
        help=(
            "the report; FILE.json beside it holds every figure (default: the study's name with .html, in this folder)"
        ),
    )


def _run(options: Namespace, out: Output) -> int:
    from ..evaluation.blocks import Timing
    from ..evaluation.study import load_study

    check_study_options(options)
    study = _with_systems(load_study(options.study), options.get("systems") or [])
    machine = machine_of(options)
    prices = prices_of(options)
    if options.dry_run:
        return _dry_run(study, options.store, machine, options.get("calibrate"), out)
    file = target(options.get("out") or f"{Path(options.study).stem}.html")
    if asks(options.yes, out) and not _agreed(study, options.store, machine, options.get("calibrate")):
        out.note("nothing was run")
        return 0
    from ._study import run_and_report

    command = f"reinvest compare {shlex.quote(options.study)} --store {shlex.quote(options.store)}"
    command += "".join(f" {word}" for word in _typed(options))
    if options.get("calibrate") is not None:
        from ._study import calibrated

        calibrated(study, options.store, int(options.calibrate), **machine)
    timing = Timing(again=not options.no_again, anew=options.time_again)
    more = {"max_hours": options.get("max_hours"), "timing": timing, "prices": prices, **machine}
    return run_and_report(study, options.store, file, out, reproduce=command, **more)


def _with_systems(study: Study, arms: Sequence[str]) -> Study:
    from dataclasses import replace

    return replace(study, systems_only=(*study.systems_only, *arms)) if arms else study


def _typed(options: Namespace) -> list[str]:
    """The options that change what the report says, as they were typed."""
    arms = options.get("systems") or []
    words = ["--systems", *map(shlex.quote, arms)] if arms else []
    words += ["--prices", shlex.quote(options.prices)] if options.get("prices") else []
    words += ["--calibrate", str(options.calibrate)] if options.get("calibrate") is not None else []
    return [*words, *(["--no-again"] if options.no_again else [])]


def _costs(study: Any, folder: str, machine: dict[str, Any], calibrate: int | None) -> dict[str, Any]:
    """What a study takes, and under "calibration" what its separate runs do (None without --calibrate)."""
    from ..evaluation.calibrating import calibration_cost
    from ..evaluation.compare import estimate
    from ..store import Store

    store = Store(folder)
    more = None if calibrate is None else calibration_cost(study, store, calibrate, **machine)
    return {**estimate(study, store, **machine), "calibration": more}


def _dry_run(study: Any, folder: str, machine: dict[str, Any], calibrate: int | None, out: Output) -> int:
    cost = _costs(study, folder, machine, calibrate)

    def text() -> str:
        rest = cost["runs"] - cost["found"]
        lines = [
            f"{runs_text(cost['runs'], cost['points'])}: {cost['found']:,} in the store, {rest:,} to train",
            f"about {time_text(cost['hours'] * 3600)} with {plural(cost['workers'], 'worker')}, "
            f"{size_text(cost['disk_bytes'])} of disk, and the timing block",
        ]
        if more := cost["calibration"]:
            lines.append(
                f"calibration: {more['runs']:,} separate runs of {study.baseline_name}, {more['found']:,} in the store, "
                f"{more['runs'] - more['found']:,} to train, about {time_text(more['hours'] * 3600)} on top"
            )
        lines += [f"  {arm}: {1000 * seconds:.3g} ms a step" for arm, seconds in cost["seconds_per_step"].items()]
        own = [name for name in study.all_arms() if name not in cost["seconds_per_step"]]
        return "\n".join([*lines, *(f"  {name}: not a recipe, counted as runs and not in hours" for name in own)])

    out.give(cost, text)
    return 0


def _agreed(study: Any, folder: str, machine: dict[str, Any], calibrate: int | None) -> bool:
    cost = _costs(study, folder, machine, calibrate)
    parts = [part for part in (cost, cost["calibration"]) if part]
    return agreed(sum(part["runs"] - part["found"] for part in parts), sum(part["hours"] for part in parts))


COMPARE = Command(
    about=(
        "Run a study and judge every arm against the baseline: quality against training time, with\n"
        "intervals, on the same machine. "
        "Only runs that the store lacks are trained, so Ctrl-C costs nothing:\nthe same command continues. Run again it says the same, unless something disturbed its timing, which is said.\n\n"
        "A study file (YAML):\n"
        "  title: Label smoothing on digits\n"
        "  baseline: {task: digits, model: convnet, batch_size: 64}     # recipe fields, see reinvest train --help\n"
        "  arms:\n"
        "    smooth: {methods: [LabelSmoothing: {alpha: 0.1}]}           # what differs from the baseline\n"
        '    own: {command: "python mine.py --duration {duration} --seed {seed}"}   # leaves a recorded run\n'
        "    layout: {methods: [ChannelsLast], systems_only: true}       # claims to alter speed alone: tested too\n"
        "    again: {methods: [LabelSmoothing: {alpha: 0}]}              # A/A: the baseline once more, no difference in truth\n"
        "  durations: [3ep, 6ep, 12ep, 24ep]     # ep epochs, st steps; at least 4, at most a factor 3 apart\n"
        "  seeds: 5                              # runs per arm and duration, at least 3\n"
        "  tuning: {baseline: 10, smooth: 10}    # trials spent on each; left out: a claim about these recipes only\n"
        "  looks: [3, 5]                         # seeds at which it may be judged, and end if every arm is decided\n"
        "  spending: obrien-fleming              # how the looks share the error rate; or pocock: all alike\n"
        "  curve: cooldown-branch                # all durations out of one run, for about half the price; or cyclic\n\n"
        "Exit code 0 if any arm got a verdict, 3 if every arm is not comparable."
    ),
    examples=(
        "reinvest compare examples/study.yaml --dry-run",
        "reinvest compare examples/study.yaml --max-hours 0.5 --out smoothing.html",
        "reinvest compare examples/study.yaml --prices prices.yaml",
        "reinvest compare examples/own_loop_study.yaml --store runs --json",
        "reinvest compare study.yaml --systems compiled 'channels last'",
    ),
    arguments=_arguments,
    run=_run,
)
