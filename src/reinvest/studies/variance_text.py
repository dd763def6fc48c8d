"""What the spread of runs says, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.settings import is_accuracy
from ..evaluation.variance_ratio import COMPARED_FROM, MOST_RUNS

ABOUT = {
    "init": "initial weights",
    "order": "order of the examples",
    "augment": "random views of the task",
    "methods": "draws of the methods",
    "dropout": "dropout of the modules",
    "none": "nothing: every seed held",
    "": "everything",
}
"""What varies where one source alone is free."""


class Words:
    """Writes qualities and their spreads with their unit: accuracies in per cent and points, other metrics as they are."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._share = is_accuracy(metric)

    def value(self, value: float) -> str:
        """A quality."""
        return f"{100 * value:.2f} %" if self._share else f"{value:.4g}"

    def spread(self, value: float) -> str:
        """A difference of two, or a standard deviation."""
        return f"{self._bare(value)} points" if self._share else self._bare(value)

    def between(self, low: float, high: float) -> str:
        """An interval of a spread."""
        return f"{self._bare(low)} to {self.spread(high)}"

    def _bare(self, value: float) -> str:
        return f"{100 * value:.2f}" if self._share else f"{value:.3g}"


def statements(result: Mapping[str, Any]) -> list[str]:
    """What was found, one sentence each, without a full stop; what was asked for first."""
    task, summary = result["task"], result["summary"]
    words = Words(task["metric"])
    points = " (points are percentage points)" if is_accuracy(task["metric"]) else ""
    found = [
        f"{summary['n']} runs that differ in their seed have {_article(task['metric'])} of {words.value(summary['mean'])} on "
        f"average (95 % interval of the mean: {words.value(summary['low'])} to {words.value(summary['high'])}); the lowest has "
        f"{words.value(summary['smallest'])}, the highest {words.value(summary['largest'])}",
        f"from run to run it varies by {words.spread(summary['sd'])}: that is the standard deviation, with a 95 % interval of "
        f"{words.between(summary['sd_low'], summary['sd_high'])}{points}",
    ]
    if summary["diverged"]:
        found.append(
            f"{summary['diverged']} of {summary['n'] + summary['diverged']} runs diverged, and have no quality"
        )
    if result["sources"] is not None:
        found += source_statements(result["sources"], words)
    if result["test"] is not None:
        found += _luck(result["test"], summary, task["split"], words)
    if result["agreement"] is not None:
        found += _agreement(result["agreement"], summary["n"], words)
    return [*([] if result["against"] is None else _against(result, words)), *found]


def _article(metric: str) -> str:
    return f"{'an' if metric[:1].lower() in 'aeiou' else 'a'} {metric}"


def _luck(test: Mapping[str, Any], summary: Mapping[str, Any], split: str, words: Words) -> list[str]:
    from .outcome_runs import ADVISED  # which loads torch, and pages need no more than ABOUT

    found = [
        f"the {split} split has {test['examples']:,} examples, so any one accuracy is off by about {words.spread(test['floor'])} from "
        "the one on all possible examples (binomial standard deviation), however many runs there are"
    ]
    predicted, ratio = test["predicted_sd"], test["observed_over_predicted"]
    if ratio is None:
        return found
    seen = f"observed are {words.spread(summary['sd'])}, {ratio:.2f} times as much"
    if summary["n"] < ADVISED:
        end = f"; {summary['n']} runs are too few to say more ({ADVISED} or more are advised)"
    elif summary["sd_low"] <= predicted <= summary["sd_high"]:
        end = ", which chance allows: luck with the examples is enough to explain it"
    elif ratio > 1:
        end = ", more than chance allows: some runs would be better than others on new examples too"
    else:
        end = ", less than chance allows: the runs make the same errors too often for that prediction"
    return [
        *found,
        f"equally good runs would vary by {words.spread(predicted)} by luck with these examples (predicted for runs that are "
        f"calibrated together); {seen}{end}",
    ]


