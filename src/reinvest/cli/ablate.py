"""`reinvest ablate RECIPE`: which methods of a recipe help, alone and together, by time at equal quality."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output, plural, time_text
from ._parser import Command, Parser, option, store_option
from ._study import listening, machine_of
from ._verdicts import target
from .compare import machine_options
from .train import NAMED, PLAIN, recipe_arguments, recipe_from, spread


def _arguments(parser: Parser) -> None:
    recipe_arguments(parser)
    store_option(parser)
    machine_options(parser)
    option(
        parser,
        "--durations",
        type=str,
        metavar="LIST",
        help='at least four, with commas: "3ep,6ep,12ep,24ep" (default: an eighth to the whole of the recipe\'s)',
    )
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="runs of every combination and duration, >= 3"
    )
    option(parser, "--only", type=str, metavar="LIST", help="the methods to take apart, with commas (default: all)")
    option(
        parser,
        "--hours",
        type=float,
        metavar="H",
        help="of training: pairs that do not fit are left out first, then the methods alone, and it is said which",
    )
    parser.add_argument("--no-pairs", action="store_true", help="ask nothing about pairs of methods")
    parser.add_argument(
        "--dry-run", action="store_true", help="only say which combinations, runs and hours it would take"
    )
    option(
        parser,
        "--out",
        type=str,
        metavar="FILE.html",
        help=(
            "the page; FILE.json beside it holds every figure (default: ablation.html, for a file RECIPE.yaml "
            "RECIPE_ablation.html)"
        ),
    )


def default_page(recipe: str | None) -> str:
    """The page of a recipe file's ablation, in this folder."""
    stem = Path(recipe).stem if recipe else "ablation"
    return f"{stem}.html" if stem == "ablation" else f"{stem}_ablation.html"


def listed(text: str | None, what: str) -> list[str] | None:
    """The parts of a list with commas; None for none."""
    if text is None:
        return None
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise InvalidValue(f"{what} is a list with commas, got {text!r}; leave no part of it empty")
    return found


def _run(options: Namespace, out: Output) -> int:
    from ..store import Store
    from ..studies.ablation import ablate, estimate_ablation
    from ..studies.ablation_plan import QUESTIONS

    recipe = recipe_from(options)
    asked: dict[str, Any] = {
        "durations": listed(options.get("durations"), "--durations"),
        "seeds": options.seeds,
        "methods": listed(options.get("only"), "--only"),
        "questions": QUESTIONS[:-1] if options.no_pairs else QUESTIONS,
        "hours": options.get("hours"),
        **machine_of(options),
    }
    store = Store(options.store)
    if options.dry_run:
        cost = estimate_ablation(recipe, store=store, **asked)
        out.give(cost, lambda: _cost_text(cost))
        return 0
    file = target(options.get("out") or default_page(options.recipe))
    with listening() as listener:
        found = ablate(recipe, store=store, listener=listener, reproduce=_command(options), **asked)
    found.report(file)
    from ..report.ablation import print_ablation

    out.show(lambda console: print_ablation(found.result, console))
    kept = {k: found.result[k] for k in ("title", "methods", "effects", "adverse", "flags", "cost")}
    answer = {**kept, "report": str(file), "result": str(file.with_suffix(".json"))}
    out.give(answer, lambda: f"\nPage: {file}\nEvery figure in it: {file.with_suffix('.json')}")
    return 3 if all(e.reason for e in found.effects) else 0


def _command(options: Namespace) -> str:
    # What options made of the recipe is on the page, as a file to save under this name.
    changed = not options.recipe or any(name in options for name in (*NAMED, *PLAIN, "methods"))
    words = ["reinvest", "ablate", "RECIPE.yaml" if changed else options.recipe, "--store", options.store]
    for name in ("durations", "only", "hours"):
        if options.get(name) is not None:
            words += [f"--{name}", str(options.get(name))]
    words += ["--seeds", str(options.seeds), *(["--no-pairs"] if options.no_pairs else [])]
    return shlex.join(words)


def _cost_text(cost: dict[str, Any]) -> str:
    lines = [
        f"{plural(len(cost['arms']), 'combination')}: {', '.join(cost['arms'])}",
        f"{plural(cost['runs'], 'run')}: {cost['found']:,} in the store, {cost['runs'] - cost['found']:,} to train",
        f"about {time_text(cost['hours'] * 3600)} with {plural(cost['workers'], 'worker')}, and the timing block",
    ]
    return "\n".join([*lines, *(f"left out: {text}" for text in cost["left_out"])])


ABLATE = Command(
    about=(
        "Train a recipe with and without each of its methods and say which of them help: on top of all the others,\n"
        "alone, and whether two of them do more or less together than each alone. Effects are changes of training time\n"
        "at equal quality, with 95 % intervals and Holm's correction; methods that exclude each other are refused before\n"
        "the first step. Only runs that the store lacks are trained, so Ctrl-C costs nothing: the same command continues.\n\n"
        "A recipe file (YAML), see reinvest train --help:\n"
        "  task: digits\n"
        "  model: convnet\n"
        "  duration: 24ep        # the longest; the others are an eighth, a quarter and a half of it\n"
        "  methods: [Mixup: {alpha: 0.2}, LabelSmoothing: {alpha: 0.1}, EMA: {}]\n\n"
        "Exit code 0 if any effect could be judged, 3 if none could."
    ),
    examples=(
        "reinvest ablate examples/ablation.yaml --dry-run",
        "reinvest ablate examples/ablation.yaml --hours 0.2 --out ablation.html",
        "reinvest ablate examples/ablation.yaml --only Mixup,EMA --seeds 3 --json",
    ),
    arguments=_arguments,
    run=_run,
    rewrite=spread,
)
