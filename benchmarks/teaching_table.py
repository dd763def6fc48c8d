"""Write docs/teaching.md from the stored studies of single students (benchmarks/results/teaching_*.json).

python -m benchmarks.teaching_table
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "teaching.md"
HEAD = """# Single students of earlier runs

Written by `python -m benchmarks.teaching_table` from the results in `benchmarks/results/`; a test compares. Plans are in
`benchmarks/plans/`, committed before their runs. Student i has a seed of its own and teacher i; **plain** is the same
recipe without a teacher. The teacher's own cost is left out: it existed (its seconds are told, for break-even). Whole
sequences with everything charged are in [recommendations.md](recommendations.md).

- **Step**: seconds of a step, plain = 1, with its 95 % interval, interleaved in one process.
- **Length columns**: mean quality and its standard error; behind it how many times as fast as plain training is to the
  same quality, read off the plain curve, with its 95 % interval (none where no plain run was as good or as bad).
- **All lengths**: the verdict over the whole curve, and its speed-up. With many arms some verdicts are wrong by chance:
  one in twenty at 95 %.
"""


def quality(row: dict[str, Any]) -> str:
    """Mean, standard error and local speed-up of one arm at one length."""
    text = f"{row['mean']:.3f} ± {row['se']:.3f}"
    local = row.get("local_speedup")
    return text + (f"; {local['value']:.2f} ({local['low']:.2f} to {local['high']:.2f})" if local else "")


def judged(found: dict[str, Any] | None) -> str:
    """A verdict and its speed-up in a cell."""
    if found is None:
        return "–"
    if found["speedup"] is None or math.isnan(found["speedup"]):
        return str(found["verdict"])
    low, high = ("open" if v is None or not math.isfinite(v) else f"{v:.2f}" for v in (found["low"], found["high"]))
    return f"{found['verdict']}, {found['speedup']:.2f} ({low} to {high})"


def section(path: Path) -> list[str]:
    """One study."""
    result = json.loads(path.read_text(encoding="utf8"))
    plan, teacher = result["plan"], result["teacher"]
    found = teacher["quality"]
    metric = plan.get("teacher_metric", plan["metric"])
    lines = [
        f"## {plan['title']}",
        "",
        f"[Plan](../benchmarks/plans/{path.stem}.yaml), [result](../benchmarks/results/{path.name}). {plan['replicates']} "
        f"replicates. Teachers: {metric} {statistics.fmean(found):.3f} ({min(found):.3f} to {max(found):.3f}) after "
        f"{teacher['steps']:,} steps and {teacher['seconds']:.0f} s.",
        "",
        "| "
        + " | ".join(["arm", "step", *(f"{d}, {plan['metric']}" for d in plan["durations"]), "all lengths"])
        + " |",
        "|---" * (len(plan["durations"]) + 3) + "|",
    ]
    for arm, rows in result["table"].items():
        ratio, low, high = result["step_ratios"][arm]
        step = "1" if arm == "plain" else f"{ratio:.2f} ({low:.2f} to {high:.2f})"
        cells = [arm, step, *(quality(rows[d]) for d in plan["durations"]), judged(result["verdicts"].get(arm))]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    parts = [line for path in sorted(RESULTS.glob("teaching_*.json")) for line in section(path)]
    return "\n".join([HEAD, *parts]).rstrip() + "\n"


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf8")


if __name__ == "__main__":
    main()
