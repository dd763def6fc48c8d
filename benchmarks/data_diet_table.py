"""Write docs/data_diet.md from benchmarks/results/data_diet.json and data_diet_2.json.

python -m benchmarks.data_diet_table
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.planted_table import table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "data_diet.md"
HEAD = """# Does it pay to choose the data by what an earlier run found?

Written by `python -m benchmarks.data_diet_table` from `benchmarks/results/data_diet.json` and `data_diet_2.json`; a test
compares. The plans, with the hypotheses, were committed before their runs: `benchmarks/plans/data_diet.yaml` and, made after
the results of the first were seen, `data_diet_2.yaml`. CIFAR-10 (5,000 training pictures at
16x16), a ResNet-8 of width 8, four durations, five seeds an arm and duration, equal time on one machine. The baseline is a
**random half** of every batch of 256, others in each epoch; all arms train on about 128 examples a step. Nothing was tuned
for any arm, so these are claims about recipes, of a small net in short runs.

- **Speed-up**: of the time to equal quality against the random half, with its 95 % interval; above 1 is faster. **Step**:
  seconds of a step, random half = 1; what scoring passes cost is in it. **Gain**: points of test accuracy at equal time.
- What the reference runs cost is not in these columns; it is said below each table.

What it comes to here: with clean labels no selection pays, and choosing what is hard costs most. With every fifth label wrong,
leaving out what the earlier run found hardest pays, and so does correcting labels, once the method is told that a fifth is
wrong: from the losses of this weak run alone the mixture found no wrong labels, so that prioritised training chose the highest
losses, wrong labels first. It warns of that now.
"""


def number(value: float | None, form: str = "{:.3g}") -> str:
    """The number, a dash where there is none."""
    return "–" if value is None else form.format(value)


def rows(comparison: dict[str, Any]) -> list[list[str]]:
    """One an arm."""
    base = comparison["arms"][comparison["baseline"]]["seconds_per_step"]
    found = []
    for name, arm in comparison["arms"].items():
        v = arm["verdict"]
        if v is None:
            continue
        interval = f"{number(v['low'])} to {number(v['high'])}"
        gain = [None if v[k] is None else 100 * v[k] for k in ("gain", "gain_low", "gain_high")]
        found.append(
            [
                name,
                f"**{v['verdict']}**",
                number(arm["seconds_per_step"] / base),
                f"{number(v['speedup'])} ({interval})",
                f"{number(gain[0], '{:+.1f}')} ({number(gain[1], '{:+.1f}')} to {number(gain[2], '{:+.1f}')})",
                number(v["smallest_effect"]),
            ]
        )
    return found


def accuracies(comparison: dict[str, Any]) -> list[list[str]]:
    """Mean test accuracy of each arm at each duration, in per cent."""
    found = []
    for name, arm in comparison["arms"].items():
        by: dict[str, list[float]] = {}
        for point in arm["points"]:
            by.setdefault(point["duration"], []).append(point["quality"])
        found.append([name, *(f"{100 * statistics.fmean(values):.1f}" for values in by.values())])
    return found


def costs(condition: dict[str, Any]) -> str:
    """What the reference runs took and reached."""
    said = []
    for name, runs in condition["references"].items():
        seconds = sum(run["seconds"] for run in runs)
        quality = ", ".join(f"{100 * run['accuracy']:.1f} %" for run in runs)
        said.append(f"{name} {seconds:.0f} s ({quality})")
    longest = max(
        point["seconds"]
        for point in condition["comparison"]["arms"][condition["comparison"]["baseline"]]["points"]
        if point["seconds"] is not None
    )
    return (
        f"Reference runs (test accuracy): {'; '.join(said)}. The longest run of the random half takes {longest:.0f} s."
    )


def conditions() -> list[tuple[str, dict[str, Any]]]:
    """(heading, what was found) of both plans."""
    found = []
    for name, heading in (("data_diet", "Labels: {}"), ("data_diet_2", "Second plan, labels: {}")):
        result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf8"))
        found += [(heading.format(title), condition) for title, condition in result["conditions"].items()]
    return found


def page() -> str:
    """The whole page."""
    lines: list[str] = []
    for title, condition in conditions():
        comparison = condition["comparison"]
        head = ["arm", "verdict", "step", "speed-up", "gain", "could have seen"]
        durations = list(dict.fromkeys(p["duration"] for p in comparison["arms"][comparison["baseline"]]["points"]))
        lines += [f"## {title}", "", *table(head, rows(comparison))]
        lines += ["Mean test accuracy, per cent:", "", *table(["arm", *durations], accuracies(comparison))]
        lines += [costs(condition), ""]
    return "\n".join([HEAD, *lines]).rstrip() + "\n"


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf8")


if __name__ == "__main__":
    main()
