"""YAML as people write it: `lr: 1e-3` is a number, as in YAML 1.2 (to PyYAML alone it is text)."""

from __future__ import annotations

import re
from typing import Any

import yaml

FLOAT = re.compile(r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$")
"""Floats of YAML 1.2; whole numbers, infinities and NaN are PyYAML's own."""


class _Loader(yaml.SafeLoader):
    """Builds plain values only."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def load(text: str) -> Any:
    """The plain values that a YAML text describes. Raises yaml.YAMLError; nothing in the text is executed."""
    return yaml.load(text, Loader=_Loader)
