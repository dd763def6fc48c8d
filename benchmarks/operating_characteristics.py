"""Operating characteristics of the verdict by simulation: one JSON line per row of the specification's tables.

    python benchmarks/operating_characteristics.py --reps 250 --out benchmarks/results/operating_characteristics.jsonl

Each line holds the simulated setting, the rates of the five verdicts, coverage of the true speed-up, the median
estimate and the median width of the interval (high / low), and the specification's figures with whether this
simulation agrees with them within Monte Carlo error (99.9 % binomial interval, widened by the specification's own).
Null settings take twice as many repetitions, because their rates are small. --only keeps tables whose name
starts with the word; --share I/K runs every K-th setting, so that processes can divide the work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "evaluation"))

from verdict_settings import all_settings

from reinvest.evaluation import verdict

NAMES = ("better", "worse", "mixed", "equivalent", "inconclusive", "not comparable")


def simulate(row: dict[str, Any], reps: int) -> dict[str, Any]:
    """Rates of one setting over `reps` data sets, from a generator keyed by the setting's own name."""
    rng = np.random.default_rng(zlib.crc32(f"{row['table']} {row['scenario']} {row['n']}".encode()))
    counts = dict.fromkeys(NAMES, 0)
    covered, estimates, widths = 0, [], []
    for _ in range(reps):
        points = row["draw"](rng)
        options = dict(row["options"])
        if "timing" in points[0]:
            options["timing"] = {"b": {"log_ratio_variance": points[0]["timing"], "df": 9}}
        v = verdict(points, baseline="a", **options)["b"]
        counts[v.verdict] += 1
        estimates.append(v.speedup)
        widths.append(v.high / v.low if v.low > 0 else np.inf)
        covered += row["truth"] is not None and v.low <= row["truth"] <= v.high
    out: dict[str, Any] = {"table": row["table"], "scenario": row["scenario"], "n": row["n"], "reps": reps}
    out |= {name: counts[name] / reps for name in NAMES if counts[name] or name in ("better", "worse", "mixed")}
    known = [s for s in estimates if s == s]
    width = float(np.median(widths))
    out |= {
        "coverage": covered / reps if row["truth"] is not None else None,
        "median_speedup": round(float(np.median(known)), 4) if known else None,
        "median_width": round(width, 4) if np.isfinite(width) else None,
    }
    if row["expected"]:
        out["specification"] = row["expected"]
        out["agrees"] = all(agrees(out.get(key) or 0.0, reps, figure) for key, figure in row["expected"].items())
    return out


def agrees(rate: float, reps: int, figure: float, z: float = 3.29) -> bool:
    """True if the rate and the specification's figure (2,000 data sets, two or three digits) may be the same."""
    pooled = min(max((rate * reps + figure * 2000 + 1) / (reps + 2002), 1e-3), 1 - 1e-3)
    rounding = 0.005 if figure in (0, 1) or round(figure, 2) == figure else 0.0005
    return bool(abs(rate - figure) <= z * np.sqrt(pooled * (1 - pooled) * (1 / reps + 1 / 2000)) + rounding)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate the verdict's operating characteristics.")
    parser.add_argument("--reps", type=int, default=250, help="data sets per setting (null settings: twice as many)")
    parser.add_argument("--out", type=Path, default=None, help="also write the JSON lines to this file")
    parser.add_argument("--only", default="", help="tables whose name starts with this")
    parser.add_argument("--share", default="0/1", help="I/K: every K-th setting, starting with number I")
    arguments = parser.parse_args()
    first, every = (int(v) for v in arguments.share.split("/"))
    started, lines = time.perf_counter(), []
    for row in [s for s in all_settings() if s["table"].startswith(arguments.only)][first::every]:
        often = row["table"] == "null" or row["scenario"].startswith("null")
        lines.append(json.dumps(simulate(row, arguments.reps * (2 if often else 1))))
        print(lines[-1], flush=True)
    rows = [json.loads(line) for line in lines]
    compared = [r["agrees"] for r in rows if "agrees" in r]
    summary = {
        "table": "summary",
        "settings": len(rows),
        "verdicts": sum(r["reps"] for r in rows),
        "compared": len(compared),
        "agree": sum(compared),
        "seconds": round(time.perf_counter() - started, 1),
    }
    lines.append(json.dumps(summary))
    print(lines[-1])
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
