"""Facts about machine and libraries, and the reason why seconds from two machines do not compare."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from reinvest.core.hardware import comparable, facts


def test_facts_are_plain_values() -> None:
    found = facts()
    assert json.loads(json.dumps(found)) == found
    assert {"device", "devices", "threads", "precision"} <= set(found["hardware"])
    assert found["hardware"]["threads"] == torch.get_num_threads() and found["hardware"]["precision"] == "fp32"
    assert found["software"]["torch"] == torch.__version__
    assert found["hardware"]["device"]


def test_the_same_facts_compare() -> None:
    assert comparable(facts(), facts()) == (True, "")


@pytest.mark.parametrize(
    ("name", "value"), [("device", "another chip"), ("devices", 8), ("threads", 7), ("precision", "bf16")]
)
def test_hardware_that_differs_is_named_with_both_values(name: str, value: object) -> None:
    a = facts()
    b = copy.deepcopy(a)
    b["hardware"][name] = value
    fine, reason = comparable(a, b)
    assert not fine and str(value) in reason and str(a["hardware"][name]) in reason
    assert comparable(b, a)[0] is False


@pytest.mark.parametrize(
    ("version", "fine"), [("2.13.1", True), ("2.13.0+cu128", True), ("2.14.0", False), ("3.13.0", False)]
)
def test_torch_agrees_in_its_minor_version(version: str, fine: bool) -> None:
    a = facts()
    a["software"]["torch"] = "2.13.0+cpu"
    b = copy.deepcopy(a)
    b["software"]["torch"] = version
    got, reason = comparable(a, b)
    assert got is fine and (fine or ("2.13" in reason and version.rpartition(".")[0] in reason))


def test_the_rest_is_only_shown() -> None:
    a = facts()
    b = copy.deepcopy(a)
    b["software"]["python"] = "3.99"
    b["hardware"]["memory"] = 1
    assert comparable(a, b) == (True, "")


def test_missing_facts_do_not_compare_silently() -> None:
    a = facts()
    fine, reason = comparable(a, {})
    assert not fine and reason
    b = copy.deepcopy(a)
    del b["hardware"]["threads"]
    assert comparable(a, b)[0] is False


def test_precision_and_device_are_those_asked_for() -> None:
    assert facts("cpu", "bf16")["hardware"]["precision"] == "bf16"
    assert facts(torch.device("cpu"))["hardware"]["device"] == facts("cpu")["hardware"]["device"]
