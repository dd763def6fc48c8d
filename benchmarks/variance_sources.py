"""Observed against predicted spread of a digits MLP over 20 seeds, what each source makes, and how often intervals err.

    python -m benchmarks.variance_sources [--runs 20] [--store FOLDER] [--out benchmarks/results/variance_sources.jsonl]
    python -m benchmarks.variance_sources --page      # write docs/variance.md from the stored lines

One JSON line a figure: the spread of runs with everything free beside the predicted one and the binomial floor; each
source's standard deviation and share, and every pair of them; by 2,000 simulations, how often 95 % intervals of a mean hold
it; by 4,000, how often equal sources are told apart, by the interval that is used and by the F interval, and how often
unequal ones are with the runs that are said to tell them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import reinvest as ri
from reinvest.evaluation.variance import BOOTSTRAP_FROM, summarise
from reinvest.evaluation.variance_ratio import ratios, runs_to_tell
from reinvest.studies.variance_sources import SourcesPlan, variance_sources
from reinvest.studies.variance_text import ABOUT

PLAIN: dict[str, Any] = {
    "task": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [64]},
    "duration": "10ep",
    "batch_size": 64,
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005},
}
RECIPES = {
    "plain": PLAIN,
    "augmented": {
        **PLAIN,
        "task": {"name": "digits", "augment": "crop-flip"},
        "methods": [{"name": "Mixup", "alpha": 0.2}],
    },
}
ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "variance_sources.jsonl", ROOT / "docs" / "variance.md"
SIMULATIONS = 2_000
STUDIES = 4_000
SHAPES = ("normal", "skewed")
EXAMPLES, ACCURACY = 359, 0.96
Draw = Callable[[np.random.Generator, int], Any]
EQUAL: dict[str, tuple[Draw, float]] = {
    "normal": (lambda draw, n: draw.normal(size=n), 0.0),
    "long tails (Laplace)": (lambda draw, n: draw.laplace(size=n), 0.0),
    "skewed (exponential)": (lambda draw, n: draw.exponential(size=n), 0.0),
    "accuracies on 359 examples": (lambda draw, n: draw.binomial(EXAMPLES, ACCURACY, size=n) / EXAMPLES, 1 / EXAMPLES),
}
"""Values of equal sources, and the step in which they are counted."""


def lines(recipe: dict[str, Any], runs: int, store: ri.Store) -> Iterator[dict[str, Any]]:
    """The lines about runs of a recipe: the spread, then a line a source, then what is left."""
    plan = SourcesPlan(ri.Recipe(**recipe), runs=runs)
    result = variance_sources(plan, store, workers=1, threads=1).result
    summary, test, sources = result["summary"], result["test"], result["sources"]
    yield {
        "what": "spread of runs",
        "runs": summary["n"],
        "mean": summary["mean"],
        **{name: summary[name] for name in ("sd", "sd_low", "sd_high")},
        **test,
        "independent_errors_sd": result["agreement"]["spread"]["sampling_sd"],
        "between_runs_sd": result["agreement"]["spread"]["sd"],
        "between_runs_low": result["agreement"]["spread"]["low"],
        "between_runs_high": result["agreement"]["spread"]["high"],
        "churn": result["agreement"]["churn"],
    }
    kept = ("runs", "mean", "sd", "sd_low", "sd_high", "share", "share_low", "share_high")
    for part in (*sources["parts"], sources["none"], sources["whole"]):
        yield {"what": "source", "free": part["source"] or "all", **{name: part[name] for name in kept}}
    for pair in sources["compared"]["pairs"]:
        yield {"what": "pair", **pair}
    yield {"what": "unexplained", **sources["unexplained"], "same_bits_with_all_held": sources["same_bits"]}


def coverage(shape: str, runs: int) -> dict[str, Any]:
    """How often the interval of the mean of `runs` values holds the true one."""
    draw = np.random.default_rng(runs)
    hit = {"t": 0, "bca": 0}
    for _ in range(SIMULATIONS):
        values = draw.normal(0, 1, runs) if shape == "normal" else draw.exponential(1, runs) - 1
        found = summarise(values.tolist())
        hit["t"] += found.low <= 0 <= found.high
        hit["bca"] += found.bca is not None and found.bca[0] <= 0 <= found.bca[1]
    rates = {name: count / SIMULATIONS for name, count in hit.items()}
    error = max((p * (1 - p) / SIMULATIONS) ** 0.5 for p in rates.values())
    if runs < BOOTSTRAP_FROM:
        rates["bca"] = None  # type: ignore[assignment]
    return {"what": "coverage at 95 %", "values": shape, "runs": runs, **rates, "standard_error": error}


def called_different(shape: str, sources: int, runs: int) -> dict[str, Any]:
    """How often any two of so many equal sources are told apart, by the interval that is used and by the F interval."""
    make, step = EQUAL[shape]
    draw, pairs = np.random.default_rng(sources * 1000 + runs), sources * (sources - 1) // 2
    beyond = float(stats.f.ppf(1 - 0.025 / pairs, runs - 1, runs - 1))
    used = by_f = 0
    for _ in range(STUDIES):
        values = {str(k): make(draw, runs) for k in range(sources)}
        used += any(pair.larger for pair in ratios(values, step=step))
        variances = [float(v.var(ddof=1)) for v in values.values()]
        by_f += max(variances) > beyond * min(variances)
    found = {"what": "equal sources told apart", "values": shape, "sources": sources, "runs": runs, "studies": STUDIES}
    return {**found, **_rate(used), "by_f": by_f / STUDIES}


def told(ratio: float) -> dict[str, Any]:
    """How often two sources are told apart with the runs that are said to tell this ratio of standard deviations."""
    runs = runs_to_tell(ratio)
    assert runs is not None
    draw, right = np.random.default_rng(runs), 0
    for _ in range(STUDIES):
        (pair,) = ratios({"one": draw.normal(0, ratio, runs), "other": draw.normal(0, 1, runs)})
        right += pair.larger == "one"
    found = {"what": "unequal sources told apart", "ratio": ratio, "runs": runs, "studies": STUDIES}
    return {**found, **_rate(right), "by_f": _runs_by_f(ratio)}


def _runs_by_f(ratio: float) -> int:
    """Runs each with which the F interval of two normal samples would tell this ratio in 80 % of studies."""
    runs = 3
    while stats.f.sf(stats.f.ppf(0.975, runs - 1, runs - 1) / ratio**2, runs - 1, runs - 1) < 0.8:
        runs += 1
    return runs


def _rate(count: int) -> dict[str, float]:
    """A rate with its exact 99 % bounds."""
    bounds = stats.binomtest(count, STUDIES).proportion_ci(0.99, method="exact")
    return {"rate": count / STUDIES, "at_least": float(bounds.low), "at_most": float(bounds.high)}


def simulated() -> Iterator[dict[str, Any]]:
    """All lines that need no training."""
    yield from (coverage(shape, runs) for shape in SHAPES for runs in (3, 5, 10, 20))
    yield from (called_different(shape, sources, runs) for shape in EQUAL for sources in (2, 5) for runs in (5, 10, 20))
    yield from (told(ratio) for ratio in (1.5, 2.0, 3.0))


# ---- the page ------------------------------------------------------------------------------------------------------


TEXT = """\
# How far runs of one recipe lie apart, and why

