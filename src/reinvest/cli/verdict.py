"""`reinvest verdict POINTS --baseline NAME`: points of any trainer, or what W&B, MLflow or Lightning wrote, judged."""

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
        metavar="POINTS",
        help=(
            "a CSV file with a header: arm, duration (any label), seed, seconds (training seconds), quality; "
            "optional steps, status (finished, diverged, ...), trunk, study, device. Or an export of W&B's runs table, a folder of its offline runs, "
            "an MLflow CSV or mlruns folder, or the folder of Lightning's CSVLogger"
        ),
    )
    _import_options(parser)
    parser.add_argument(
        "--baseline", type=str, required=True, metavar="NAME", help="the arm that all others are compared with"
    )
    parser.add_argument(
        "--metric",
        type=str,
        default="accuracy",
        help="what quality measures, of another tool's file its column; accuracy is a fraction from 0 to 1",
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


def _import_options(parser: Parser) -> None:
    option(
        parser,
        "--from",
        type=str,
        metavar="TOOL",
        help="the tool that wrote it: wandb, mlflow or lightning (default: as its columns say)",
    )
    for field, about in (
        ("arm", 'a config or parameter that tells the arms apart (default: "arm")'),
        ("duration", "planned length, such as epochs (default: duration, epochs, max_epochs, ...)"),
        ("seed", 'default: "seed"'),
        ("seconds", "training seconds (default: seconds, train_seconds, ..., else the tool's clock of the whole run)"),
        ("steps", "optimizer steps (default: steps, global_step, ...; may be absent)"),
    ):
        option(parser, f"--{field}", type=str, metavar="COLUMN", help=f"column of another tool's file: {about}")
    parser.add_argument("--percent", action="store_true", help="another tool's file has quality in per cent")


def _points(options: Namespace, out: Output) -> list[dict[str, Any]]:
    """The rows of the file, whoever wrote it. Columns are named only for another tool's file."""
    from ..evaluation.imports import TOOLS, read_tool, sniff
    from ..evaluation.points import read_csv

    named = {field: options.get(field) for field in ("arm", "duration", "seed", "seconds", "steps") if field in options}
    tool = options.get("from") or sniff(options.points)
    if tool in (None, "points"):
        if named or options.percent:
            raise InvalidValue(
                f"columns are named for the file of another tool, got --{next(iter(named), 'percent')} for "
                f"{options.points!r}; add --from {', '.join(TOOLS[:-1])} or {TOOLS[-1]}"
            )
        return list(read_csv(options.points))
    found = read_tool(str(tool), options.points, metric=options.metric, percent=options.percent, **named)
    for text in (found.sentence, *found.notes):
        out.note(text)
    return found.rows


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
    from ..evaluation.result import points_result, write_result

    file = target(options.out) if options.get("out") else None
    points = _points(options, out)
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
    command = _command(options)
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


def _command(options: Namespace) -> str:
    words = ["reinvest", "verdict", options.points, "--baseline", options.baseline]
    for name in ("from", "arm", "duration", "seed", "seconds", "steps"):
        words += [f"--{name}", options.get(name)] if options.get(name) else []
    words += ["--metric", options.metric] if options.metric != "accuracy" else []
    for name in ("pairs", "test_examples"):
        words += [f"--{name.replace('_', '-')}", str(options.get(name))] if options.get(name) is not None else []
    for word in options.get("tuning") or []:
        words += ["--tuning", word]
    words += ["--margin", f"{options.margin:g}"] if options.margin != 0.05 else []
    words += ["--lower-is-better"] if options.lower_is_better else []
    return shlex.join([*words, *(["--percent"] if options.percent else [])])


def _typed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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
        "What W&B (runs table, offline runs), MLflow (CSV or mlruns folder) and Lightning (CSVLogger folder) wrote is read\n"
        "as it is, and what was taken for what is printed. A column is named in full or by its last part (params.lr or lr).\n\n"
        "Verdicts: better, worse, mixed, equivalent, inconclusive, not comparable. speedup: baseline seconds over arm\n"
        "seconds at equal quality; low, high: its interval; gain: quality gained at equal time.\n"
        "Exit code 0 if any arm got a verdict, 3 if every arm is not comparable, 2 if the file cannot be read.\n"
        "Arms whose runs went at different paces (seconds a step a quarter off the middle run's) carry a flag: other machines,\n"
        "a busy one, or start-up in the seconds.\n"
        "With --json: {arm: verdict}, the values of ri.verdict(points, baseline=NAME)[arm].to_dict()."
    ),
    examples=(
        "reinvest verdict examples/points.csv --baseline plain",
        "reinvest verdict losses.csv --baseline plain --metric loss --lower-is-better --json",
        "reinvest verdict wandb_export.csv --baseline plain --arm optimizer --metric test_accuracy --seconds train_seconds",
        "reinvest verdict mlruns --from mlflow --baseline 0.1 --arm lr --metric val_loss --lower-is-better",
        "reinvest verdict points.csv --baseline plain --tuning plain=10 --tuning sam=10 --out report.html",
    ),
    arguments=_arguments,
    run=_run,
)
