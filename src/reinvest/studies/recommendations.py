"""The recommendations: which re-use for which situation, written from stored sequence studies and nothing else.

Every figure on the page is read from a study's file; the same files give the same page, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..evaluation.outcome import ratio_text
from .evidence import Evidence, evidence_of
from .policies import POLICIES
from .sequence_plan import SETTINGS

Study = tuple[str, Mapping[str, Any]]
"""(file name, result of a sequence study)."""

HEAD = """# Which re-use for which situation

Written by `reinvest recommend` from stored sequence studies; every figure below is read from their files. A **sequence**
is a chain of related runs; an **arm** trains all runs but the first with one kind of re-use, and is compared with the same
chain **from scratch**. *Speed-up* is scratch's seconds over the arm's at equal mean quality of the whole sequence, first
run included, with everything charged (steps, teachers, scoring, loading); its interval is that of the study (95 % unless
its file says otherwise), *open* where it has no bound. *Total time* is 1 / speed-up.
"""
NONE = (
    "No sequence study is stored yet, so nothing is recommended: run `reinvest sequence study.yaml`, then this again."
)
SITUATIONS = {
    "no new data": "same data, settings or seeds change",
    "new data": "data are added",
    "new classes": "classes are added",
}


def recommendations(studies: Sequence[Study]) -> str:
    """The page as Markdown text. studies: as `evidence.read_studies` returns them, in any order."""
    ordered = sorted(studies, key=lambda s: (_place(s[1]["setting"]), s[1]["task"], str(s[1].get("title")), s[0]))
    rows = [(name, result, evidence_of(name, result)) for name, result in ordered]
    parts = [HEAD]
    if not rows:
        parts.append(f"{NONE}\n")
    else:
        every = [row for _, _, found in rows for row in found]
        parts += [_glance(every), _words(every)]
        parts.append("## The studies\n")
        parts += [_study(name, result) for name, result, _ in rows]
        parts.append(_failures(rows))
    parts.append(_untested([row for _, _, found in rows for row in found]))
    return "\n".join(parts)


def _place(setting: str) -> int:
    """A setting that a later version has comes last."""
    return SETTINGS.index(setting) if setting in SETTINGS else len(SETTINGS)


# ---- at a glance -----------------------------------------------------------------------------------------------------


def situation_of(row: Evidence) -> str:
    """The situation of a study in words."""
    model = "one model" if row.same_model else "the model changes"
    return f"{row.setting} ({SITUATIONS.get(row.setting, row.setting)}), {row.task}, {row.model}, {model}"


def policy_of(row: Evidence) -> str:
    """A policy with its options, as a study file has them."""
    more = ", ".join(f"{k} {_plain(v)}" for k, v in sorted(row.options.items()))
    return f"{row.policy} ({more})" if more else row.policy


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " to ".join(map(_plain, value)) if isinstance(value, (list, tuple)) else str(value)


def _glance(rows: Sequence[Evidence]) -> str:
    lines = [
        "## At a glance",
        "",
        _row("situation", "re-use", "speed-up", "total time", "verdict", "sequences", "file"),
    ]
    lines.append(_row(*["---"] * 7))
    for row in sorted(rows, key=_order):
        lines.append(
            _row(
                situation_of(row),
                policy_of(row),
                _ratio(row.speedup, row.low, row.high),
                _inverse(row),
                row.verdict or "none: too few durations",
                f"{row.sequences} of {row.length} runs",
                row.source,
            )
        )
    return "\n".join([*lines, ""])


def _order(row: Evidence) -> tuple[Any, ...]:
    return (
        _place(row.setting),
        row.task,
        row.model,
        not row.same_model,
        -(row.speedup or 0.0),
        policy_of(row),
        row.source,
    )


def _words(rows: Sequence[Evidence]) -> str:
    """One sentence a situation: what is shown to help."""
    lines = ["What is shown, situation by situation (shown: the whole interval lies above 1):", ""]
    by_situation: dict[str, list[Evidence]] = {}
    for row in sorted(rows, key=_order):
        by_situation.setdefault(situation_of(row), []).append(row)
    for situation, found in by_situation.items():
        good = [row for row in found if row.helps]
        if good:
            said = "; ".join(f"**{policy_of(r)}**, {_ratio(r.speedup, r.low, r.high)} times as fast" for r in good)
        elif all(row.verdict is None for row in found):
            said = "no verdict about time: too few durations, see the differences below"
        else:
            said = "nothing is shown to save time: train from scratch, or study more sequences"
        lines.append(f"- {situation}: {said}.")
    return "\n".join([*lines, ""])


# ---- one study -------------------------------------------------------------------------------------------------------


def _study(name: str, result: Mapping[str, Any]) -> str:
    metric = result["metric"]
    arrow = "higher is better" if metric["higher_is_better"] else "lower is better"
    lines = [
        f"### {result.get('title') or name}",
        "",
        f"`{name}`, made with version {result.get('version', 'unknown')}. Setting: {result['setting']}; task "
        f"{result['task']}, model {result['model']}{'' if result['same_model'] else ' (it changes along the sequence)'}; "
        f"{result['length']} runs in a sequence, {result['sequences']} sequences, durations "
        f"{', '.join(map(str, result.get('durations') or []))}; metric {metric['name']} ({arrow}).",
        "",
        *_plan(result),
        *_arms(result),
        *_positions(result),
        *_differences(result),
    ]
    if result.get("flags"):
        lines += ["To be read with:", "", *(f"- {flag}" for flag in result["flags"]), ""]
    return "\n".join(lines)


def _plan(result: Mapping[str, Any]) -> list[str]:
    places = (result.get("plan") or {}).get("positions")
    if not isinstance(places, list) or not any(places):
        return ["Positions: equal but for the seed.", ""]
    return [
        "Positions, and how each differs from the base recipe:",
        "",
        *(f"{k}. {_change(p)}" for k, p in enumerate(places, 1)),
        "",
    ]


def _change(change: Any) -> str:
    if not isinstance(change, Mapping) or not change:
        return "as the base"
    parts = []
    for name, value in change.items():
        inner = ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) if isinstance(value, Mapping) else _plain(value)
        parts.append(f"{name}: {inner}")
    return "; ".join(parts)


def _arms(result: Mapping[str, Any]) -> list[str]:
    lines = [
        _row("arm", "verdict", "speed-up", "total time", "drift over the hand-overs", "teachers pay after"),
        _row(*["---"] * 6),
    ]
    for name, arm in result["arms"].items():
        if name == result["baseline"]:
            continue
        low, high = arm.get("interval") or (None, None)
        times = arm.get("relative_time_interval") or (None, None)
        lines.append(
            _row(
                name,
                arm.get("verdict") or "none",
                _ratio(arm.get("speedup"), low, high),
                _ratio(arm.get("relative_time"), *times),
                _drift(arm.get("drift")),
                _break_even(arm.get("break_even")),
            )
        )
    return [*lines, ""]


def _drift(drift: Mapping[str, Any] | None) -> str:
    if not drift:
        return "not known"
    slope = drift.get("slope")
    ends = (
        f", {_signed(slope)} a run ({_signed(drift.get('low'))} to {_signed(drift.get('high'))})"
        if slope is not None
        else ""
    )
    return f"{drift.get('verdict', 'not known')}{ends}"


def _break_even(entry: Mapping[str, Any] | None) -> str:
    if not entry:
        return "-"
    count = entry.get("sequences")
    return "never shown" if count is None else f"{count} sequences"


def _positions(result: Mapping[str, Any]) -> list[str]:
    """Quality by position at the longest duration: that of scratch, and each arm's gain over it."""
    cells = result.get("positions") or []
    durations = list(result.get("durations") or [])
    if not cells or not durations:
        return []
    longest = durations[-1]
    found = {(c["arm"], c["position"]): c for c in cells if c["duration"] == longest}
    places = sorted({place for _, place in found})
    lines = [f"Quality by position at {longest} (for arms the gain over {result['baseline']}, positive is better):", ""]
    lines += [_row("arm", *(f"run {k}" for k in places)), _row(*["---"] * (1 + len(places)))]
    for name in result["arms"]:
        values = []
        for place in places:
            cell = found.get((name, place))
            if cell is None:
                values.append("-")
            elif name == result["baseline"]:
                values.append(_interval(cell.get("quality"), cell.get("quality_low"), cell.get("quality_high")))
            else:
                values.append(_gain(cell))
        lines.append(_row(name, *values))
    return [*lines, ""]


