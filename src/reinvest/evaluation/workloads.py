"""Several comparisons together: a table of verdicts, profiles against the fixed baseline, a mean where one may be taken.

A profile (Dolan and More 2002, doi 10.1007/s101070100263) is here taken against the baseline of the comparisons and not
against the best arm of the pool, so that adding an arm changes nothing for the others. The workload is the unit of the
mean: its interval speaks for workloads like these, and the seeds inside one workload do not enter it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..core.errors import InvalidValue, NotComparable, unknown
from .outcome import plain

SCHEMA = 1
FEWEST = 6
"""Workloads from which on a mean is taken."""
LEVEL = 0.95
NO_CLAIM = "no claim beyond these workloads"

Result = Mapping[str, Any]


def workloads(results: Sequence[Result], *, arms: Sequence[str] | None = None, title: str = "") -> dict[str, Any]:
    """Verdicts of several comparisons (`read_result`) as one result of plain values.

    results: at least 2, each of another workload (task, data and model), with one baseline and the same arms; arms: those
    to take (default: all).

    {"kind": "workloads", "baseline", "workloads": [{"name", "metric", "arms": {arm: {"verdict", "speedup", "low", "high",
    "ratio" (time over the baseline's; an upper bound where "bound"; None where it is a miss), "reason"}}}], "profiles":
    {arm: [[ratio, share of workloads within it]]}, "means": {arm: `geometric_mean`}, "counts": {arm: {verdict: number}}}.

    Raises InvalidValue for fewer than 2, NotComparable for a workload that comes twice, other baselines or other arms.
    """
    if len(results) < 2:
        raise InvalidValue(f"several workloads are at least 2 workloads, got {len(results)}; pass one result for each")
    names = _names(results)
    baseline = _baseline(results, names)
    taken = _arms(results, names, baseline, arms)
    rows = [
        {
            "name": name,
            "title": str(result["title"]),
            "metric": result["task"]["metric"],
            "arms": {arm: _entry(result["arms"][arm]["verdict"]) for arm in taken},
        }
        for name, result in zip(names, results, strict=True)
    ]
    from .. import __version__

    return {
        "schema": SCHEMA,
        "kind": "workloads",
        "title": title or f"{', '.join(taken)} against {baseline} on {len(results)} workloads",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "baseline": baseline,
        "level": LEVEL,
        "workloads": rows,
        "profiles": {arm: [list(step) for step in profile([_ratio(row, arm) for row in rows])] for arm in taken},
        "means": {arm: _mean(rows, arm) for arm in taken},
        "counts": {arm: dict(Counter(row["arms"][arm]["verdict"] for row in rows)) for arm in taken},
    }


def profile(ratios: Sequence[float]) -> list[tuple[float, float]]:
    """Steps (ratio, share of all with at most this ratio), rising; infinite ratios are misses and count in the whole only."""
    finite = sorted({r for r in ratios if math.isfinite(r)})
    return [(r, sum(other <= r for other in ratios) / len(ratios)) for r in finite]


def geometric_mean(speedups: Sequence[float]) -> dict[str, Any]:
    """Geometric mean of finite speed-ups > 0, one a workload, with the t interval on their logs.

    {"speedup", "low", "high", "workloads", "reason"}; fewer than `FEWEST` give None and the reason.
    """
    count = len(speedups)
    if count < FEWEST:
        reason = f"{NO_CLAIM}: a mean needs at least {FEWEST} workloads, here are {count}"
        return {"speedup": None, "low": None, "high": None, "workloads": count, "reason": reason}
    from scipy.special import stdtrit

    logs = [math.log(s) for s in speedups]
    centre = math.fsum(logs) / count
    variance = math.fsum((v - centre) ** 2 for v in logs) / (count - 1)
    half = float(stdtrit(count - 1, 0.5 + 0.5 * LEVEL)) * math.sqrt(variance / count)
    ends = {"speedup": math.exp(centre), "low": math.exp(centre - half), "high": math.exp(centre + half)}
    return {**ends, "workloads": count, "reason": ""}


def _mean(rows: Sequence[Mapping[str, Any]], arm: str) -> dict[str, Any]:
    missing = [row["name"] for row in rows if row["arms"][arm]["speedup"] is None]
    if missing:
        reason = f"{NO_CLAIM}: a mean needs a finite speed-up everywhere, {', '.join(missing)} gave none"
        return {"speedup": None, "low": None, "high": None, "workloads": len(rows), "reason": reason}
    return geometric_mean([row["arms"][arm]["speedup"] for row in rows])


def _entry(judged: Mapping[str, Any]) -> dict[str, Any]:
    """One verdict; the time ratio is the inverse speed-up, or what a bound leaves of it."""
    word = str(judged["verdict"])
    refused = word == "not comparable"
    speedup, low, high = (None if refused else plain(judged[k]) for k in ("speedup", "low", "high"))
    bound = speedup is None and low is not None and low > 0.0
    best = low if bound else speedup
    reason = "; ".join(judged["reasons"]) if refused or speedup is None else ""
    return {
        "verdict": word,
        "speedup": speedup,
        "low": low,
        "high": high,
        "ratio": 1.0 / best if best else None,
        "bound": bound,
        "reason": reason,
    }


def _ratio(row: Mapping[str, Any], arm: str) -> float:
    value = row["arms"][arm]["ratio"]
    return math.inf if value is None else float(value)


# ---- what may stand together -------------------------------------------------------------------------------------------


def _recipe(result: Result, arm: str) -> Mapping[str, Any]:
    return result["arms"][arm].get("recipe") or {}


def _names(results: Sequence[Result]) -> list[str]:
    """A name for each workload: its task, with the model where a task comes with several. Refuses the same one twice."""
    tasks = [str(result["task"]["name"]) for result in results]
    keys, names = [], []
    for task, result in zip(tasks, results, strict=True):
        recipe = _recipe(result, str(result["baseline"]))
        # Points of other trainers have a file's name and no more, so what they hold tells them apart.
        content = result["task"].get("fingerprint") or str([arm.get("points") for arm in result["arms"].values()])
        keys.append((task, content, str(recipe.get("task")), str(recipe.get("model"))))
        model = (recipe.get("model") or {}).get("name")
        names.append(f"{task}, {model}" if tasks.count(task) > 1 and model else task)
    for key, name in zip(keys, names, strict=True):
        if keys.count(key) > 1:
            raise NotComparable(f"results are of each workload once, got {name!r} twice; leave one of them out")
    return [f"{n} ({names[:k].count(n) + 1})" if names.count(n) > 1 else n for k, n in enumerate(names)]


def _baseline(results: Sequence[Result], names: Sequence[str]) -> str:
    said = {str(result["baseline"]): name for result, name in zip(results, names, strict=True)}
    if len(said) > 1:
        shown = ", ".join(f"{baseline!r} in {name}" for baseline, name in said.items())
        raise NotComparable(f"workloads are taken together under one baseline, got {shown}; compare with one baseline")
    baseline = next(iter(said))
    _same_methods(results, names, baseline)
    return baseline


def _arms(results: Sequence[Result], names: Sequence[str], baseline: str, asked: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(arm for result in results for arm in result["arms"] if arm != baseline))
    for arm in asked or ():
        if arm not in known:
            raise unknown("arm", arm, known)
    taken = list(asked or known)
    for arm in taken:
        for result, name in zip(results, names, strict=True):
            if arm not in result["arms"]:
                common = [a for a in known if all(a in r["arms"] for r in results)]
                rest = f"take those that all have with --arms {','.join(common)}" if common else "compare it there too"
                raise NotComparable(f"every workload has the same arms, got {name} that lacks {arm!r}; {rest}")
        _same_methods(results, names, arm)
    return taken


def _same_methods(results: Sequence[Result], names: Sequence[str], arm: str) -> None:
    """An arm is one thing everywhere: the names of its methods agree (their arguments may be set for each workload)."""
    said: dict[str, str] = {}
    for result, name in zip(results, names, strict=True):
        recipe = _recipe(result, arm) if arm in result["arms"] else {}
        if recipe:
            said.setdefault(", ".join(m["name"] for m in recipe.get("methods") or []) or "no methods", name)
    if len(said) > 1:
        shown = " and ".join(f"{methods} in {name}" for methods, name in said.items())
        raise NotComparable(f"an arm is the same everywhere, got {arm!r} with {shown}; give unlike arms unlike names")
