"""Cost at equal quality besides seconds: money, energy, peak memory, and what runs cost that an arm re-uses.

{"at": {"duration", "quality"}, "device": {"name", "devices"}, "currency", "arms": {name: {"seconds", "money", "energy",
"memory", "reuse"}}}: the baseline's row says what its longest runs used, an arm's what the same quality would take, by its
speed-up over the whole range; "low" and "high" are ends of the 95 % interval, None where open or not known. FLOPs are no
axis: they say nothing of what a device makes of them.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InvalidValue, ReinvestError, unknown
from ..core.protocols import find_run
from .outcome import Verdict

__all__ = ["Prices", "break_even", "costs_of", "priced", "read_prices"]

FINISHED = "finished"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Prices:
    """What an hour on a device costs, in one currency. per_hour: by the device's name as runs keep it, 0 or more."""

    currency: str
    per_hour: Mapping[str, float]

    def of(self, device: str) -> float:
        """The price of an hour on a device. Raises InvalidValue for a device that has none."""
        if device not in self.per_hour:
            raise InvalidValue(
                f"money needs a price for the device that the runs are made on, got prices of "
                f"{', '.join(map(repr, sorted(self.per_hour))) or 'none'} and a machine with {device!r}; add a line {device!r} under "
                "per_hour"
            )
        return self.per_hour[device]


def read_prices(path: str | Path) -> Prices:
    """Prices from a YAML file: {currency: EUR, per_hour: {device name: price}}.

    Raises InvalidValue for a file that is absent or not of that form, UnknownName for other fields.
    """
    from ..core.yaml_numbers import read_mapping

    known, example = ("currency", "per_hour"), "write 'currency: EUR' and 'per_hour: {device name: 1.5}'"
    given = read_mapping(path, "a file of prices", holds="currency and per_hour", remedy=example)
    for name in given:
        if name not in known:
            raise unknown("field of prices", name, known)
    if len(given) < len(known):
        raise InvalidValue(
            f"a file of prices is a mapping with currency and per_hour, got {', '.join(given) or 'nothing'}; {example}"
        )
    if not isinstance(given["currency"], str):
        raise InvalidValue(f"a currency is a name, got {given['currency']!r}; {example}")
    if not isinstance(given["per_hour"], Mapping):
        raise InvalidValue(f"per_hour is a mapping from a device to its price, got {given['per_hour']!r}; {example}")
    return Prices(given["currency"], {str(d): _price(str(d), value) for d, value in given["per_hour"].items()})