def _differences(result: Mapping[str, Any]) -> list[str]:
    cells = result.get("at_durations") or []
    if not cells:
        return []
    lines = [
        "Whole sequences at equal duration: quality gained (positive is better) and cost as a ratio to scratch:",
        "",
    ]
    lines += [_row("arm", "duration", "gain", "cost"), _row(*["---"] * 4)]
    for cell in cells:
        cost = _ratio(cell.get("cost_ratio"), cell.get("cost_low"), cell.get("cost_high"))
        lines.append(_row(cell["arm"], cell["duration"], _gain(cell), cost))
    return [*lines, ""]


# ---- what failed, what is missing --------------------------------------------------------------------------------------


def _failures(rows: Iterable[tuple[str, Mapping[str, Any], Sequence[Evidence]]]) -> str:
    """Arms without a shown saving, durations at which quality was lost, and drift downwards."""
    lines = ["## What did not help", ""]
    before = len(lines)
    for name, result, found in rows:
        judged = [one for one in result["arms"] if one != result["baseline"]]
        for arm, row in zip(judged, found, strict=True):
            entry = result["arms"][arm]
            where = f"{situation_of(row)} (`{name}`, arm {arm})"
            if row.verdict is not None and not row.helps:
                lines.append(
                    f"- {policy_of(row)}: {row.verdict}, speed-up {_ratio(row.speedup, row.low, row.high)}; {where}."
                )
            drift = entry.get("drift") or {}
            if drift.get("verdict") == "falls":
                lines.append(f"- {policy_of(row)}: quality {_drift(drift)}; {where}.")
            for cell in result.get("at_durations") or []:
                if cell["arm"] == arm and cell.get("gain_high") is not None and cell["gain_high"] < 0:
                    lines.append(f"- {policy_of(row)}: quality lost at {cell['duration']}, {_gain(cell)}; {where}.")
    if len(lines) == before:
        lines.append(
            "Nothing in the stored studies: every arm with a verdict is shown to save time, and none lost quality."
        )
    return "\n".join([*lines, ""])