```
reinvest variance --recipe examples/recipe.yaml --out variance.html            # all runs of a recipe in the store
reinvest variance --recipe a.yaml --against b.yaml                             # how probable is it that a run of a is better
reinvest variance examples/recipe.yaml --sources --runs-each 10 --out sources.html
```

The first two train nothing. They give the mean with its interval (Student's t; from 10 runs on a bootstrap interval
beside it), the standard deviation with its interval, diverged runs by number, and for accuracies what luck alone would
make:

| standard deviation | of what |
|---|---|
| observed | the runs |
| predicted luck | runs that are equally good and calibrated together, on these examples: sqrt(error / 2n), [2304.01910](https://arxiv.org/abs/2304.01910) |
| luck if errors are independent | these runs on these examples, if each errs independently of the others |
| left between the runs | the runs on endlessly many examples: observed less luck (variances subtract, standard deviations do not) |
| binomial | any one accuracy about the one on all possible examples; more runs do not lower it |

Runs that kept their weights are asked about every example: churn (the share on which two runs differ), the share on which
all agree, the vote. Refused: fewer than 2 finished runs, several recipes, several test sets, a metric that a run lacks, a
recipe against itself. Below 5 runs it says that the spread is hardly known, and not whether chance explains it.

## One source of randomness at a time

A recipe may hold some sources at a seed of their own, whatever the run's seed is:

```yaml
seeds: {{init: 3, order: 7}}     # left out: all go by the run's seed, and the recipe's identity is as it was
```

| source | decides |
|---|---|
| `init` | initial weights |
| `order` | the order of the training examples (and which of them the last, dropped part of an epoch holds) |
| `augment` | the random views that the task shows: crops, flips, masks, windows |
| `methods` | everything that methods draw, augmenting ones (Mixup, Cutout) among them |
| `dropout` | what modules draw from torch's own generator while they train |

`--sources` trains runs in which one of them is free and the others are held, runs with all held (what differs then is the
machine), and runs with all free. Sources from which the recipe draws nothing are found by one step and get no runs.
`methods` get runs wherever the recipe has any, because some draw late; where these runs are bit for bit the ones with all
held, they are said to draw nothing, and are not compared with other sources.

A free seed is never the held one: that run would be the computation with everything held, once more in every source, and the
sources' samples would share it. Nor is a seed of a source one of the runs with all free. So with n runs each and k sources
n (k + 1) + 1 different computations are trained, the last one n times over, and all samples are independent of each other.
Runs with all free take the first whole numbers but the held one, so runs of the recipe that are in the store are used.

What cannot be separated: single methods among each other (their streams have names of their own, but one seed); the splits,
which are fixed by the task's name; a task of your own whose loader does not take `views=` cannot show other views in the
same order, and says so. A `Distill` that replays the views of its teacher leaves nothing to `augment`. Own loops have one
seed. The sources one by one need not add up to the whole; what they leave is in the table with its interval. Everything is
said at one held seed: another one may give other spreads.

## When one source is said to make runs vary more

From 5 runs each on, and where the interval of the ratio of two standard deviations lies above 1; the intervals of all pairs
hold together with 95 % (Bonferroni). Otherwise it says that the two cannot be told apart, how many runs each would tell them
in 4 of 5 studies if the observed ratio is the truth, and what ratio so many runs can tell at all. `--dry-run` says the last
before anything is trained.

The interval is Bonett's ([2006](https://doi.org/10.1177/0146621605279551)): normal quantiles of the log ratio of variances,
its standard error from a kurtosis that is estimated from both samples. Why that one: the F interval is exact for normal
values alone, and a bootstrap of five values is far too short. An accuracy moves in steps of one example: runs that are all
equal count as having the spread that rounding may hide. It is stricter than to look whether the chi-square intervals of the
two standard deviations overlap, which take the values as normal and each source alone. What that costs where they are normal
is in the second table below.

How often any two of several equal sources were told apart (should be 5 % or less; {studies:,} studies a row, exact 99 %
bounds in brackets), beside what the F interval would do:

| values | sources | runs each | told apart | by the F interval |
|---|---|---|---|---|
{equal}

Where values are as skewed as an exponential it is up to {skewed:.1f} %, by the F interval up to {by_f:.0f} %. How often unequal ones were told apart with the runs that are said to tell them (normal values, two sources):

| ratio of standard deviations | runs each | told apart | runs each by the F interval |
|---|---|---|---|
{told}

## {runs} seeds of an MLP on digits

`python -m benchmarks.variance_sources`, stored in `benchmarks/results/variance_sources.jsonl`; this page is written from it.
Points of accuracy (percentage points), 95 % intervals in brackets.

| recipe | mean | observed sd | predicted luck | binomial | left between the runs | churn |
|---|---|---|---|---|---|---|
{spread}

{reading}

| recipe | free | sd, points | share of variance | 95 % |
|---|---|---|---|---|
{sources}

| recipe | larger spread observed | than with | times | interval | told apart | runs each that would tell |
|---|---|---|---|---|---|---|
{pairs}

With every seed held, {held} on this machine.

## Which interval of a mean

How often a 95 % interval of the mean held the true one, in 2,000 simulations (standard error at most 0.7 %):

| values | runs | Student's t | bootstrap (BCa) |
|---|---|---|---|
{coverage}

So statements rest on Student's t; the bootstrap is shown beside it and is too short at 10 runs.
"""


def page() -> str:
    """docs/variance.md from the stored lines."""
    found = [json.loads(line) for line in RESULTS.read_text(encoding="utf8").splitlines()][1:]
    of = lambda what: [line for line in found if line["what"] == what]  # noqa: E731
    tables = {
        "spread": [_spread_row(line) for line in of("spread of runs")],
        "sources": [_source_row(line) for line in of("source")],
        "pairs": [_pair_row(line) for line in of("pair")],
        "coverage": [_coverage_row(line) for line in of("coverage at 95 %")],
        "equal": [_equal_row(line) for line in of("equal sources told apart")],
        "told": [_told_row(line) for line in of("unequal sources told apart")],
    }
    same = all(line["same_bits_with_all_held"] for line in of("unexplained"))
    return TEXT.format(
        held="all runs of a recipe were equal bit for bit" if same else "runs of a recipe still differed",
        studies=STUDIES,
        skewed=100 * max(line["rate"] for line in of("equal sources told apart")),
        by_f=100 * max(line["by_f"] for line in of("equal sources told apart")),
        runs=of("spread of runs")[0]["runs"],
        reading="\n".join(_reading(line) for line in of("spread of runs")),
        **{name: "\n".join(rows) for name, rows in tables.items()},
    )


def _reading(line: dict[str, Any]) -> str:
    """Whether the spread of a recipe's runs is that of luck, in one sentence."""
    ratio, low, high = line["observed_over_predicted"], line["sd_low"], line["sd_high"]
    if low <= line["predicted_sd"] <= high:
        end = "which chance allows."
    elif ratio > 1:
        end = "more than chance allows: the runs really differ."
    else:
        end = "less than chance allows: the runs make the same errors too often for that prediction."
    return f"{line['recipe'].capitalize()} runs vary {ratio:.2f} times as much as predicted,\n{end}"


def _points(value: float) -> str:
    return f"{100 * value:.2f}"


def _between(line: dict[str, Any], name: str) -> str:
    return f"({_points(line[name + '_low'])} to {_points(line[name + '_high'])})"


def _spread_row(line: dict[str, Any]) -> str:
    between = f"{_points(line['between_runs_sd'])} {_between(line, 'between_runs')}"
    return (
        f"| {line['recipe']} | {_points(line['mean'])} % | {_points(line['sd'])} {_between(line, 'sd')} | "
        f"{_points(line['predicted_sd'])} | {_points(line['floor'])} | {between} | {_points(line['churn'])} % |"
    )


def _source_row(line: dict[str, Any]) -> str:
    known = line["share"] is not None
    share = f"{100 * line['share']:.0f} %" if known else ""
    ends = f"{100 * line['share_low']:.0f} to {100 * line['share_high']:.0f} %" if known else ""
    return f"| {line['recipe']} | {line['free']} | {_points(line['sd'])} {_between(line, 'sd')} | {share} | {ends} |"


def _pair_row(line: dict[str, Any]) -> str:
    needed = "" if line["larger"] else f"{line['needed']:,}" if line["needed"] else "over 1,000"
    names = f"{ABOUT[line['first']]} | {ABOUT[line['second']]}"
    ends = f"{line['low']:.2f} to {line['high']:.2f}"
    return f"| {line['recipe']} | {names} | {line['ratio']:.2f} | {ends} | {'yes' if line['larger'] else 'no'} | {needed} |"


def _coverage_row(line: dict[str, Any]) -> str:
    bca = "" if line["bca"] is None else f"{100 * line['bca']:.1f} %"
    return f"| {line['values']} | {line['runs']} | {100 * line['t']:.1f} % | {bca} |"


def _bounded(line: dict[str, Any]) -> str:
    return f"{100 * line['rate']:.1f} % ({100 * line['at_least']:.1f} to {100 * line['at_most']:.1f})"


def _equal_row(line: dict[str, Any]) -> str:
    return f"| {line['values']} | {line['sources']} | {line['runs']} | {_bounded(line)} | {100 * line['by_f']:.1f} % |"


def _told_row(line: dict[str, Any]) -> str:
    return f"| {line['ratio']:g} | {line['runs']} | {_bounded(line)} | {line['by_f']} |"


def main() -> None:
    """Print the lines, and keep them after a line of facts if --out is given; or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--store", help="default: a folder that is removed again")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", action="store_true", help="only write docs/variance.md from the stored lines")
    chosen = parser.parse_args()
    if chosen.page:
        PAGE.write_text(page(), encoding="utf8")
        return
    torch.set_num_threads(1)
    kept = [json.dumps({"benchmark": "variance_sources", "facts": ri.facts(), "recipes": RECIPES})]
    with tempfile.TemporaryDirectory() as folder:
        store = ri.Store(chosen.store or folder)
        trained = ({"recipe": name, **line} for name, one in RECIPES.items() for line in lines(one, chosen.runs, store))
        for line in itertools.chain(trained, simulated()):
            kept.append(json.dumps({"benchmark": "variance_sources", **line}))
            print(kept[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n".join(kept) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