def _price(device: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise InvalidValue(
            f"a price per hour is a number from 0 up, got {value!r} for {device!r}; write for example 1.5"
        )
    return float(value)


def break_even(earlier: float, baseline: float, marginal: float) -> int | None:
    """The smallest number of re-uses k at which marginal + earlier / k < baseline; None if re-use saves nothing.

    All in one unit. earlier: what is re-used, paid once; marginal: a run that re-uses it; baseline: one that does not.
    """
    saved = baseline - marginal
    return math.floor(earlier / saved) + 1 if saved > 0 else None


def costs_of(
    baseline: str,
    points: Rows,
    own_clock: Rows,
    timed: Sequence[str],
    verdicts: Mapping[str, Verdict],
    runs: Sequence[Any],
) -> dict[str, Any] | None:
    """The costs of a comparison, without money (see `priced`); None if the baseline has no finished run.

    points, own_clock: with the seconds of the timing block, and of the runs themselves; timed: arms judged by the first.
    runs: those of the points; earlier runs that they re-use are looked up in the store in use.
    """
    known = {str(run.id): run for run in runs if run is not None}
    used = {name: _finished(points, name, known) for name in (baseline, *verdicts)}
    at = _longest(points, baseline)
    if at is None:
        return None
    hardware: dict[str, Any] = next((run.facts.get("hardware", {}) for run in used[baseline]), {})
    clocks = {True: _longest(points, baseline), False: _longest(own_clock, baseline)}
    own = _Used(used[baseline])
    whole = clocks[bool(timed)] or at
    arms: dict[str, Any] = {
        baseline: {
            "seconds": {"value": whole.seconds},
            "money": None,
            "energy": None if own.watts is None else {"value": own.watts * whole.seconds, "watts": own.watts},
            "memory": own.memory,
            "reuse": None,
        }
    }
    shared = {name for run in used[baseline] for name in _earlier_of(run)[0]}
    for name, verdict in verdicts.items():
        reference = clocks[name in timed]
        arms[name] = _arm(verdict, (reference or at).seconds, own, _Used(used[name]), shared)
    return {
        "at": {"duration": at.duration, "quality": at.quality},
        "device": {"name": hardware.get("device"), "devices": hardware.get("devices") or 1},
        "currency": None,
        "arms": arms,
    }


@dataclass(frozen=True)
class _Longest:
    duration: str
    seconds: float
    quality: float


def _longest(points: Rows, arm: str) -> _Longest | None:
    """The cell of an arm's longest runs: means over those that finished."""
    cells: dict[str, list[tuple[float, float]]] = {}
    for p in points:
        if p["arm"] == arm and p["status"] == FINISHED and math.isfinite(p["seconds"]) and math.isfinite(p["quality"]):
            cells.setdefault(str(p["duration"]), []).append((p["seconds"], p["quality"]))
    means = [
        _Longest(d, statistics.fmean(s for s, _ in rows), statistics.fmean(q for _, q in rows))
        for d, rows in cells.items()
    ]
    return max(means, key=lambda cell: cell.seconds, default=None)


def _finished(points: Rows, arm: str, known: Mapping[str, Any]) -> list[Any]:
    names = [str(p.get("run")) for p in points if p["arm"] == arm and p["status"] == FINISHED]
    return [known[name] for name in names if name in known]


class _Used:
    """What finished runs used: power in watts (None unless every one has it), and the peak memory of the largest."""

    def __init__(self, runs: Sequence[Any]) -> None:
        self.runs = list(runs)
        costs = [run.cost for run in runs]
        measured = [(c["energy_joules"], c["energy_seconds"]) for c in costs if c.get("energy_seconds")]
        whole = len(measured) == len(costs) and bool(measured)
        self.watts = sum(j for j, _ in measured) / sum(s for _, s in measured) if whole else None
        self.memory = self._memory(
            [(int(c["peak_memory"]), r) for c, r in zip(costs, runs, strict=True) if c.get("peak_memory")]
        )

    @staticmethod
    def _memory(found: list[tuple[int, Any]]) -> dict[str, Any] | None:
        if not found:
            return None
        size, run = max(found, key=lambda one: one[0])
        kind = "device" if run.facts.get("hardware", {}).get("kind") == "cuda" else "process"
        return {"value": size, "of": run.cost.get("peak_memory_of", kind)}


def _arm(verdict: Verdict, base: float, theirs: _Used, own: _Used, shared: set[str]) -> dict[str, Any]:
    """The row of an arm; base: seconds of the baseline's longest runs on the clock of this verdict."""
    seconds = _seconds(verdict, base)
    energy = None
    if seconds is not None and theirs.watts is not None and own.watts is not None:
        energy = {"watts": own.watts, **_times(seconds, own.watts)}
        energy["ratio"] = None if energy["value"] is None else energy["value"] / (theirs.watts * base)
    memory = own.memory
    if memory is not None:
        alike = theirs.memory is not None and theirs.memory["of"] == memory["of"]
        memory = {**memory, "ratio": memory["value"] / theirs.memory["value"] if alike and theirs.memory else None}
    return {
        "seconds": seconds,
        "money": None,
        "energy": energy,
        "memory": memory,
        "reuse": _reuse(own.runs, base, seconds, shared),
    }


def _seconds(verdict: Verdict, base: float) -> dict[str, Any] | None:
    if verdict.verdict == "not comparable":
        return None

    def ratio(speedup: float) -> float | None:
        return 1.0 / speedup if math.isfinite(speedup) and speedup > 0 else None

    ratios = {"ratio": ratio(verdict.speedup), "ratio_low": ratio(verdict.high), "ratio_high": ratio(verdict.low)}
    values = {name: None if share is None else base * share for name, share in ratios.items()}
    return {"value": values["ratio"], "low": values["ratio_low"], "high": values["ratio_high"], **ratios}


def _times(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The estimate and the ends of an interval, each times a factor."""
    return {name: None if values.get(name) is None else values[name] * factor for name in ("value", "low", "high")}


# ---- re-use --------------------------------------------------------------------------------------------------------


def _earlier_of(run: Any) -> tuple[dict[str, Any], list[str]]:
    """Runs that a run was made from, and those from which they were, by id; ids of which nothing is known."""
    found: dict[str, Any] = {}
    lost: list[str] = []
    waiting = list(_made_from(run))
    while waiting:
        name = waiting.pop(0)
        if name in found or name in lost:
            continue
        try:
            found[name] = find_run(name, "the full cost of re-use")
        except ReinvestError:
            lost.append(name)
            continue
        waiting += _made_from(found[name])
    return found, lost


def _made_from(run: Any) -> Iterator[str]:
    """A branch of a longer run is a point of its own recipe, and re-uses only what its methods do."""
    parents = getattr(run, "parents", ())
    if "branch" in run.facts:
        parents = [one["run"] for one in run.reuse]
    yield from map(str, parents)


def _reuse(
    runs: Sequence[Any], base: float, seconds: Mapping[str, Any] | None, shared: set[str]
) -> dict[str, Any] | None:
    """Marginal, full and break-even of an arm that re-uses earlier runs (but those that the baseline shares); None else."""
    totals: list[float] = []
    listed: dict[str, Any] = {}
    lost: list[str] = []
    for run in runs:
        found, gone = _earlier_of(run)
        own = {name: one for name, one in found.items() if name not in shared}
        totals.append(sum(float(one.seconds or 0.0) for one in own.values()))
        listed |= own
        lost += [name for name in gone if name not in lost and name not in shared]
        lost += [name for name, one in own.items() if one.seconds is None and name not in lost]
    if not listed and not lost:
        return None
    entry: dict[str, Any] = {
        "runs": [_earlier_entry(name, one) for name, one in listed.items()],
        "earlier_seconds": None if lost else statistics.fmean(totals),
        "earlier_money": None,
        "marginal": None if seconds is None else {"seconds": seconds["value"], "ratio": seconds["ratio"]},
        "full": None,
        "break_even": None,
        "reason": f"the cost of these earlier runs is not known: {', '.join(lost)}" if lost else "",
    }
    if seconds is None or lost:
        return entry
    earlier = entry["earlier_seconds"]
    full = {name: None if seconds[name] is None else seconds[name] + earlier for name in ("value", "low", "high")}
    entry["full"] = {
        "seconds": full["value"],
        "low": full["low"],
        "high": full["high"],
        "ratio": None if full["value"] is None else full["value"] / base,
    }
    # A speed-up without an upper end may leave a run that costs nothing: no fewer re-uses than then can pay.
    ends = {"uses": seconds["value"], "low": seconds["low"] or 0.0, "high": seconds["high"]}
    entry["break_even"] = {k: None if v is None else break_even(earlier, base, v) for k, v in ends.items()}
    return entry


def _earlier_entry(name: str, run: Any) -> dict[str, Any]:
    hardware = run.facts.get("hardware", {})
    return {
        "run": name,
        "seconds": None if run.seconds is None else float(run.seconds),
        "device": hardware.get("device"),
        "devices": hardware.get("devices") or 1,
    }


# ---- money ---------------------------------------------------------------------------------------------------------


def priced(result: Mapping[str, Any], prices: Prices) -> dict[str, Any]:
    """A copy of a comparison's result with money in its costs: seconds times devices times the price of the device.

    Raises UnknownName for a device without a price, of an earlier run too, and InvalidValue for a result without costs.
    """
    if not result.get("costs"):
        raise InvalidValue("prices are put on the result of a comparison with its costs, got one without; run it again")
    made = copy.deepcopy(dict(result))
    costs = made["costs"]
    costs["currency"] = prices.currency
    rate = _rate(costs["device"], "name", prices)
    for entry in costs["arms"].values():
        seconds, reuse = entry["seconds"], entry["reuse"]
        if seconds is not None:
            money = _times(seconds, rate)
            entry["money"] = money if "low" in seconds else {"value": money["value"]}
        if reuse is not None and reuse["full"] is not None:
            share = reuse["earlier_seconds"] / (sum(one["seconds"] for one in reuse["runs"]) or 1.0)
            earlier = share * sum(one["seconds"] * _rate(one, "device", prices) for one in reuse["runs"])
            reuse["earlier_money"] = earlier
            reuse["full"]["money"] = None if entry["money"]["value"] is None else entry["money"]["value"] + earlier
    return made


def _rate(entry: Mapping[str, Any], name: str, prices: Prices) -> float:
    """The price of a second on all devices of a run."""
    return prices.of(str(entry[name])) * int(entry["devices"]) / 3600
