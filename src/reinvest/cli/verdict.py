"""`reinvest verdict POINTS.csv --baseline NAME`: points of any trainer in, a verdict for every other arm out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output
from ._parser import Command, Parser, option
from ._verdicts import exit_code, print_table, target


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "points",
        type=str,
        metavar="POINTS.csv",
        help=(
            "a CSV file with a header: arm, duration (any label), seed, seconds (training seconds), quality; "
            "optional steps, status (finished, diverged, ...), trunk, study, device"
        ),
    )
    parser.add_argument(
        "--baseline", type=str, required=True, metavar="NAME", help="the arm that all others are compared with"
    )
    parser.add_argument(
        "--metric", type=str, default="accuracy", help="what quality measures; accuracy is a fraction from 0 to 1"
    )
    parser.add_argument("--lower-is-better", action="store_true", help="quality is a positive loss: smaller is better")
    option(
        parser,
        "--tuning",
        type=str,
        action="append",
        metavar="ARM=TRIALS",
        help=(
            "tuning trials spent on an arm, once per arm; unequal budgets are refused, "
            "undeclared ones make it a claim about the recipes"
        ),
    )
    option(
        parser,
        "--pairs",
        type=str,
        metavar="duration",
        help=('"duration": planned with the same seeds in both arms, new ones for each duration'),
    )
    option(
        parser, "--test-examples", type=int, metavar="N", help="size of the test set (needed where a cell has no error)"
    )
    parser.add_argument(
        "--margin", type=float, default=0.05, help="differences in time up to this share count as equivalent"
    )
    option(
        parser, "--out", type=str, metavar="FILE.html", help="also write the report, and FILE.json with every figure"
    )


def _tuning(words: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for word in words:
        arm, equals, trials = word.rpartition("=")
        try:
            found[arm] = float(trials)
        except ValueError:
            equals = ""
        if not (arm and equals):
            raise InvalidValue(
                f"--tuning is ARM=TRIALS, got {word!r}; write for example --tuning plain=10 --tuning smooth=10"
            )
    return found


def _run(options: Namespace, out: Output) -> int:
    from ..evaluation.judge import verdict
    from ..evaluation.points import read_csv
    from ..evaluation.result import points_result, write_result

    file = target(options.out) if options.get("out") else None
    points = read_csv(options.points)
    shown = {
        "metric": options.metric,
        "higher_is_better": False if options.lower_is_better else None,
        "test_examples": options.get("test_examples"),
    }
    tuning = _tuning(options.tuning) if options.get("tuning") else None
    judged = verdict(
        points, options.baseline, pairs=options.get("pairs"), tuning=tuning, margin=options.margin, **shown
    )
    if not judged:
        raise InvalidValue(
            f"a verdict needs an arm besides the baseline, got only {options.baseline!r} in {options.points}; "
            "add its points"
        )
    typed = _typed(points)
    name = Path(options.points).name
    command = f"reinvest verdict {shlex.quote(options.points)} --baseline {shlex.quote(options.baseline)}"
    result = points_result(typed, options.baseline, judged, shown=shown, title=name, reproduce=command)
    if tuning is not None:
        spent = "; ".join(f"{arm}: {trials:g} trials" for arm, trials in tuning.items())
        result["tuning"] = {"declared": True, "text": f"declared: {spent}"}
    print_table(result, out)
    if file is not None:
        from ..report.html import write_report

        write_result(result, file.with_suffix(".json"))
        write_report(result, file)
        out.note(f"report: {file}")
    out.give({arm: v.to_dict() for arm, v in judged.items()})
    return exit_code([v.verdict for v in judged.values()])


def _typed(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The rows with numbers as numbers, as the verdict reads them and the report draws them."""
    from ..evaluation.points import read_points

    return [
        {
            **row,
            "arm": point.arm,
            "seconds": point.seconds,
            "quality": point.quality,
            "steps": None if point.steps is None else int(point.steps),
            "status": point.status,
        }
        for row, point in zip(rows, read_points(rows), strict=True)
    ]


VERDICT = Command(
    about=(
        "Judge the arms in a file of points, whatever trained them: how much sooner an arm reaches the baseline's\n"
        "quality, with a 95 % interval, or why that cannot be said. Needs at least 3 seeds per arm and duration and 4\n"
        "baseline durations, each at most 3 times the one before. Wrong values are refused with the reason.\n\n"
        "Verdicts: better, worse, mixed, equivalent, inconclusive, not comparable. speedup: baseline seconds over arm\n"
        "seconds at equal quality; low, high: its interval; gain: quality gained at equal time.\n"
        "Exit code 0 if any arm got a verdict, 3 if every arm is not comparable, 2 if the file cannot be read.\n"
        "With --json: {arm: verdict}, the values of ri.verdict(points, baseline=NAME)[arm].to_dict()."
    ),
    examples=(
        "reinvest verdict examples/points.csv --baseline plain",
        "reinvest verdict losses.csv --baseline plain --metric loss --lower-is-better --json",
        "reinvest verdict points.csv --baseline plain --tuning plain=10 --tuning sam=10 --out report.html",
    ),
    arguments=_arguments,
    run=_run,
)
