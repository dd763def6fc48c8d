"""`reinvest demo`: one small study of real runs from beginning to end."""

from __future__ import annotations

from jsonargparse import Namespace

from ._output import Output
from ._parser import Command, Parser, option, store_option
from ._verdicts import target
from .compare import machine_options


def _arguments(parser: Parser) -> None:
    store_option(parser)
    machine_options(parser)
    parser.add_argument(
        "--out",
        type=str,
        default="report.html",
        metavar="FILE.html",
        help="the report; FILE.json beside it holds every figure",
    )
    option(
        parser,
        "--seeds",
        type=int,
        metavar="N",
        help="runs per arm and duration, at least 3 (default: the study's own, see --json)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="3 seeds: a look at everything in under a minute, verdicts mostly inconclusive",
    )


def _run(options: Namespace, out: Output) -> int:
    file = target(options.out)
    from ..evaluation.demo import demo_study
    from ._study import run_and_report

    seeds = options.get("seeds") or (3 if options.quick else None)
    study = demo_study() if seeds is None else demo_study(seeds=seeds)
    out.note(study.title)
    flags = f" --seeds {study.seeds}" if seeds is not None else ""
    return run_and_report(
        study,
        options.store,
        file,
        out,
        reproduce=f"reinvest demo{flags}",
        workers=options.get("workers"),
        threads=options.get("threads"),
        device=options.device,
    )


DEMO = Command(
    about=(
        "Compare three changes with a baseline on handwritten digits (packaged data, nothing is downloaded): a small\n"
        "conv net, 4 durations (3, 6, 12, 24 epochs). Prints a verdict for each arm and the smallest effect the study\n"
        "could have seen, and writes a report. Under 4 minutes on two cores; a second time, every run is found in the\n"
        "store and only the timing of the arms is repeated."
    ),
    examples=(
        "reinvest demo",
        "reinvest demo --quick --out quick.html",
        "reinvest demo --seeds 12 --store runs --json",
    ),
    arguments=_arguments,
    run=_run,
)
