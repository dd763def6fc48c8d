"""`reinvest gate BASELINE.json RECIPE.yaml`: is the recipe in this repository worse than its stored baseline?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output, plural
from ._parser import Command, Parser, option, store_option
from ._study import listening, machine_of
from ._verdicts import target
from .ablate import listed
from .compare import machine_options
from .train import recipe_from

CODES = {"not regressed": 0, "regressed": 1, "undecided": 2, "not comparable": 3}


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "files",
        type=str,
        nargs="+",
        metavar="FILE",
        help="BASELINE.json and RECIPE.yaml; with --record RECIPE.yaml alone",
    )
    parser.add_argument("--record", action="store_true", help="train the recipe's short runs and write them to --out")
    store_option(parser)
    machine_options(parser)
    option(
        parser,
        "--durations",
        type=str,
        metavar="LIST",
        help='at least four, with commas: "25st,50st,100st,200st" (default: with --record an eighth to the whole of the '
        "recipe's, else those of the baseline)",
    )
    option(
        parser,
        "--seeds",
        type=int,
        metavar="N",
        help="runs of each duration, >= 3 (default: with --record 5, else as many as the baseline has)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=0.05,
        help="the loss, as a share of steps or time, that must be excluded to pass",
    )
    option(parser, "--rounds", type=int, metavar="N", help="of the timing block, >= 10 (default: 20)")
    parser.add_argument(
        "--remake", action="store_true", help="train the baseline's recipe here too, with the code as it is now"
    )
    option(
        parser,
        "--out",
        type=str,
        metavar="FILE",
        help="with --record the baseline, FILE.json; else the page, FILE.html, with every figure in FILE.json beside it",
    )


def _run(options: Namespace, out: Output) -> int:
    from ..store import Store

    asked: dict[str, Any] = {"durations": listed(options.get("durations"), "--durations"), **machine_of(options)}
    wanted = 1 if options.record else 2
    if len(options.files) != wanted:
        what = "RECIPE.yaml" if options.record else "BASELINE.json RECIPE.yaml"
        raise InvalidValue(
            f"reinvest gate{' --record' if options.record else ''} takes {what}, got {' '.join(options.files)!r}; "
            "see reinvest gate --help"
        )
    options["recipe"] = options.files[-1]
    recipe = recipe_from(options)
    store = Store(options.store)
    return _record(options, recipe, store, asked, out) if options.record else _gate(options, recipe, store, asked, out)


def _record(options: Namespace, recipe: Any, store: Any, asked: dict[str, Any], out: Output) -> int:
    from ..evaluation.result import write_result
    from ..studies.gate import record_baseline

    file = Path(options.get("out") or "baseline.json").expanduser()
    if file.suffix.lower() != ".json" or not file.resolve().parent.is_dir():
        raise InvalidValue(
            f"a baseline is a JSON file in a folder that exists, got {str(file)!r}; write --out baseline.json"
        )
    with listening() as listener:
        baseline = record_baseline(recipe, store=store, seeds=options.get("seeds", 5), listener=listener, **asked)
    write_result(baseline, file)
    told = {**{k: baseline[k] for k in ("task", "durations", "seeds", "facts")}, "baseline": str(file)}
    runs = plural(len(baseline["points"]), "run")
    out.give(told, lambda: f"baseline of {runs}: {file}\nkeep it with the recipe; reinvest gate {file} RECIPE.yaml")
    return 0


def _gate(options: Namespace, recipe: Any, store: Any, asked: dict[str, Any], out: Output) -> int:
    from ..studies.gate import ROUNDS, read_baseline, run_gate

    file = target(options.out) if options.get("out") else None
    baseline = read_baseline(options.files[0])
    with listening() as listener:
        done = run_gate(
            baseline,
            recipe,
            store=store,
            seeds=options.get("seeds"),
            margin=options.margin,
            rounds=options.get("rounds", ROUNDS),
            remake=options.remake,
            listener=listener,
            reproduce=_command(options),
            **asked,
        )
    written = {}
    if file is not None:
        done.report(file)
        written = {"report": str(file), "result": str(file.with_suffix(".json"))}
    from ..report.gate import print_gate

    out.show(lambda console: print_gate(done.result, console))
    kept = ("title", "verdict", "sentence", "parts", "margin", "changed", "timing", "notes", "cost")
    answer = {**{k: done.result[k] for k in kept}, "exit_code": CODES[done.verdict], **written}
    out.give(answer, (lambda: f"\nPage: {file}\nEvery figure in it: {written['result']}") if written else None)
    return CODES[done.verdict]


def _command(options: Namespace) -> str:
    words = ["reinvest", "gate", *options.files, "--store", options.store, "--margin", f"{options.margin:g}"]
    for name in ("durations", "seeds", "rounds"):
        if options.get(name) is not None:
            words += [f"--{name}", str(options.get(name))]
    return shlex.join([*words, *(["--remake"] if options.remake else [])])


GATE = Command(
    about=(
        "Is the recipe in this repository worse than its stored baseline? Made for continuous integration: train a few\n"
        "short runs of the recipe, compare quality at equal steps with the stored runs, time both recipes side by side on\n"
        "this machine, and answer by the exit code. Steps and training time to equal quality are both judged.\n\n"
        "Exit codes:\n"
        "  0 not regressed: a loss above --margin is excluded\n"
        "  1 regressed: a loss is shown, however small (at most one false alarm in forty, for steps and for time each)\n"
        "  2 undecided: neither; the number of seeds that would decide is given\n"
        "  3 not comparable: the runs allow no answer\n"
        "  4 refused or unusable input, 5 a fault in the program, 130 interrupted\n\n"
        "First record a baseline and commit it. Runs take the baseline's seeds, so a recipe and code that have not\n"
        "changed give equal runs and pass. Wherever the baseline was recorded, seconds are compared only on this machine,\n"
        "from a paired timing block of both recipes with the code as it is now."
    ),
    examples=(
        "reinvest gate --record examples/gate.yaml --out baseline.json",
        "reinvest gate baseline.json examples/gate.yaml --out gate.html",
        "reinvest gate baseline.json examples/gate.yaml --margin 0.1 --json",
    ),
    arguments=_arguments,
    run=_run,
)