def _agreement(agreement: Mapping[str, Any], runs: int, words: Words) -> list[str]:
    found = [
        f"two runs give different answers on {100 * agreement['churn']:.2f} % of the examples (churn), and all {runs} the same "
        f"on {100 * agreement['unanimous']:.1f} %"
    ]
    spread = agreement["spread"]
    if spread is not None:
        nothing = ", so perhaps by nothing" if spread["low"] == 0 else ""
        found.append(
            f"luck with these examples alone would make them vary by {words.spread(spread['sampling_sd'])} if they err independently "
            f"of each other; less that, on endlessly many examples, they would vary by {words.spread(spread['sd'])} (95 % interval "
            f"{words.between(spread['low'], spread['high'])}{nothing}; squares of standard deviations add up)"
        )
    return found


# ---- sources -------------------------------------------------------------------------------------------------------


def source_statements(sources: Mapping[str, Any], words: Words) -> list[str]:
    """What the sources one by one say."""
    none = sources["none"]
    if sources["same_bits"]:
        found = [f"with every seed held, {none['runs']} runs are equal bit for bit: the machine itself adds nothing"]
    else:
        found = [
            f"with every seed held, {none['runs']} runs still vary by {words.spread(none['sd'])} (standard deviation): that is the "
            "machine itself"
        ]
    found += _larger(sources, words) + _together(sources)
    if sources["absent"]:
        found.append(f"this recipe draws nothing from: {', '.join(ABOUT[name] for name in sources['absent'])}")
    if sources["left"]:
        found.append(f"the plan does not look at: {', '.join(ABOUT[name] for name in sources['left'])}")
    return found


def _larger(sources: Mapping[str, Any], words: Words) -> list[str]:
    """Which source makes runs vary more, as far as the intervals say so."""
    compared = sources["compared"]
    pairs: Sequence[Mapping[str, Any]] = compared["pairs"]
    if not pairs:
        return []
    if compared["runs"] < COMPARED_FROM:
        return [
            f"which source makes runs vary more cannot be said of {compared['runs']} runs each; about {compared['twice']} runs each "
            "tell a source that makes them vary twice as much as another (in 4 of 5 studies)"
        ]
    sds = {part["source"]: part["sd"] for part in (*sources["parts"], sources["none"])}
    named = {name: f"{_source(name)} ({words.spread(sd)})" for name, sd in sds.items()}
    still = [pair for pair in pairs if sds[pair["first"]] == sds[pair["second"]] == 0]
    unsure = [pair for pair in pairs if not pair["larger"] and pair not in still]
    told = [pair for pair in pairs if pair["larger"]]
    found = []
    for larger in dict.fromkeys(pair["larger"] for pair in told):
        than = [
            f"with {named[pair['second']]}, {_ratio(pair, len(pairs))}" for pair in told if pair["larger"] == larger
        ]
        found.append(f"runs vary more with {named[larger]} than {'; than '.join(than)}")
    found += [
        f"the {words.metric} varies neither with {_source(pair['first'])} nor with {_source(pair['second'])}"
        for pair in still
    ]
    if unsure:
        found += _unsure(unsure, compared, named)
    return found


def _unsure(unsure: Sequence[Mapping[str, Any]], compared: Mapping[str, Any], named: Mapping[str, str]) -> list[str]:
    """Pairs that cannot be told apart, by the one that is nearest to it, and what would tell them."""
    count, runs = len(compared["pairs"]), compared["runs"]
    nearest = min(unsure, key=lambda pair: (pair["needed"] or MOST_RUNS + 1, -(pair["ratio"] or 0)))
    two = f"{named[nearest['first']]} and {named[nearest['second']]}"
    if len(unsure) == 1:
        begin = f"{two} cannot be told apart at {runs} runs each"
    else:
        which = f"none of the {count} pairs" if len(unsure) == count else f"{len(unsure)} of the {count} pairs"
        can = "can" if len(unsure) == count else "cannot"
        begin = f"{which} of sources {can} be told apart at {runs} runs each; nearest to it are {two}"
    return [
        f"{begin}: {_ratio(nearest, count)}; {_needed(nearest)}",
        f"{runs} runs each tell a source that makes runs vary {compared['smallest']:.1f} times as much as another or more (in 4 of "
        f"5 studies); {compared['twice']} runs each would tell one that makes them vary twice as much",
    ]


