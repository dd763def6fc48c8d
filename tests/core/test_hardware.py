"""Facts about machine and libraries, and the reason why seconds from two machines do not compare."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reinvest.core.hardware import comparable, facts, forget_peak, peak_memory


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


@pytest.mark.parametrize("processes", [1, 4])
def test_the_devices_of_a_run_are_those_that_train_and_not_all_that_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Fast GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=2**37))
    monkeypatch.setattr("reinvest.core.wrappers.ranks", lambda: (0, processes))
    hardware = facts("cuda:1")["hardware"]
    assert (hardware["device"], hardware["devices"]) == ("Fast GPU", processes)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """A machine with two GPUs, as torch tells of it: the most bytes that were allocated on each."""
    peaks = {0: 500, 1: 7_000}

    def place(device: Any) -> int:
        return int(torch.device(device).index or 0) if not isinstance(device, int) else device

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=0: peaks[place(device)])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device=0: peaks.update({place(device): 0}))
    return peaks


def test_peak_memory_is_that_of_the_device_asked_for(two_gpus: dict[int, int]) -> None:
    assert peak_memory("cuda:0") == (500, "device") and peak_memory("cuda:1") == (7_000, "device")
    assert peak_memory(torch.device("cuda", 1)) == (7_000, "device")


def test_a_run_on_the_cpu_has_the_memory_of_its_process_whatever_the_gpus_hold(two_gpus: dict[int, int]) -> None:
    size, whose = peak_memory("cpu")
    assert whose == "process" and size > 10**6


def test_where_nobody_knows_the_device_it_is_the_gpu_used_most_or_the_process(
    two_gpus: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert peak_memory() == (7_000, "device")
    two_gpus.update({0: 0, 1: 0})
    assert peak_memory()[1] == "process"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert peak_memory()[1] == "process"


HELD = "b = bytearray(600 << 20); b[:: 4096] = b'1' * len(b[:: 4096])"
CHILD = "from reinvest.core.hardware import forget_peak, peak_memory; forget_peak('cpu'); print(peak_memory('cpu')[0])"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a process's peak")
def test_a_worker_does_not_inherit_the_peak_of_the_process_that_started_it() -> None:
    start = f"import subprocess, sys; {HELD}; subprocess.run([sys.executable, '-c', {CHILD!r}], check=True)"
    ended = subprocess.run([sys.executable, "-c", start], check=True, capture_output=True, text=True)
    assert 10**7 < int(ended.stdout) < 600 << 20


def test_only_the_peak_of_the_device_asked_for_is_forgotten(two_gpus: dict[int, int]) -> None:
    forget_peak("cpu")
    assert two_gpus == {0: 500, 1: 7_000}
    forget_peak("cuda:1")
    assert two_gpus == {0: 500, 1: 0}
