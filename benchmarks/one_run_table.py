"""Write docs/one_run.md from benchmarks/results/one_run.json.

python -m benchmarks.one_run_table
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.planted_table import table

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "one_run.json"
PAGE = ROOT / "docs" / "one_run.md"
HEAD = """# A whole curve out of one run

A verdict needs runs of several durations. `curve: cyclic` in a study makes one run an arm and replicate, whose learning rate
falls to zero in cycles of growing length: the end of each stands for a run of that length (Portes et al., 2206.00832).
`curve: cooldown-branch` trains one run at a constant rate, the trunk, and lets a short cool-down, 1 - sqrt(t) over the last
fifth, branch off for each shorter duration (Hägele et al., 2405.18392); a branch has the same weights, bit for bit, as the
same recipe trained from the start.

- Points of one run belong together: a run is the unit of the test, not a point. So such a study needs more replicates for the
  same power, and its verdicts say so.
- Kinds never mix: the separate runs that calibrate (`reinvest compare STUDY --calibrate 3`: the baseline at the shortest and
  the longest duration) are shown and not judged.
- Methods that look ahead to the end of the run (resizing, curricula, averages over a share of the run, distillation that
  fades out) mean something else in a run that stands for several, and are refused.

Written by `python -m benchmarks.one_run_table` from `benchmarks/results/one_run.json`; a test compares. The plan, with its
hypotheses, was committed before its runs: `benchmarks/plans/one_run.yaml` (CIFAR-10, 5,000 pictures at 16x16, ResNet-8 of
width 8, five replicates).
"""


def signed(row: dict[str, float], name: str = "difference") -> str:
    """Points of accuracy with their 95 % interval."""
    return f"{100 * row[name]:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"


def prices(result: dict[str, Any]) -> list[str]:
    """Steps of each kind against those of separate runs."""
    rows = [[kind, f"{own['steps']:,}", f"{own['share_of_steps']:.2f}"] for kind, own in result["kinds"].items()]
    return ["## What it costs", "", *table(["points by", "optimizer steps", "of separate runs"], rows)]


def off(result: dict[str, Any]) -> list[str]:
    """Accuracy of each kind, and how far off separate runs it is."""
    lines = [
        "## How far off",
        "",
        "Mean test accuracy of the baseline in per cent, and points off separate runs. Those have a cosine schedule; a branch is, "
        "bit for bit, a separate run with a cool-down, so what it is off is what the other schedule does.",
        "",
    ]
    baseline = next(iter(result["kinds"]["separate"]["accuracy"]))
    durations = list(result["kinds"]["separate"]["accuracy"][baseline])
    rows = []
    for kind, own in result["kinds"].items():
        means = [f"{100 * statistics.fmean(values):.1f}" for values in own["accuracy"][baseline].values()]
        rows.append([kind, *means])
        if "off" in result["compared"][kind]:
            rows.append(["off separate runs", *(signed(row) for row in result["compared"][kind]["off"][baseline])])
    return [*lines, *table(["points by", *durations], rows)]


def ratings(result: dict[str, Any]) -> list[str]:
    """What each kind says of each method."""
    lines = [
        "## What it says of methods",
        "",
        "Points of accuracy above the baseline, mean over the durations (95 % interval, replicates as units), and how far that "
        "is off what separate runs say; beside it the verdict.",
        "",
    ]
    methods = list(result["compared"]["separate"]["effect"])
    rows = []
    for method in methods:
        for kind, own in result["compared"].items():
            bias = signed(own["bias"][method]) if "bias" in own else "–"
            verdict = result["kinds"][kind]["verdicts"][method]
            rows.append([method, kind, signed(own["effect"][method], "mean"), bias, verdict["verdict"]])
    return [*lines, *table(["method", "points by", "gain", "off separate runs", "verdict"], rows)]


def page() -> str:
    """The whole page."""
    result = json.loads(RESULT.read_text(encoding="utf8"))
    return "\n".join([HEAD, *prices(result), *off(result), *ratings(result)]).rstrip() + "\n"


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf8")


if __name__ == "__main__":
    main()