def _source(name: str) -> str:
    return "the machine itself" if name == "none" else f"the {ABOUT[name].removesuffix(' of the task')}"


def _ratio(pair: Mapping[str, Any], pairs: int) -> str:
    if pair["ratio"] is None:
        return f"of which the {pair['runs']} runs are all equal"
    together = "" if pairs == 1 else f", holding for all {pairs} pairs together"
    return (
        f"{pair['ratio']:.2f} times as much by standard deviation (95 % interval {pair['low']:.2f} to {pair['high']:.2f} "
        f"times{together})"
    )


def _needed(pair: Mapping[str, Any]) -> str:
    if pair["ratio"] is None:
        return "count the quality on more examples, or compare a loss"
    if pair["needed"] is None:
        return f"if that is the truth, more than {MOST_RUNS:,} runs each would be needed"
    return f"if that is the truth, about {pair['needed']:,} runs each would tell"


def _together(sources: Mapping[str, Any]) -> list[str]:
    """Whether the sources one by one add up to the whole."""
    left, runs = sources["unexplained"], sources["compared"]["runs"]
    if left["share"] is None or runs < COMPARED_FROM:
        return []
    if left["low"] > 0:
        reach = f"(95 % interval {_share(left['low'])} to {_share(left['high'])})"
        return [
            f"one at a time the sources make too little: {_share(left['share'])} {reach} of the variance with everything free comes "
            "only when they vary together"
        ]
    if left["high"] < 0:
        return [
            f"one at a time the sources make more than all together: by {_share(-left['share'])} of the variance with everything "
            f"free (95 % interval {_share(-left['high'])} to {_share(-left['low'])}), so they replace each other in part"
        ]
    return [
        f"whether the sources one at a time add up to the variance with everything free cannot be told at {runs} runs each: "
        f"they make {_share(1 - left['share'])} of it (95 % interval {_share(1 - left['high'])} to {_share(1 - left['low'])})"
    ]


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


# ---- another recipe ------------------------------------------------------------------------------------------------


def _against(result: Mapping[str, Any], words: Words) -> list[str]:
    other, own = result["against"], result["summary"]
    first, second = other["names"]
    better, summary, difference = other["better"], other["summary"], other["difference"]
    pairs = better["first"] * better["second"]
    if better["low"] > 0.5 or better["high"] < 0.5:
        end = f"{'more' if better['low'] > 0.5 else 'less'} often than not"
    else:
        end = f"undecided at {better['first']} and {better['second']} runs"
        if min(better["first"], better["second"]) < other["needed"]:
            end += f"; if it is 75 % in truth, {other['needed']} runs of each show it (in 95 of 100 studies)"
    lost = summary["diverged"]
    gone = f"; {lost} more of that diverged and {'takes' if lost == 1 else 'take'} no part" if lost else ""
    return [
        f"of a run of each, the one of {first} is better than the one of {second} in {_share(better['probability'])} of the {pairs:,} "
        f"pairs (95 % interval of that probability: {_share(better['low'])} to {_share(better['high'])}): {end}",
        f"the mean {words.metric} of {first} is {words.value(own['mean'])} ({own['n']} runs), that of {second} "
        f"{words.value(summary['mean'])} ({summary['n']} runs{gone}): a difference of {words.spread(difference['mean'])} "
        f"(95 % interval {words.between(difference['low'], difference['high'])})",
    ]
