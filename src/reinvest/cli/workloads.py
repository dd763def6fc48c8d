"""`reinvest workloads RESULT.json ...`: comparisons of several tasks in one table, with profiles and a mean where allowed."""

from __future__ import annotations

from jsonargparse import Namespace

from ._output import Output
from ._parser import Command, Parser, option
from ._verdicts import exit_code, target
from .ablate import listed


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "results",
        type=str,
        nargs="+",
        metavar="RESULT.json",
        help="2 or more results of compare or verdict (the JSON beside the report), one of each workload",
    )
    option(parser, "--arms", type=str, metavar="LIST", help="the arms to take, with commas (default: all)")
    parser.add_argument("--title", type=str, default="", help="heading of table and page")
    option(
        parser, "--out", type=str, metavar="FILE.html", help="write the page; FILE.json beside it holds every figure"
    )


def _run(options: Namespace, out: Output) -> int:
    from ..evaluation.result import read_result, write_result
    from ..evaluation.workloads import workloads

    file = target(options.out) if options.get("out") else None
    results = [read_result(path) for path in options.results]
    found = workloads(results, arms=listed(options.get("arms"), "--arms"), title=options.title)
    written = {}
    if file is not None:
        from ..report.workloads import write_workloads

        twin = write_result(found, file.with_suffix(".json"))
        written = {"report": str(write_workloads(found, file)), "result": str(twin)}
    from ..report.workloads import print_workloads

    out.show(lambda console: print_workloads(found, console))
    out.give(
        {**found, **written}, (lambda: f"\nPage: {file}\nEvery figure in it: {written['result']}") if written else None
    )
    return exit_code([entry["verdict"] for row in found["workloads"] for entry in row["arms"].values()])


WORKLOADS = Command(
    about=(
        "Put comparisons of several tasks together: a table of verdicts; for each arm its performance profile (in which\n"
        "share of the workloads it needs at most so much of the baseline's time); and from six workloads up, if every one\n"
        "has a finite speed-up, their geometric mean with an interval for which the workload is the unit. Arms are compared\n"
        "with the baseline alone, so adding an arm changes nothing for the others.\n\n"
        "Refused: fewer than two results, the same workload twice, unlike baselines or arms.\n"
        "Exit code 0 if any verdict was reached, 3 if all are not comparable."
    ),
    examples=(
        "reinvest workloads digits.json mnist.json cifar10.json --out workloads.html",
        "reinvest workloads results/*.json --arms smooth,sam --json",
    ),
    arguments=_arguments,
    run=_run,
)
