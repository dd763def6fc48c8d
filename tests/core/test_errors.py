"""The error tree, and messages that name the nearest known thing."""

from __future__ import annotations

import pytest

import reinvest
from reinvest.core import errors


def test_everything_raised_on_purpose_has_one_base() -> None:
    found = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(found) == 14 and all(issubclass(e, errors.ReinvestError) for e in found)
    assert reinvest.ReinvestError is errors.ReinvestError


@pytest.mark.parametrize("error", [errors.InvalidValue, errors.UnknownName])
def test_bad_values_are_value_errors_too(error: type[Exception]) -> None:
    assert issubclass(error, ValueError)


@pytest.mark.parametrize("error", [errors.CorruptFile, errors.SchemaTooNew, errors.RunBusy, errors.StoreUnwritable])
def test_what_a_store_raises_is_a_store_error(error: type[Exception]) -> None:
    assert issubclass(error, errors.StoreError)


def test_an_unknown_name_lists_and_suggests() -> None:
    error = errors.unknown("task", "CIFAR-10", ["digits", "cifar10", "cifar100"])
    assert isinstance(error, errors.UnknownName)
    message = str(error)
    assert "'CIFAR-10'" in message and "did you mean 'cifar10'" in message
    assert "cifar10, cifar100, digits" in message


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert "did you mean" not in str(errors.unknown("task", "zzz", ["digits"]))
    assert "none" in str(errors.unknown("task", "zzz", []))
    assert "5" in str(errors.unknown("task", 5, ["digits"]))
