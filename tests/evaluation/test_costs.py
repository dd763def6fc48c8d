"""Cost at equal quality besides seconds: money, energy, memory, and what re-used runs cost. Closed forms by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.protocols import current_runs
from reinvest.evaluation.costs import Prices, break_even, costs_of, priced, read_prices
from reinvest.evaluation.outcome import Verdict

GPU = {"hardware": {"device": "Fast GPU", "devices": 2, "kind": "cuda"}}


class FakeRun:
    """A finished run of known cost."""

    def __init__(self, name: str, seconds: float, parents: tuple[str, ...] = (), **cost: Any) -> None:
        self.id, self.seconds, self.parents, self.status = name, seconds, list(parents), "finished"
        self.cost, self.facts, self.reuse = cost, GPU, []


def points(arm: str, seconds: float, count: int = 3) -> list[dict[str, Any]]:
    """Runs of two durations, the longer one at `seconds`."""
    return [
        {
            "arm": arm,
            "duration": duration,
            "seconds": share * seconds,
            "quality": quality,
            "status": "finished",
            "run": f"{arm}-{duration}-{k}",
        }
        for duration, share, quality in (("1ep", 0.5, 0.8), ("2ep", 1.0, 0.9))
        for k in range(count)
    ]


def table(
    verdict: Verdict,
    *,
    base: dict[str, Any] | None = None,
    arm: dict[str, Any] | None = None,
    parents: tuple[str, ...] = (),
) -> dict[str, Any]:
    rows = points("plain", 100.0) + points("new", 80.0)
    runs = [
        FakeRun(
            p["run"],
            p["seconds"],
            parents if p["arm"] == "new" else (),
            **{"peak_memory": 4e9, **((base if p["arm"] == "plain" else arm) or {})},
        )
        for p in rows
    ]
    return costs_of("plain", rows, rows, ["new"], {"new": verdict}, runs)


TWICE = Verdict("new", "plain", "better", speedup=2.0, low=1.6, high=2.5)


def test_seconds_at_the_quality_of_the_longest_baseline() -> None:
    found = table(TWICE)
    assert found["at"] == {"duration": "2ep", "quality": pytest.approx(0.9)}
    seconds = found["arms"]["new"]["seconds"]
    assert (seconds["value"], seconds["low"], seconds["high"]) == (50.0, 40.0, 62.5)
    assert (seconds["ratio"], seconds["ratio_low"], seconds["ratio_high"]) == (0.5, 0.4, 0.625)
    assert found["arms"]["plain"]["seconds"] == {"value": 100.0}
    assert found["device"] == {"name": "Fast GPU", "devices": 2} and found["currency"] is None


def test_an_open_end_of_the_speed_up_is_an_open_end_of_the_cost() -> None:
    seconds = table(Verdict("new", "plain", "better", low=1.25, high=math.inf))["arms"]["new"]["seconds"]
    assert (seconds["value"], seconds["low"], seconds["high"]) == (None, None, 80.0)
    refused = table(Verdict("new", "plain", "not comparable", reasons=("no",)))["arms"]["new"]
    assert refused["seconds"] is None and refused["money"] is None


def test_money_is_device_hours_times_their_price() -> None:
    result = {"costs": table(TWICE), "kind": "comparison"}
    found = priced(result, Prices("EUR", {"Fast GPU": 3.6}))["costs"]
    # Two devices at 0.001 EUR a second each.
    assert found["currency"] == "EUR" and found["arms"]["plain"]["money"] == {"value": pytest.approx(0.2)}
    money = found["arms"]["new"]["money"]
    assert (money["value"], money["low"], money["high"]) == tuple(map(pytest.approx, (0.1, 0.08, 0.125)))
    assert result["costs"]["currency"] is None, "the result that was given stays as it was"
    json.dumps(found, allow_nan=False)


def test_a_device_without_a_price_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(InvalidValue, match=r"got prices of 'Fast GPV', 'Slow CPU' and a machine with 'Fast GPU'; add"):
        priced({"costs": table(TWICE)}, Prices("EUR", {"Slow CPU": 0.1, "Fast GPV": 2.0}))
    with pytest.raises(InvalidValue, match=r"result of a comparison with its costs, got one without; "):
        priced({"kind": "comparison"}, Prices("EUR", {"Fast GPU": 1.0}))


def test_energy_is_power_times_seconds_at_equal_quality_and_absent_where_no_device_told() -> None:
    plain, new = {"energy_joules": 200.0, "energy_seconds": 2.0}, {"energy_joules": 300.0, "energy_seconds": 2.0}
    found = table(TWICE, base=plain, arm=new)["arms"]
    assert found["plain"]["energy"] == {"value": 10_000.0, "watts": 100.0}
    energy = found["new"]["energy"]
    assert (energy["watts"], energy["value"], energy["ratio"]) == (150.0, 7_500.0, 0.75)
    assert (energy["low"], energy["high"]) == (6_000.0, 9_375.0)
    for absent in (table(TWICE, base=plain), table(TWICE)):
        assert absent["arms"]["new"]["energy"] is None
    assert table(TWICE)["arms"]["plain"]["energy"] is None


def test_memory_is_the_largest_of_the_runs_and_says_whose_it_is() -> None:
    found = table(TWICE, arm={"peak_memory": 6e9, "peak_memory_of": "device"}, base={"peak_memory_of": "device"})[
        "arms"
    ]
    assert found["new"]["memory"] == {"value": 6e9, "of": "device", "ratio": 1.5}
    assert found["plain"]["memory"] == {"value": 4e9, "of": "device"}
    # Runs that do not say it are told by their device; unlike kinds make no ratio.
    mixed = table(TWICE, arm={"peak_memory_of": "process"})["arms"]
    assert mixed["plain"]["memory"]["of"] == "device" and mixed["new"]["memory"] == {
        "value": 4e9,
        "of": "process",
        "ratio": None,
    }
    assert table(TWICE, arm={"peak_memory": 0})["arms"]["new"]["memory"] is None


@pytest.fixture
def stored() -> Any:
    """Earlier runs: `old` was made from `older`, 120 s in all."""
    known = {"old": FakeRun("old", 90.0, ("older",)), "older": FakeRun("older", 30.0)}

    def find(reference: str) -> FakeRun:
        if reference not in known:
            raise UnknownName(f"no run {reference!r}")
        return known[reference]

    token = current_runs.set(find)
    yield known
    current_runs.reset(token)


def test_re_used_runs_are_charged_once_with_what_they_were_made_from(stored: Any) -> None:
    reuse = table(TWICE, parents=("old",))["arms"]["new"]["reuse"]
    assert [run["run"] for run in reuse["runs"]] == ["old", "older"] and reuse["earlier_seconds"] == 120.0
    assert reuse["marginal"] == {"seconds": 50.0, "ratio": 0.5}
    assert reuse["full"] == {"seconds": 170.0, "low": 160.0, "high": 182.5, "ratio": 1.7}
    # A re-use saves 50 s (37.5 to 60), so 120 s pay off with the third one (the third to the fourth).
    assert reuse["break_even"] == {"uses": 3, "low": 3, "high": 4}


def test_an_arm_that_saves_nothing_never_pays_and_an_open_end_stays_open(stored: Any) -> None:
    slower = Verdict("new", "plain", "worse", speedup=0.8, low=0.7, high=0.9)
    assert table(slower, parents=("old",))["arms"]["new"]["reuse"]["break_even"] == {
        "uses": None,
        "low": None,
        "high": None,
    }
    unsure = Verdict("new", "plain", "inconclusive", speedup=2.0, low=0.9, high=4.0)
    assert table(unsure, parents=("old",))["arms"]["new"]["reuse"]["break_even"] == {"uses": 3, "low": 2, "high": None}


def test_an_arm_that_may_cost_nothing_pays_from_what_the_baseline_costs_on(stored: Any) -> None:
    """No upper end of the speed-up: a run may take next to nothing, so that 120 s pay with the second use at best."""
    fast = Verdict("new", "plain", "better", speedup=2.0, low=1.6, high=math.inf)
    assert table(fast, parents=("old",))["arms"]["new"]["reuse"]["break_even"] == {"uses": 3, "low": 2, "high": 4}


def test_money_of_earlier_runs_is_that_of_their_own_devices(stored: Any) -> None:
    stored["older"].facts = {"hardware": {"device": "Slow CPU", "devices": 1}}
    found = priced({"costs": table(TWICE, parents=("old",))}, Prices("EUR", {"Fast GPU": 3.6, "Slow CPU": 36.0}))
    reuse = found["costs"]["arms"]["new"]["reuse"]
    # 90 s on two devices at 0.001 EUR a second each, 30 s at 0.01.
    assert reuse["earlier_money"] == pytest.approx(0.18 + 0.3) and reuse["full"]["money"] == pytest.approx(0.1 + 0.48)
    with pytest.raises(InvalidValue, match="a machine with 'Slow CPU'"):
        priced({"costs": table(TWICE, parents=("old",))}, Prices("EUR", {"Fast GPU": 3.6}))


def test_earlier_runs_that_are_gone_leave_the_full_cost_unknown(stored: Any) -> None:
    reuse = table(TWICE, parents=("old", "gone"))["arms"]["new"]["reuse"]
    assert reuse["full"] is None and reuse["break_even"] is None and "gone" in reuse["reason"]
    assert reuse["marginal"]["ratio"] == 0.5
    assert table(TWICE)["arms"]["new"]["reuse"] is None


@given(st.floats(0.1, 1e4), st.floats(1.0, 1e4), st.floats(0.01, 0.99))
def test_break_even_is_the_first_number_of_uses_that_beats_the_baseline(
    earlier: float, base: float, share: float
) -> None:
    mine = base * share
    uses = break_even(earlier, base, mine)
    assert uses is not None and uses >= 1
    assert earlier / uses + mine < base * (1 + 1e-9)
    assert uses == 1 or earlier / (uses - 1) + mine >= base * (1 - 1e-9)
    assert break_even(earlier, base, base) is None and break_even(0.0, base, mine) == 1


def test_prices_are_read_from_a_file_of_the_users(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("currency: CHF\nper_hour: {Fast GPU: 2.5, Slow CPU: 0}\n")
    prices = read_prices(file)
    assert prices == Prices("CHF", {"Fast GPU": 2.5, "Slow CPU": 0.0}) and prices.of("Slow CPU") == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a file of prices is a mapping with currency and per_hour, got"),
        ("currency: EUR", r"a file of prices is a mapping with currency and per_hour, got currency; "),
        ("currency: 3\nper_hour: {a: 1}", r"a currency is a name, got 3; "),
        ("currency: EUR\nper_hour: {a: -1}", r"a price per hour is a number from 0 up, got -1 for 'a'; "),
        ("currency: EUR\nper_hour: {a: much}", r"got 'much' for 'a'; "),
        ("currency: EUR\nper_hour: {a: .inf}", r"a price per hour is a number from 0 up, got inf"),
        ("currency: EUR\nper_hour: []", r"per_hour is a mapping from a device to its price, got \[\]; "),
        ("currency: EUR\nper_hour: {a: 1}\nrate: 2", r"unknown field of prices 'rate'"),
        ("currency: [", r"a file of prices is YAML, got 'prices.yaml' that does not parse at line 1 "),
    ],
)
def test_files_that_are_no_prices_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises((InvalidValue, UnknownName), match=message):
        read_prices(file)
    with pytest.raises(InvalidValue, match="which does not exist"):
        read_prices(tmp_path / "none.yaml")
