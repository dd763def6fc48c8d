"""`reinvest report RESULT.json`: the report drawn again from a stored result, and from nothing else."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from ._output import Output
from ._parser import Command, Parser, option
from ._verdicts import print_table, target


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "result", type=str, metavar="RESULT.json", help="the JSON file that compare, demo or verdict --out wrote"
    )
    option(parser, "--out", type=str, metavar="FILE.html", help="the report (default: the result's path with .html)")


def _run(options: Namespace, out: Output) -> int:
    from ..evaluation.result import read_result

    result = read_result(options.result)
    file = target(options.get("out") or str(Path(options.result).with_suffix(".html")))
    from ..report.html import write_report

    write_report(result, file)
    print_table(result, out)
    verdicts = {arm: entry["verdict"] for arm, entry in result["arms"].items() if entry["verdict"] is not None}
    out.give({"report": str(file), "title": result["title"], "verdicts": verdicts}, lambda: f"\nReport: {file}")
    return 0


REPORT = Command(
    about="Draw the report of a stored result again: one HTML file that works offline. Trains and measures nothing.",
    examples=(
        "reinvest report report.json",
        "reinvest report study.json --out shared.html",
        "reinvest report study.json --json",
    ),
    arguments=_arguments,
    run=_run,
)
