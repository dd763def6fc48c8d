"""From names to things: catalogues without case, factories by "package.module:name", refusals that help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reinvest.core import names
from reinvest.core.errors import InvalidValue, ReinvestError, UnknownName


@pytest.fixture
def fruit(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A catalogue of kind "fruit" in a module of its own."""
    import types

    module = types.ModuleType("orchard")
    module.catalog = {"Apple": "collections:OrderedDict", "pear": dict}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orchard", module)
    monkeypatch.setitem(names.catalogues, "fruit", "orchard:catalog")
    return module.catalog  # type: ignore[attr-defined, no-any-return]


def test_names_are_found_whatever_their_case(fruit: dict[str, Any]) -> None:
    from collections import OrderedDict

    assert names.resolve("fruit", "Apple") is names.resolve("fruit", "apple") is OrderedDict
    assert names.resolve("fruit", "PEAR") is dict
    assert names.canonical("fruit", "aPPle") == "Apple"


def test_unknown_names_list_the_known_ones_and_suggest(fruit: dict[str, Any]) -> None:
    with pytest.raises(UnknownName, match=r"unknown fruit 'aple'; did you mean 'Apple'\? Known: Apple, pear"):
        names.resolve("fruit", "aple")


@pytest.mark.parametrize("kind", ["task", "model", "method", "schedule"])
def test_the_built_in_catalogues_are_there(kind: str) -> None:
    known = names.catalogue(kind)
    assert known
    for name in known:
        assert callable(names.resolve(kind, name)), name
    with pytest.raises(UnknownName, match=next(iter(known))):
        names.resolve(kind, "no such thing")


def test_factories_are_imported() -> None:
    import json.decoder

    assert names.resolve("model", "json.decoder:JSONDecoder") is json.decoder.JSONDecoder
    assert names.canonical("model", "json.decoder:JSONDecoder") == "json.decoder:JSONDecoder"


@pytest.mark.parametrize("reference", ["no_such_module_here:thing", "json:no_such_attribute", "json.nothing:thing"])
def test_factories_that_do_not_exist(reference: str) -> None:
    with pytest.raises(UnknownName, match=reference.partition(":")[0].rpartition(".")[2]):
        names.load(reference)


def test_an_attribute_that_does_not_exist_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="JSONDecoder"):
        names.load("json.decoder:JSONDecodr")


@pytest.mark.parametrize("reference", ["json", ":thing", "json:", "a:b:c"])
def test_what_is_no_reference(reference: str) -> None:
    with pytest.raises(ReinvestError):
        names.load(reference)


def test_main_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidValue, match="file"):
        names.load("__main__:factory")


@pytest.mark.parametrize("name", [None, 5, ["mlp"], lambda: None])
def test_what_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(InvalidValue):
        names.resolve("model", name)


def test_an_import_error_inside_a_users_module_is_not_hidden(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_users_module.py").write_text("import a_library_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Exception, match="a_library_that_is_not_installed"):
        names.load("broken_users_module:factory")


def test_names_load_no_torch() -> None:
    code = "import sys, reinvest, reinvest.core.names, reinvest.core.errors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_that_does_not_parse_is_refused_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "unparsed.py").write_text("one = 1\ndef (\n")
    (tmp_path / "importing_unparsed.py").write_text("import unparsed\n")
    for module in ("unparsed", "importing_unparsed"):
        with pytest.raises(
            InvalidValue, match=rf"'{module}:net', of which unparsed.py does not parse at line 2 \(.*\); mend"
        ):
            names.resolve("model", f"{module}:net")
