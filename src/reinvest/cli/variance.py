"""`reinvest variance RUN...`: how far the runs of a recipe lie apart, why, and with --sources from which randomness."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output, plural, time_text
from ._parser import Command, Parser, option, store_option
from ._study import listening
from ._verdicts import target
from .compare import machine_options
from .outcomes import showing

if TYPE_CHECKING:
    from ..core.recipe import Recipe
    from ..studies.variance import Variance

PLAIN = ("where", "recipe", "against", "metric", "split", "runs_each", "device")


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "runs",
        type=str,
        nargs="*",
        default=[],
        metavar="RUN",
        help="runs' ids, or the first digits of them; with --sources a recipe's file or a PLAN.yaml",
    )
    store_option(parser)
    option(
        parser, "--where", type=str, metavar="FILTER", help="instead: the runs that a filter finds, see reinvest runs"
    )
    option(
        parser, "--recipe", type=str, metavar="FILE.yaml", help="instead: all runs of this recipe that the store holds"
    )
    option(
        parser,
        "--against",
        type=str,
        metavar="FILE.yaml|RUN",
        help="a second recipe, or a run of it: how probable it is that a run of the first is better",
    )
    parser.add_argument(
        "--sources",
        action="store_true",
        help="train runs in which one source of randomness alone is free (PLAN.yaml: a recipe), and say what each makes",
    )
    option(
        parser,
        "--runs-each",
        type=int,
        metavar="N",
        help="with --sources: runs for each source, 3 or more (default: the plan's, else 10)",
    )
    parser.add_argument("--dry-run", action="store_true", help="with --sources: only say what it would take")
    option(parser, "--metric", type=str, help="what is compared (default: the task's own)")
    parser.add_argument("--split", type=str, default="test", metavar="SPLIT", help="test or validation")
    parser.add_argument(
        "--logged", action="store_true", help="take the logged values alone, and ask no run about single examples"
    )
    machine_options(parser)
    option(
        parser, "--out", type=str, metavar="FILE.html", help="write the page; FILE.json beside it holds every figure"
    )


def _run(options: Namespace, out: Output) -> int:
    file = target(options.out) if options.get("out") else None
    if options.sources:
        found = _sources(options, out)
    else:
        only = [f"--{name.replace('_', '-')}" for name in ("dry_run", "runs_each") if options.get(name)]
        if only:
            raise InvalidValue(
                f"{only[0]} is about runs that --sources trains, got it alone; add --sources and a PLAN.yaml"
            )
        found = _stored(options)
    if found is None:
        return 0
    reproduce = {"command": _command(options)}
    result = {**found.result, "reproduce": reproduce}
    written = {}
    if file is not None:
        found.report(file, reproduce=reproduce)
        written = {"report": str(file), "result": str(file.with_suffix(".json"))}
    from ..report.variance import print_variance

    out.show(lambda console: print_variance(result, console))
    names = {"report": "Page", "result": "Every figure in it"}
    said = "\n".join(f"{names[name]}: {path}" for name, path in written.items())
    out.give({**result, **written}, (lambda: f"\n{said}") if written else None)
    return 0


def _stored(options: Namespace) -> Variance:
    from ..store import Store
    from ..studies.variance import variance

    with _bar(options.logged) as progress:
        return variance(
            Store(options.store),
            runs=options.runs,
            where=options.get("where"),
            recipe=_recipe(options.recipe) if options.get("recipe") else None,
            against=_other(options.against) if options.get("against") else None,
            metric=options.get("metric"),
            split=options.split,
            predict=not options.logged,
            device=options.device,
            progress=progress,
            names=_names(options),
        )


def _names(options: Namespace) -> tuple[str, str]:
    """What the two sides of --against are called: by their files, else by a run."""
    other = options.get("against") or ""
    return options.get("recipe") or "these runs", other if _is_file(other) else f"run {other}'s recipe"


def _is_file(text: str) -> bool:
    return Path(text).suffix.lower() in (".yaml", ".yml")


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[Any]:
    if quiet:
        yield None
        return
    with showing() as progress:
        yield progress


def _sources(options: Namespace, out: Output) -> Variance | None:
    from dataclasses import replace

    from ..store import Store
    from ..studies.variance_sources import estimate_sources, read_plan, variance_sources
    from .train import values_in

    other = [f"--{name}" for name in ("where", "recipe", "against", "logged") if options.get(name)]
    if len(options.runs) != 1 or other or options.split != "test":
        got = ", ".join([*options.runs, *other, *(["--split"] if options.split != "test" else [])]) or "nothing"
        raise InvalidValue(f"--sources takes one PLAN.yaml and looks at the test split, got {got}; give the plan alone")
    plan = read_plan(values_in(options.runs[0]))
    if options.get("runs_each") is not None:
        plan = replace(plan, runs=options.runs_each)
    store = Store(options.store)
    machine = {"workers": options.get("workers"), "threads": options.get("threads"), "device": options.device}
    if options.dry_run:
        cost = estimate_sources(plan, store, **machine)
        out.give(cost, lambda: _cost_text(cost))
        return None
    with listening() as listener:
        return variance_sources(plan, store, metric=options.get("metric"), listener=listener, **machine)


def _recipe(path: str) -> Recipe:
    from ..core.recipe import Recipe
    from .train import values_in

    return Recipe.from_dict(values_in(path))


def _other(text: str) -> Recipe | str:
    return _recipe(text) if _is_file(text) else text


def _cost_text(cost: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"free one at a time: {', '.join(cost['sources'])}; and all, and none",
            f"{plural(cost['runs'], 'run')}: {cost['found']:,} in the store, {cost['runs'] - cost['found']:,} to train",
            f"about {time_text(cost['hours'] * 3600)} with {plural(cost['workers'], 'worker')}",
            *([f"the recipe draws nothing from: {', '.join(cost['absent'])}"] if cost["absent"] else []),
            *([_tells(cost)] if cost["twice"] else []),
        ]
    )


def _tells(cost: dict[str, Any]) -> str:
    if cost["tells"] is None:
        said = "which source makes runs vary more is not said of so few runs each"
    else:
        said = f"tells a source that makes runs vary {cost['tells']:.1f} times as much as another (in 4 of 5 studies)"
    return f"{said}; {cost['twice']} runs each tell one that makes them vary twice as much"


def _command(options: Namespace) -> str:
    words = ["reinvest", "variance", *options.runs, "--store", options.store]
    words += [f"--{name}" for name in ("sources", "logged") if options.get(name)]
    for name in PLAIN:
        if options.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(options.get(name))]
    return shlex.join(words)


VARIANCE = Command(
    about=(
        "How far runs of one recipe lie apart that differ in their seed alone, and why.\n\n"
        "Of runs in the store (named, filtered, or all of a recipe; nothing is trained): mean and standard deviation with\n"
        "95 % intervals; how much of the spread is luck with the examples of the test set, and how much would be there\n"
        "on endlessly many; on how many examples two runs differ (churn). 5 runs or more are advised. --against says\n"
        "how probable it is that a run of this recipe beats one of another.\n\n"
        "With --sources it trains runs in which one source of randomness alone is free (initial weights, order of the\n"
        "examples, random views, draws of methods, dropout; all others at the held seed), runs with all held (what then\n"
        "differs is the machine) and runs with all free. It says what share of the variance each makes, and from 5 runs\n"
        "each on with which of two runs vary more, where an interval shows it; else how many runs would tell (24 each\n"
        "for a standard deviation twice another's). Only runs that the store lacks are trained; --dry-run tells how\n"
        "many. A plan file (YAML), instead of a recipe's:\n"
        "  recipe: {task: digits, model: mlp, duration: 10ep}   # what a recipe file holds\n"
        "  runs: 10                    # for each source, 3 or more\n"
        "  sources: [init, order]      # left out: all from which the recipe draws\n"
        "  held: 0                     # the seed at which the others are held; no free run has it"
    ),
    examples=(
        "reinvest variance --recipe examples/recipe.yaml --out variance.html",
        "reinvest variance 3f2a 91c0 b7d4 --json",
        "reinvest variance --recipe a.yaml --against b.yaml --out against.html",
        "reinvest variance --recipe examples/recipe.yaml --against 91c0 --logged",
        "reinvest variance examples/recipe.yaml --sources --runs-each 10 --out sources.html",
    ),
    arguments=_arguments,
    run=_run,
)
