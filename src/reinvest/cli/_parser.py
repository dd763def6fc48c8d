"""A command's parser: jsonargparse, with one-sentence errors and examples under every help text."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from ..core.errors import InvalidValue, unknown
from ._output import Output

_EXPECTED = re.compile(
    r'Parser key "(?P<key>[^"]+)".*?Expected an? <class \'(?P<type>\w+)\'>\. Got value: (?P<value>.*)', re.DOTALL
)
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "dict": "a name or a mapping",
}


class _Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Defaults and types in the help, descriptions and examples as written."""


class Parser(ArgumentParser):
    """Raises InvalidValue or UnknownName, one sentence each, where argparse would print its usage and exit."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = " ".join(str(message).split())
        if found := re.search(r"[Uu]nrecognized arguments: (.*)", text):
            first = found[1].split()[0]
            if first.startswith("-"):
                raise unknown("option", first.split("=")[0], self.options())
            raise InvalidValue(f"'{self.prog}' does not know what to do with {first!r}; see {self.prog} --help")
        if found := _EXPECTED.search(str(message)):
            kind = _KINDS.get(found["type"], found["type"])
            raise InvalidValue(f"--{found['key']} takes {kind}, got {found['value'].strip()!r}; see {self.prog} --help")
        raise InvalidValue(f"'{self.prog}' cannot read its arguments ({text.rstrip('.')}); see {self.prog} --help")

    def options(self) -> list[str]:
        """The long option names."""
        found = {s for action in self._actions for s in action.option_strings if s.startswith("--")}
        return sorted(found - {"--print_shtab"})


@dataclass(frozen=True)
class Command:
    """One command: what it says of itself, its arguments, and the function it calls (options, output) -> exit code.

    rewrite: brings what was typed into the form that the parser reads.
    """

    about: str
    examples: tuple[str, ...]
    arguments: Callable[[Parser], None]
    run: Callable[[Namespace, Output], int]
    rewrite: Callable[[Sequence[str]], list[str]] = list

    def parser(self, name: str) -> Parser:
        """The parser of `reinvest NAME`."""
        examples = "\n".join(f"  {line}" for line in self.examples)
        made = Parser(
            prog=f"reinvest {name}",
            description=self.about,
            epilog=f"examples:\n{examples}",
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self.arguments(made)
        # Read by `main` before any parser, and listed here so that the help shows it.
        made.add_argument("--json", action="store_true", help="print exactly one JSON object on standard output")
        return made


def store_option(parser: Parser) -> None:
    """--store, the same in every command."""
    parser.add_argument("--store", type=str, default="runs", metavar="FOLDER", help="the folder that holds the runs")


def option(parser: Parser, *names: str, **settings: Any) -> None:
    """`parser.add_argument` for an option without default value, so that the help does not say "default: null"."""
    parser.add_argument(*names, default=argparse.SUPPRESS, **settings)
