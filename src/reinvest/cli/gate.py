"""`reinvest gate BASELINE.json RECIPE.yaml`: is the recipe in this repository worse than its stored baseline?"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import replace
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
from .train import values_in

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
    from ..core.recipe import Recipe
    from ..store import Store

    asked: dict[str, Any] = {"durations": listed(options.get("durations"), "--durations"), **machine_of(options)}
    _check_files(options.files, options.record)
    recipe = Recipe.from_dict(values_in(options.files[-1]))
    store = Store(options.store)
    return _record(options, recipe, store, asked, out) if options.record else _gate(options, recipe, store, asked, out)


def _check_files(files: list[str], record: bool) -> None:
    """Refuse files that are not those of the command, with the way to call it."""
    from ..studies.gate_baseline import is_baseline

    usage = "reinvest gate --record RECIPE.yaml" if record else "reinvest gate BASELINE.json RECIPE.yaml"
    what = "a recipe to record" if record else "a baseline and then a recipe"
    if len(files) != (1 if record else 2):
        given = f"{files[0]} alone" if len(files) == 1 else " ".join(files)
        raise InvalidValue(f"reinvest gate takes {what}, got {given}; write {usage}")
    first, last = files[0], files[-1]
    kinds = [Path(name).suffix.lower() for name in files]
    swapped = is_baseline(last) or (kinds[0] in (".yaml", ".yml") and kinds[-1] == ".json")
    if swapped and not record and not is_baseline(first):
        raise InvalidValue(
            f"reinvest gate takes {what}, got {first} and {last}, which look swapped; write reinvest gate {last} {first}"
        )
    if is_baseline(last):
        raise InvalidValue(f"reinvest gate takes {what}, got the baseline {last} in its place; write {usage}")


@contextlib.contextmanager
def _watching(folder: str, made: bool, out: Output) -> Iterator[Any]:
    """A listener that also says, once training is planned and no earlier, that the store's folder is made."""

    def planned(jobs: Any, todo: Any) -> None:
        if made:
            out.note(f"no store in {folder} yet: the folder is made, and every run is trained and kept there")
        listener.planned(jobs, todo)

    with listening() as listener:
        yield replace(listener, planned=planned)


def _record(options: Namespace, recipe: Any, store: Any, asked: dict[str, Any], out: Output) -> int:
    from ..evaluation.result import write_result
    from ..studies.gate import record_baseline

    file = Path(options.get("out") or "baseline.json").expanduser()
    if file.suffix.lower() != ".json" or not file.resolve().parent.is_dir():
        raise InvalidValue(
            f"a baseline is a JSON file in a folder that exists, got {str(file)!r}; write --out baseline.json"
        )
    made = not store.path.exists()
    with _watching(options.store, made, out) as listener:
        baseline = record_baseline(recipe, store=store, seeds=options.get("seeds", 5), listener=listener, **asked)
    write_result(baseline, file)
    told = {**{k: baseline[k] for k in ("task", "durations", "seeds", "facts")}, "baseline": str(file)}
    told["store"] = {"folder": options.store, "made": made}
    runs = plural(len(baseline["points"]), "run")
    again = shlex.join(["reinvest", "gate", str(file), options.files[0]])
    out.give(told, lambda: f"baseline of {runs}: {file}\nkeep it with the recipe, and on every change: {again}")
    return 0


def _gate(options: Namespace, recipe: Any, store: Any, asked: dict[str, Any], out: Output) -> int:
    from ..studies.gate import ROUNDS, run_gate
    from ..studies.gate_baseline import read_baseline

    file = target(options.out) if options.get("out") else None
    if file is not None and file.with_suffix(".json").resolve() == Path(options.files[0]).resolve():
        raise InvalidValue(
            f"a page has its figures beside it, got --out {options.out}, whose figures go to {file.with_suffix('.json')}, which "
            "is the baseline; write --out gate.html"
        )
    baseline = read_baseline(options.files[0])
    made = not store.path.exists()
    with _watching(options.store, made, out) as listener:
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
    kept_in = {"folder": options.store, "made": made}
    answer = {**{k: done.result[k] for k in kept}, "store": kept_in, "exit_code": CODES[done.verdict], **written}
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
