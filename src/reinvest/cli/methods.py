"""`reinvest methods`: the catalogue, and the card of one method."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from jsonargparse import Namespace

from ..core.names import catalogue, resolve
from ._output import Output, table
from ._parser import Command, Parser


def about(method: Any) -> dict[str, Any]:
    """A method's card, arguments and switches as plain values."""
    empty = inspect.Parameter.empty
    return {
        "name": method.__name__,
        **dataclasses.asdict(method.card),
        "arguments": {
            n: None if p.default is empty else p.default for n, p in inspect.signature(method).parameters.items()
        },
        "neutral": method.neutral,
        "needs_closure": method.needs_closure,
        "needs_ids": method.needs_ids,
        "diagnostic": method.diagnostic,
        "doc": inspect.getdoc(method) or "",
    }


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "name", type=str, nargs="?", metavar="NAME", help="a method's name, or 'package.module:Class' of your own"
    )


def _run(options: Namespace, out: Output) -> int:
    if options.name:
        card = about(resolve("method", options.name))
        out.give(card, lambda: _card(card))
        return 0
    cards = [about(method) for method in catalogue("method").values()]
    cards.sort(key=lambda c: (c["phase"], c["name"]))
    rows = [
        [
            c["name"] + (" (experimental)" if c["experimental"] else " (watches)" if c["diagnostic"] else ""),
            c["phase"],
            c["cost"].split(";")[0].split(". ")[0],
            f"{c['year']}",
            c["arxiv"],
        ]
        for c in cards
    ]
    out.give({"methods": cards}, lambda: table(["method", "phase", "cost per step", "year", "arXiv"], rows))
    return 0


def _card(card: dict[str, Any]) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in card["arguments"].items())
    lines = [f"{card['name']}({arguments})", "", card["doc"], ""]
    lines += [f"{key + ':':<10} {card[key]}" for key in ("title", "paper", "year", "arxiv", "phase", "cost", "breaks")]
    if card["found"]:
        lines.append(f"{'found:':<10} {card['found']}")
    lines.append(f"{'domains:':<10} {', '.join(card['domains'])}")
    if card["experimental"]:
        lines.append(f"{'tier:':<10} experimental: little independent evidence so far")
    if card["conflicts"]:
        lines.append(f"{'conflicts:':<10} {', '.join(card['conflicts'])}")
    neutral = ", ".join(f"{k}={v!r}" for k, v in card["neutral"].items()) or "whatever its arguments, it"
    lines.append(f"{'neutral:':<10} {neutral} changes nothing, bit for bit")
    if card["needs_closure"]:
        lines.append("In an own loop, it needs methods.step(closure).")
    return "\n".join(lines)


METHODS = Command(
    about="List the methods: phase in which they act, cost per step, source. With a name, show its whole card.",
    examples=("reinvest methods", "reinvest methods SAM", "reinvest methods LabelSmoothing --json"),
    arguments=_arguments,
    run=_run,
)
