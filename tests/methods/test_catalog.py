"""The catalogue of methods and their plain-function forms."""

from __future__ import annotations

import inspect
from pathlib import Path

import reinvest.methods
from reinvest import functional
from reinvest.core import names
from reinvest.core.method import Method
from reinvest.methods._catalog import catalog

FOLDER = Path(reinvest.methods.__file__).parent


def test_every_file_in_a_phase_folder_is_in_the_catalogue():
    files = {p for p in FOLDER.glob("*/*.py") if not p.name.startswith("_")}
    assert {Path(inspect.getfile(method)) for method in catalog.values()} == files
    assert list(catalog) == sorted(catalog)


def test_folders_are_the_first_phase():
    for method in catalog.values():
        folder = Path(inspect.getfile(method)).parent.name
        assert folder == ("surgery" if method.card.phase == "start" else method.card.phase)


def test_methods_are_found_by_name_whatever_the_case():
    for name, method in catalog.items():
        assert names.resolve("method", name.lower()) is method
        assert issubclass(method, Method) and method(**method.neutral) is not None


def test_every_file_gives_a_function_too():
    for method in catalog.values():
        module = inspect.getmodule(method)
        assert any(getattr(functional, n, None) is v for n, v in vars(module).items() if inspect.isfunction(v)), method


def test_functions_are_documented():
    for name in functional.__all__:
        assert inspect.getdoc(getattr(functional, name))


def test_domains_have_one_word_each():
    for method in catalog.values():
        assert set(method.card.domains) <= {"vision", "language", "audio", "tabular"}, method
