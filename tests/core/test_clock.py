"""The clock charges training only: rare slow steps at their share, no evaluation, no warm-up."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from reinvest.core.chain import Methods
from reinvest.core.clock import StepClock, typical_seconds
from toy_loops import net, sgd
from toys import Sleeper

STEPS = 100


def rows(count: int = STEPS) -> list[Any]:
    return [(torch.zeros(4, 6), torch.zeros(4, dtype=torch.long))] * count


def read(
    chain: Methods, *, loader: Any = None, between: float = 0.0, inside: float = 0.0, warm: float = 0.0
) -> dict[str, Any]:
    """What the clock says after one epoch of a loop that sleeps between steps, inside them, or in the first one."""
    model = net()
    data = rows() if loader is None else loader
    with chain.attach(model, sgd(model), duration="1ep", data=data, seed=0):
        for i, (x, y) in enumerate(chain.batches(data)):
            time.sleep(inside)
            if i == 0:
                time.sleep(warm)
            chain.loss(model(x), y).backward()
            chain.step()
            time.sleep(between)
        return chain.clock


@pytest.mark.parametrize("declared", [True, False])
def test_a_method_that_sleeps_on_every_fifth_step_is_charged_its_share(declared: bool) -> None:
    for _ in range(3):  # other processes may take the processor in between
        base = read(Methods())["seconds"] / STEPS
        slow = read(Methods(Sleeper(0.01, 5, declared)))
        extra = slow["seconds"] / STEPS - base
        if 0.0017 < extra < 0.0030:  # 10 ms in five steps, and sleep overshoots
            break
    assert 0.0017 < extra < 0.0030
    if declared:
        counts: dict[str, int] = {}
        for stratum in slow["strata"]:
            counts[stratum["kind"]] = counts.get(stratum["kind"], 0) + stratum["steps"]
        assert sorted(counts.values()) == [20, 80]


def test_what_lies_between_steps_is_not_charged() -> None:
    other = read(Methods(), between=0.02, loader=rows(30))
    assert other["seconds"] < 0.5 * 30 * 0.02 and other["wall_seconds"] < 0.5 * 30 * 0.02


def test_forward_and_data_are_charged() -> None:
    class Slow(list[Any]):
        def __iter__(self) -> Any:
            for row in list.__iter__(self):
                time.sleep(0.002)
                yield row

    assert read(Methods(), inside=0.002)["seconds"] > STEPS * 0.002
    assert read(Methods(), loader=Slow(rows()))["seconds"] > STEPS * 0.002


def test_the_warm_up_is_reported_apart() -> None:
    base = read(Methods())
    warm = read(Methods(), warm=0.2)
    assert warm["warmup_seconds"] > 0.15
    assert warm["seconds"] < base["seconds"] + 0.1
    assert warm["wall_seconds"] > 0.2


def test_rare_hiccups_of_the_machine_are_not_charged_but_regular_work_is() -> None:
    assert typical_seconds([1.0] * 990 + [50.0] * 10) == 1.0
    assert typical_seconds([1.0, 1.0, 1.0, 50.0]) == 1.0  # too few to tell: the median
    assert typical_seconds(([1.0] * 4 + [11.0]) * 200) == pytest.approx(3.0, rel=0.1)
    assert typical_seconds([1.0, 1.1, 0.9] * 50) == 1.0


def test_a_run_within_the_warm_up_of_its_tenths_borrows_from_later_ones() -> None:
    told = read(Methods(), loader=rows(20), warm=0.2)
    assert told["seconds"] < 0.1 and told["warmup_seconds"] > 0.15 and told["steps"] == 20


def test_every_step_is_charged_once() -> None:
    told = read(Methods())
    assert sum(stratum["steps"] for stratum in told["strata"]) == STEPS
    assert len({stratum["tenth"] for stratum in told["strata"]}) == 10


def test_the_clock_goes_on_from_its_state() -> None:
    one = StepClock()
    for i in range(40):
        one.start()
        one.stop("plain", i / 80)
    two = StepClock()
    two.load_state_dict(one.state_dict())
    assert two.read()["seconds"] == one.read()["seconds"]
    for i in range(40, 80):
        two.start()
        two.stop("plain", i / 80)
    assert sum(stratum["steps"] for stratum in two.read()["strata"]) == 80
    assert two.read()["wall_seconds"] > one.read()["wall_seconds"]


def test_a_clock_that_never_ran_says_zero() -> None:
    told = StepClock().read()
    assert told["seconds"] == told["warmup_seconds"] == told["wall_seconds"] == 0


def test_a_run_shorter_than_the_warm_up_is_still_charged() -> None:
    assert read(Methods(), loader=rows(1), inside=0.01)["seconds"] > 0.009


def test_steps_of_a_gpu_are_timed_on_the_stream_of_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model on cuda:1 an event on the current device, cuda:0, would time an idle GPU."""
    streams: list[torch.device] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: torch.device) -> None:
            streams.append(stream)

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, other: Event) -> float:
            return 2000.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    clock = StepClock(torch.device("cuda", 1))
    for k in range(8):
        clock.start()
        clock.stop(None, k / 8)
    assert clock.read()["seconds"] == 16.0 and set(streams) == {torch.device("cuda", 1)}
