"""Energy of a run: counted or integrated where a device tells, absent where none does or a part of it is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinvest.core import energy
from reinvest.core.chain import Methods
from reinvest.core.energy import Measured, Used, integrated, meter_of, together
from reinvest.core.hardware import peak_memory
from reinvest.core.recipe import Recipe
from reinvest.evaluation.execute import Machine, run_one
from reinvest.evaluation.plan import Job
from reinvest.loop.train import train
from reinvest.store import Run, Store
from toy_loops import examples, net, sgd

RECIPE = Recipe(
    task={"name": "digits", "train_examples": 200}, model={"name": "mlp", "hidden": [8]}, duration="2ep", batch_size=50
)


class Counter:
    """A device that counts: 5 J more at every look."""

    def __init__(self) -> None:
        self.total: Iterator[int] = count(1000, 5)

    def joules(self) -> float | None:
        return float(next(self.total))

    def watts(self) -> float:
        raise AssertionError("a counter is read, not its power")


class Power:
    """A device that only tells its power."""

    def __init__(self, value: float = 80.0) -> None:
        self.value, self.looks = value, 0

    def joules(self) -> float | None:
        return None

    def watts(self) -> float:
        self.looks += 1
        return self.value


class Broken(Power):
    def watts(self) -> float:
        self.looks += 1
        if self.looks > 1:
            raise OSError("the driver is gone")
        return 50.0


def test_power_is_integrated_by_trapezoids() -> None:
    # Up from 0 to 100 W in 2 s, then 1 s at 100 W: 100 + 100 joules.
    assert integrated([(0.0, 0.0), (2.0, 100.0), (3.0, 100.0)]) == pytest.approx(200.0)
    assert integrated([(7.0, 50.0)]) is None and integrated([]) is None


@given(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=20), st.floats(1.0, 500.0))
def test_constant_power_is_power_times_time_however_it_is_sampled(gaps: list[float], watts: float) -> None:
    samples, now = [(0.0, watts)], 0.0
    for gap in gaps:
        now += gap
        samples.append((now, watts))
    assert integrated(samples) == pytest.approx(watts * now)


def test_a_counter_is_read_at_both_ends() -> None:
    with Measured(Counter()) as measured:
        pass
    assert measured.joules == 5.0


def test_power_is_read_until_the_end_and_then_no_more() -> None:
    meter = Power()
    with Measured(meter, every=0.005) as measured:
        while meter.looks < 4:
            pass
    looks = meter.looks
    assert measured.joules is not None and measured.seconds > 0
    assert measured.joules == pytest.approx(80.0 * measured.seconds, rel=0.2)
    assert meter.looks == looks


@pytest.mark.parametrize("meter", [None, Broken()])
def test_what_cannot_be_measured_is_absent(meter: Any) -> None:
    with Measured(meter, every=0.001) as measured:
        while meter is not None and meter.looks < 2:
            pass
    assert measured.joules is None


def test_a_run_keeps_its_energy_and_says_which_memory_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "meter_of", lambda device: Counter())
    with Store(tmp_path) as store:
        cost = train(RECIPE, 0, store, device="cpu", progress=False).cost
    assert cost["energy_joules"] == 5.0 and cost["energy_seconds"] > 0
    assert cost["peak_memory_of"] == "process" and cost["peak_memory"] > 10**6


def test_without_a_meter_energy_is_absent_and_never_zero(tmp_path: Path) -> None:
    assert meter_of(torch.device("cpu")) is None
    with Store(tmp_path) as store:
        cost = train(RECIPE, 0, store, device="cpu", progress=False).cost
    assert "energy_joules" not in cost and "energy_seconds" not in cost


def test_a_run_that_was_continued_has_no_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "meter_of", lambda device: Counter())
    from reinvest.loop import train as module

    def stop(self: Any, split: str, step: int, epoch: int) -> None:
        self._checkpoint()
        raise KeyboardInterrupt

    with Store(tmp_path) as store:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(module._Training, "_evaluate", stop)
            train(RECIPE, 0, store, device="cpu", progress=False, evaluations=2)
        run = train(RECIPE, 0, store, device="cpu", progress=False, evaluations=2)
    assert run.status == "finished" and "energy_joules" not in run.cost and "peak_memory_of" in run.cost


def test_the_driver_is_asked_for_its_counter_and_else_for_its_power(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(Exception):
        pass

    asked: list[Any] = []

    def total(handle: str) -> int:
        if handle == "old":
            raise Refused
        return 2_500

    fake = SimpleNamespace(
        NVMLError=Refused,
        nvmlInit=lambda: asked.append("init"),
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or ("old" if "old" in uuid else "new"),
        nvmlDeviceGetTotalEnergyConsumption=total,
        nvmlDeviceGetPowerUsage=lambda handle: 70_000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    for uuid, joules in (("a1", 2.5), ("old", None)):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, uuid=uuid: SimpleNamespace(uuid=uuid))
        meter = meter_of(torch.device("cuda", 0))
        assert meter is not None and meter.joules() == joules and meter.watts() == 70.0
    assert asked == ["init", "GPU-a1", "init", "GPU-old"]
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert meter_of(torch.device("cuda", 0)) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets the peak be counted afresh")
def test_what_an_earlier_run_of_the_process_needed_is_not_its_own(tmp_path: Path) -> None:
    """Workers train many runs one after the other: the peak of one arm is not that of the arm before."""
    held = torch.ones(60_000_000)
    before = peak_memory("cpu")[0]
    del held
    with Store(tmp_path) as store:
        run = train(RECIPE, 0, store, device="cpu", progress=False)
    assert run.cost["peak_memory_of"] == "process" and 0 < run.cost["peak_memory"] < before - 120_000_000


# ---- anyone's own loop -----------------------------------------------------------------------------------------


def own_run(store: Store, seed: int = 0, *, chains: int = 1, state: Any = None) -> Run:
    """Two epochs with the three calls, `chains` times in one run; state: of a chain that the last one goes on from."""
    loader = torch.utils.data.DataLoader(examples(), batch_size=15)
    with store.record("own", task="toy", seed=seed) as run:
        for k in range(chains):
            model, methods = net(), Methods()
            with methods.attach(model, sgd(model), duration="2ep", data=loader, seed=seed):
                if state is not None and k == chains - 1:
                    methods.load_state_dict(state)
                while methods.context.step < methods.context.total_steps:
                    for x, y in methods.batches(loader):
                        methods.loss(model(x), y).backward()
                        methods.step()
        run.log(split="test", accuracy=0.5)
    return run.run


def half_way(seed: int = 0) -> dict[str, Any]:
    """The state of such a chain after its first epoch."""
    loader = torch.utils.data.DataLoader(examples(), batch_size=15)
    model, methods = net(), Methods()
    with methods.attach(model, sgd(model), duration="2ep", data=loader, seed=seed):
        for x, y in methods.batches(loader):
            methods.loss(model(x), y).backward()
            methods.step()
        return methods.state_dict()


def test_an_own_loop_keeps_its_energy_as_train_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "meter_of", lambda device: Counter())
    with Store(tmp_path) as store:
        cost = own_run(store).cost
    assert cost["energy_joules"] == 5.0 and cost["energy_seconds"] >= cost["seconds"] > 0
    assert cost["peak_memory_of"] == "process" and cost["peak_memory"] > 10**6


def test_the_meter_is_that_of_the_models_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(energy, "meter_of", lambda device: asked.append(device))
    with Store(tmp_path) as store:
        cost = own_run(store).cost
    assert asked == [torch.device("cpu")] and "energy_joules" not in cost and "energy_seconds" not in cost


def test_chains_of_one_run_add_up_unless_one_of_them_was_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "meter_of", lambda device: Counter())
    with Store(tmp_path) as store:
        assert own_run(store, 0, chains=2).cost["energy_joules"] == 10.0
        assert "energy_joules" not in own_run(store, 1, chains=2, state=half_way(1)).cost
        assert "energy_joules" not in own_run(store, 2, state=half_way(2)).cost


def test_an_arm_that_is_a_callable_keeps_its_energy_in_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "meter_of", lambda device: Counter())

    def arm(duration: str, seed: int, store: Store) -> Run:
        return own_run(store, seed)

    with Store(tmp_path) as store:
        run = run_one(Job("own", "2ep", 0, 7, arm, "ab" * 16), store, Machine())
        taught = run_one(Job("recipe", "2ep", 0, 7, RECIPE, "cd" * 16), store, Machine())
    assert run.seed == 7 and run.cost["energy_joules"] == taught.cost["energy_joules"] == 5.0


def test_a_run_without_a_chain_has_the_peak_of_its_process_and_no_energy(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        with store.record("none", task="toy") as run:
            run.log(split="test", accuracy=0.5)
        cost = run.run.cost
        assert cost["peak_memory_of"] == "process" and cost["peak_memory"] > 10**6 and "energy_joules" not in cost
        with store.record("told", task="toy") as told:
            told.charge(energy_joules=30.0, energy_seconds=2.0)
    assert told.run.cost["energy_joules"] == 30.0


def test_a_loop_that_nobody_records_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(energy, "meter_of", refuse)
    monkeypatch.setattr(energy, "forget_peak", refuse)
    assert half_way()["step"] == 3
    with Used(None) as used:
        pass
    assert used.plain(False) == {}


def test_of_several_processes_one_devices_energy_would_be_a_part_and_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(energy, "meter_of", lambda device: Counter())
    for alone in (True, False):
        with Used(torch.device("cpu"), alone=alone) as used:
            pass
        assert ("energy_joules" in used.plain(False)) is alone
        assert "energy_joules" not in used.plain(True)


def test_the_peak_of_a_gpu_is_forgotten_and_read_on_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(energy, "meter_of", lambda device: told.append(device))
    monkeypatch.setattr(energy, "forget_peak", told.append)
    monkeypatch.setattr(energy, "peak_memory", lambda device: told.append(device) or (9, "device"))
    with Used(torch.device("cuda", 1)) as used:
        pass
    assert used.plain(False) == {"peak_memory": 9, "peak_memory_of": "device"}
    assert told == [torch.device("cuda", 1)] * 3


PART = st.fixed_dictionaries(
    {"peak_memory": st.integers(0, 10**12), "peak_memory_of": st.sampled_from(["device", "process"])},
    optional={"energy_joules": st.floats(0.1, 1e6), "energy_seconds": st.floats(0.1, 1e6)},
)


@given(PART, PART)
def test_two_parts_together_have_the_larger_peak_and_energy_only_where_both_have(a: Any, b: Any) -> None:
    both = together(a, b)
    alike = a["peak_memory_of"] == b["peak_memory_of"]
    peaks = [p["peak_memory"] for p in (a, b) if alike or p["peak_memory_of"] == "device"]
    assert both["peak_memory"] == max(peaks)
    assert both["peak_memory_of"] == ("process" if alike and a["peak_memory_of"] == "process" else "device")
    for name in ("energy_joules", "energy_seconds"):
        assert both.get(name) == (a[name] + b[name] if name in a and name in b else None)
    assert together({}, a) == a
