"""`reinvest sequence STUDY`: related runs in a row, with and without re-use, everything charged, judged as wholes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from ._output import Output, plural, time_text
from ._parser import Command, Parser, option, store_option
from ._study import check_study_options, machine_of
from ._verdicts import exit_code, target
from .compare import machine_options, time_again_option


def _arguments(parser: Parser) -> None:
    parser.add_argument("study", type=str, metavar="STUDY", help="a YAML file, see examples/sequence.yaml")
    store_option(parser)
    machine_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say how many runs and hours it would take")
    option(
        parser,
        "--max-hours",
        type=float,
        metavar="H",
        help="begin no sequence (one of every arm and duration) that would not end within H hours of now",
    )
    parser.add_argument(
        "--own-clock",
        action="store_true",
        help="charge the seconds that the runs took themselves; no timing block is made",
    )
    time_again_option(parser)
    option(
        parser,
        "--out",
        type=str,
        metavar="FILE.html",
        help=(
            "the page; FILE.json beside it holds every figure (default: the study's name with .html, in this folder); "
            "the figures are also kept in the store's folder 'studies'"
        ),
    )


def _run(options: Namespace, out: Output) -> int:
    from ..studies.sequence_plan import load_plan

    check_study_options(options)
    plan = load_plan(options.study)
    machine = machine_of(options)
    if options.dry_run:
        return _dry_run(plan, options.store, machine, out)
    file = target(options.get("out") or f"{Path(options.study).stem}.html")
    command = f"reinvest sequence {shlex.quote(options.study)} --store {shlex.quote(options.store)}"
    return _study(plan, options, file, machine, command, out)


def _study(plan: Any, options: Namespace, file: Path, machine: dict[str, Any], command: str, out: Output) -> int:
    from ..evaluation.blocks import Timing
    from ..report.sequence import print_sequence, write_sequence
    from ..store import Store
    from ..studies.sequence import run_sequence
    from ..studies.sequence_result import write_result
    from ._study import listening

    with listening() as listener:
        done = run_sequence(
            plan,
            Store(options.store),
            max_hours=options.get("max_hours"),
            own_clock=options.own_clock,
            timing=Timing(anew=options.time_again),
            listener=listener,
            reproduce=command + (" --own-clock" if options.own_clock else ""),
            **machine,
        )
    result = done.result
    write_result(result, file.with_suffix(".json"))
    write_sequence(result, file)
    out.show(lambda console: print_sequence(result, console))
    answer = {
        "title": result["title"],
        "setting": result["setting"],
        "arms": result["arms"],
        "flags": result["flags"],
        "cost": result["cost"],
        "report": str(file),
        "result": str(file.with_suffix(".json")),
        "kept": str(done.path),
    }
    out.give(answer, lambda: f"\nPage: {file}\nEvery figure in it: {file.with_suffix('.json')}, kept in {done.path}")
    return exit_code([v for v in done.verdicts.values() if v is not None])


def _dry_run(plan: Any, folder: str, machine: dict[str, Any], out: Output) -> int:
    from ..store import Store
    from ..studies.sequence import estimate_sequence

    cost = estimate_sequence(plan, Store(folder), **machine)

    def text() -> str:
        lines = [
            f"{plan.title} ({plan.setting}): {plural(plan.length, 'run')} in a sequence, "
            f"{plural(plan.sequences['count'], 'sequence')}, {plural(len(plan.arms), 'arm')}, "
            f"{plural(len(plan.durations), 'duration')}",
            f"{plural(cost['runs'], 'run')}: {cost['found']:,} in the store, {cost['runs'] - cost['found']:,} to train",
            f"about {time_text(cost['hours'] * 3600)} with {plural(cost['workers'], 'worker')}, "
            "without what re-use costs, and the timing blocks",
            *(f"  {shape}: {1000 * seconds:.3g} ms a step" for shape, seconds in cost["seconds_per_step"].items()),
        ]
        if not cost["verdict"]:
            lines.append("no verdict about time: it needs at least 4 durations, this gives differences at these ones")
        return "\n".join(lines)

    out.give(cost, text)
    return 0


SEQUENCE = Command(
    about=(
        "Run related trainings in a row, from scratch and with re-use of the runs before, and judge whole sequences:\n"
        "quality against cumulated training time, with everything charged (steps, teachers, scoring, loading; the first\n"
        "run in every arm). Only runs that the store lacks are trained, so Ctrl-C costs nothing: the same command\n"
        "continues.\n\n"
        "A study file (YAML):\n"
        "  title: Five runs in a row on digits\n"
        "  base: {task: digits, model: convnet, batch_size: 64}      # recipe fields, see reinvest train --help\n"
        "  positions: 5                       # or a list of what differs: [{}, {optimizer: {lr: 0.2}}, ...]\n"
        "  grow: {train_examples: [200, 400, 600, 800, 1000]}   # instead: data arrive; keep: 0.5 keeps half of the old\n"
        "  classes: [4, 6, 8, 9, 10]                            # instead: classes arrive\n"
        "  arms:\n"
        "    scratch: {reuse: scratch}\n"
        "    records: {reuse: records, length: 0.5}             # followers run half as long\n"
        "    warm: {reuse: warm start, rate: 0.33, fallback: records}\n"
        "  durations: [2ep, 4ep, 8ep, 16ep]   # of every run; 4 or more for a verdict, fewer for a table\n"
        "  sequences: 5                       # the unit of the verdict; {count: 3, first: 100} uses other seeds\n"
        "  target: 0.9                        # a quality whose cost is reported\n"
        "  teachers: {pool: [run ids], cost: sunk}   # runs from outside, their cost sunk or charged\n\n"
        "Exit code 0 if any arm got a verdict (or none was asked for), 3 if every arm is not comparable."
    ),
    examples=(
        "reinvest sequence examples/sequence.yaml --dry-run",
        "reinvest sequence examples/sequence.yaml --max-hours 0.5 --out sequence.html",
        "reinvest sequence examples/sequence.yaml --store runs --own-clock --json",
    ),
    arguments=_arguments,
    run=_run,
)
