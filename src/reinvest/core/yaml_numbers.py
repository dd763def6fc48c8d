"""YAML as people write it: `lr: 1e-3` is a number, as in YAML 1.2 (to PyYAML alone it is text); files of it, refused in a
sentence where they are none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import InvalidValue

FLOAT = re.compile(r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$")
"""Floats of YAML 1.2; whole numbers, infinities and NaN are PyYAML's own."""
KINDS = ((bool, "true or false"), (str, "text"), ((int, float), "a number"), (list, "a list"))
"""What a file may hold in place of a mapping, in words."""


class _Loader(yaml.SafeLoader):
    """Builds plain values only."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value out of range (a date in the 13th month) is an error of the text, with its place."""
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def load(text: str) -> Any:
    """The plain values that a YAML text describes. Raises yaml.YAMLError; nothing in the text is executed."""
    return yaml.load(text, Loader=_Loader)


def read(path: str | Path, what: str, *, remedy: str, form: str = "a YAML file") -> Any:
    """The plain values in a YAML file. what: the file is, such as "a study"; remedy: what to do
    where it says nothing; form: of such files.

    Raises InvalidValue for a file that is absent, no text, empty, or that does not parse, with the line.
    """
    values = _values(path, what, form)
    if values is None:
        raise InvalidValue(f"{what} is {form}, got {Path(path).name!r} that is empty; {remedy}")
    return values


def read_mapping(path: str | Path, what: str, *, holds: str, remedy: str, form: str = "a YAML file") -> dict[str, Any]:
    """As `read`, of a file that must hold a mapping. holds: the fields that it has, in words."""
    values, name = _values(path, what, form), Path(path).name
    if values is None:
        raise InvalidValue(f"{what} is a mapping with {holds}, got {name!r} that is empty; {remedy}")
    if not isinstance(values, Mapping):
        kind = next((word for types, word in KINDS if isinstance(values, types)), type(values).__name__)
        raise InvalidValue(f"{what} is a mapping with {holds}, got {kind} in {name!r}; {remedy}")
    return dict(values)


def _values(path: str | Path, what: str, form: str) -> Any:
    file = Path(path)
    if file.is_dir():
        raise InvalidValue(f"{what} is {form}, got {str(path)!r}, which is a folder; name the file in it")
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise InvalidValue(f"{what} is {form}, got {str(path)!r}, which does not exist; check the path") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidValue(
            f"{what} is {form}, got {str(path)!r}, which holds no text; check the path, or save it as UTF-8"
        )
    try:
        return load(text)
    except yaml.YAMLError as error:
        line, why = _place(error, text)
        raise InvalidValue(
            f"{what} is YAML, got {file.name!r} that does not parse at line {line} ({why}); mend that line"
        ) from None


def _place(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """The line of an error, from 1, and what is wrong there."""
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, f"the character #x{error.character:04x} is not allowed"
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    context, begun = error.context, error.context_mark
    why = " ".join(str(error.problem or context or "not YAML").split())
    if context and begun is not None and mark is not None and begun.line != mark.line:
        why += f", {' '.join(context.split())} from line {begun.line + 1}"
    return (1 if mark is None else mark.line + 1), why
