"""What the spread of runs says, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ABOUT = {
    "init": "initial weights",
    "order": "order of the examples",
    "augment": "random views of the task",
    "methods": "draws of the methods",
    "dropout": "dropout of the modules",
    "none": "nothing: every seed fixed",
    "": "everything",
}
"""What varies where one source alone is free."""


class Words:
    """Writes qualities and their spreads: accuracies in per cent and points, other metrics as they are."""

    def __init__(self, metric: str) -> None:
        self._share = metric == "accuracy"

    def value(self, value: float) -> str:
        """A quality."""
        return f"{100 * value:.2f} %" if self._share else f"{value:.4g}"

    def spread(self, value: float) -> str:
        """A difference of two, or a standard deviation."""
        return f"{100 * value:.2f} points" if self._share else f"{value:.3g}"


def statements(result: Mapping[str, Any]) -> list[str]:
    """What was found, one sentence each, without a full stop."""
    task, summary = result["task"], result["summary"]
    words = Words(task["metric"])
    found = [
        f"{summary['n']} runs have {_article(task['metric'])} of {words.value(summary['mean'])} on average (95 %: "
        f"{words.value(summary['low'])} to {words.value(summary['high'])}), from {words.value(summary['smallest'])} to "
        f"{words.value(summary['largest'])}",
        f"they spread by {words.spread(summary['sd'])} (standard deviation; 95 %: {words.spread(summary['sd_low'])} to "
        f"{words.spread(summary['sd_high'])})",
    ]
    if summary["diverged"]:
        found.append(
            f"{summary['diverged']} of {summary['n'] + summary['diverged']} runs diverged, and have no quality"
        )
    if result["test"] is not None:
        found += _luck(result["test"], summary, words)
    if result["agreement"] is not None:
        found += _agreement(result["agreement"], words)
    if result["sources"] is not None:
        found += source_statements(result["sources"], words)
    if result["against"] is not None:
        found += _against(result, words)
    return found


def _article(metric: str) -> str:
    return f"{'an' if metric[:1].lower() in 'aeiou' else 'a'} {metric}"


def _luck(test: Mapping[str, Any], summary: Mapping[str, Any], words: Words) -> list[str]:
    ratio = test["observed_over_predicted"]
    said = f"if together they are calibrated they are predicted to spread by {words.spread(test['predicted_sd'])}"
    inside = summary["sd_low"] <= test["predicted_sd"] <= summary["sd_high"]
    more = "" if ratio is None else f", {ratio:.2f} times that is observed"
    if ratio is not None:
        more += (
            ", which chance allows"
            if inside
            else ", more than chance allows"
            if ratio > 1
            else ", less than chance allows"
        )
    return [
        f"the {test['examples']:,} examples alone leave any one accuracy uncertain by {words.spread(test['floor'])} "
        "(standard deviation, binomial)",
        said + more,
    ]


def _agreement(agreement: Mapping[str, Any], words: Words) -> list[str]:
    found = [
        f"two runs differ on {100 * agreement['churn']:.2f} % of the examples, and all agree on "
        f"{100 * agreement['unanimous']:.1f} %"
    ]
    spread = agreement["spread"]
    if spread is not None:
        found.append(
            f"errors that are independent between runs would spread their accuracies by "
            f"{words.spread(spread['sampling_sd'])}; between the runs themselves, on the whole distribution, "
            f"{words.spread(spread['sd'])} remain (95 %: {words.spread(spread['low'])} to {words.spread(spread['high'])})"
        )
    return found


def source_statements(sources: Mapping[str, Any], words: Words) -> list[str]:
    """What the sources one by one say."""
    parts: Sequence[Mapping[str, Any]] = sources["parts"]
    none, found = sources["none"], []
    if sources["same_bits"]:
        found.append("with every seed fixed the runs are equal bit for bit: the machine itself adds nothing")
    else:
        found.append(
            f"with every seed fixed the runs still spread by {words.spread(none['sd'])}: that is the machine itself"
        )
    known = [part for part in parts if part["share"] is not None]
    if known:
        most = max(known, key=lambda part: part["share"])
        found.append(
            f"alone, most comes from the {ABOUT[most['source']]}: {_share(most['share'])} of the variance with everything free "
            f"(95 %: {_share(most['share_low'])} to {_share(most['share_high'])})"
        )
    left = sources["unexplained"]
    if left["share"] is not None:
        negative = ": they add up to more than the whole" if left["share"] < 0 else ""
        found.append(
            f"the sources one by one leave {_share(left['share'])} of the variance unexplained (95 %: {_share(left['low'])} to "
            f"{_share(left['high'])}){negative}"
        )
    if sources["absent"]:
        found.append(f"this recipe draws nothing from: {', '.join(ABOUT[name] for name in sources['absent'])}")
    return found


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _against(result: Mapping[str, Any], words: Words) -> list[str]:
    other = result["against"]
    better, summary, difference = other["better"], other["summary"], other["difference"]
    reach = (
        "more often than not" if better["low"] > 0.5 else "less often than not" if better["high"] < 0.5 else "undecided"
    )
    lost = summary["diverged"]
    runs = f"{summary['n']} runs" + (
        f"; {lost} more of that diverged and {'takes' if lost == 1 else 'take'} no part" if lost else ""
    )
    return [
        f"a run of these is better than one of {other['title']} (mean {words.value(summary['mean'])}, {runs}) with "
        f"a probability of {better['probability']:.2f} (95 %: {better['low']:.2f} to {better['high']:.2f}; {reach})",
        f"their means differ by {words.spread(difference['mean'])} (95 %: {words.spread(difference['low'])} to "
        f"{words.spread(difference['high'])}); to show a probability of 0.75 takes {other['needed']} runs of each",
    ]
