"""`reinvest plan STUDY`: what a study can show with its seeds, and what it costs, before it is paid for."""

from __future__ import annotations

import contextlib
import shlex
from typing import Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output
from ._parser import Command, Parser, option, store_option
from ._study import (
    ASK_ABOVE_HOURS,
    agreed,
    asks,
    check_study_options,
    device_of,
    listening,
    machine_of,
    prices_of,
    prices_option,
)
from ._verdicts import target
from .compare import machine_options


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "study", type=str, metavar="STUDY", help="a YAML file, or a Python file that defines `study = ri.Study(...)`"
    )
    store_option(parser)
    machine_options(parser)
    option(
        parser,
        "--pilot",
        type=int,
        metavar="N",
        help="train the study's first N seeds of the baseline (N >= 2; 3 is usual), which the study finds again",
    )
    option(
        parser,
        "--effect",
        type=str,
        metavar="LIST",
        help='speed-ups whose seeds are asked for, above 1, with commas (default: "1.05,1.1,1.2,1.3")',
    )
    option(
        parser,
        "--price",
        type=str,
        metavar="'AMOUNT CURRENCY'",
        help="of an hour of this machine, e.g. '2.5 EUR': hours are told in money too",
    )
    prices_option(parser, "tells hours in money too")
    parser.add_argument(
        "--yes",
        action="store_true",
        help=f"do not ask before a pilot of more than {ASK_ABOVE_HOURS:g} hour (a terminal is asked)",
    )
    option(
        parser, "--out", type=str, metavar="FILE.html", help="write the page; FILE.json beside it holds every figure"
    )


def _effects(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        return {"effects": [float(part) for part in text.split(",")]}
    except ValueError:
        raise InvalidValue(
            f"--effect is a speed-up above 1, or several with commas, got {text!r}; write e.g. --effect 1.1"
        ) from None


def _price(options: Namespace) -> tuple[float | None, str]:
    """What an hour of this machine costs and in which currency, by --price or --prices; (None, "") without them."""
    text, prices = options.get("price"), options.get("prices")
    if text and prices:
        raise InvalidValue(f"money comes from --price or --prices, got both, {text!r} and {prices!r}; leave one out")
    if prices:
        found = prices_of(options)
        return (None, "") if found is None else (found.of(device_of(options)), found.currency)
    if not text:
        return None, ""
    amount, _, currency = text.strip().partition(" ")
    with contextlib.suppress(ValueError):
        if currency.strip():
            return float(amount), currency.strip()
    raise InvalidValue(f"a price is an amount and its currency, got {text!r}; write --price '2.5 EUR'")


def _run(options: Namespace, out: Output) -> int:
    from ..evaluation.pilot import pilot_cost, train_pilot
    from ..evaluation.planning import check_asked, plan_study
    from ..evaluation.study import load_study
    from ..store import Store

    check_study_options(options)
    study = load_study(options.study)
    price, currency = _price(options)
    asked: dict[str, Any] = {**_effects(options.get("effect")), "price": price}
    check_asked(**asked)
    file = target(options.out) if options.get("out") else None
    store, machine, seeds = Store(options.store), machine_of(options), options.get("pilot")
    if seeds is not None:
        cost = pilot_cost(study, store, seeds, **machine) if asks(options.yes, out) else {"runs": 0, "hours": 0.0}
        if not agreed(**cost):
            out.note("nothing was run")
            return 0
        with listening() as listener:
            train_pilot(study, store, seeds, planned=listener.planned, on_done=listener.done, **machine)
    result = plan_study(study, store, **asked, currency=currency, **machine, reproduce=_command(options))
    written = {}
    if file is not None:
        from ..evaluation.result import write_result
        from ..report.plan import write_plan

        twin = write_result(result, file.with_suffix(".json"))
        written = {"report": str(write_plan(result, file)), "result": str(twin)}
    from ..report.plan import print_plan

    out.show(lambda console: print_plan(result, console))
    pages = [f"Page: {written['report']}", f"Every figure in it: {written['result']}"] if written else []
    out.give({**result, **written}, (lambda: "\n".join(["", *pages])) if pages else None)
    return 3 if result["noise"] is None else 0


def _command(options: Namespace) -> str:
    words = ["reinvest", "plan", options.study, "--store", options.store]
    for name in ("pilot", "effect", "price", "prices"):
        if options.get(name) is not None:
            words += [f"--{name}", str(options.get(name))]
    return shlex.join(words)


PLAN = Command(
    about=(
        "Say before a study is paid for what it can show: how much of time the noise of seeds is worth at every duration,\n"
        "the smallest speed-up that the planned seeds find four times in five, the seeds that other speed-ups need, and\n"
        "the runs, hours and money that the store lacks. The noise is learned from runs of the baseline (or of another arm)\n"
        "that the store holds already, or from a pilot; nothing else is trained. What is computed is the verdict's own\n"
        "standard error.\n\n"
        "A study file: see reinvest compare --help. Declared looks are planned with the levels that they leave.\n\n"
        "Exit code 0 if the noise is known, 3 if no arm has two finished runs at every duration (costs are told all the same)."
    ),
    examples=(
        "reinvest plan examples/study.yaml",
        "reinvest plan examples/study.yaml --pilot 3 --effect 1.1 --out plan.html",
        "reinvest plan examples/study.yaml --store runs --price '2.5 EUR' --json",
    ),
    arguments=_arguments,
    run=_run,
)