def _untested(rows: Sequence[Evidence]) -> str:
    """Policies without a stored verdict, setting by setting."""
    lines = ["## What was not tested", ""]
    for setting in SETTINGS:
        here = [row for row in rows if row.setting == setting]
        judged = {row.policy for row in here if row.verdict is not None}
        left = [name for name in POLICIES if name not in judged and name not in ("scratch", "advise")]
        lines.append(f"- {setting}: no verdict about {', '.join(left) if left else 'nothing, all policies have one'}.")
        if here:
            models = sorted({"one model" if row.same_model else "a model that changes" for row in here})
            tasks = ", ".join(sorted({row.task for row in here}))
            lines.append(f"  Studied on {tasks}, with {' and with '.join(models)}; other tasks and models were not.")
    return "\n".join([*lines, ""])


# ---- figures -----------------------------------------------------------------------------------------------------------


def _row(*cells: str) -> str:
    return f"| {' | '.join(str(c).replace('|', '/') for c in cells)} |"


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _ratio(value: Any, low: Any, high: Any) -> str:
    if not _known(value):
        return "-"
    ends = [ratio_text(end) if _known(end) else "open" for end in (low, high)]
    return f"{ratio_text(value)} ({ends[0]} to {ends[1]})"


def _inverse(row: Evidence) -> str:
    if row.speedup is None:
        return "-"
    return _ratio(1 / row.speedup, None if not row.high else 1 / row.high, None if not row.low else 1 / row.low)


def _interval(value: Any, low: Any, high: Any) -> str:
    if not _known(value):
        return "-"
    ends = [f"{end:.4g}" if _known(end) else "open" for end in (low, high)]
    return f"{value:.4g} ({ends[0]} to {ends[1]})"


def _signed(value: Any) -> str:
    return f"{value:+.3g}" if _known(value) else "open"


def _gain(cell: Mapping[str, Any]) -> str:
    if not _known(cell.get("gain")):
        return "-"
    return f"{_signed(cell['gain'])} ({_signed(cell.get('gain_low'))} to {_signed(cell.get('gain_high'))})"
