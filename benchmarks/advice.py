"""What `advise` chooses on the evidence of the other studies, against the best fixed policy in hindsight.

python -m benchmarks.advice benchmarks/plans/sequence_*.yaml --stores STORES [--results benchmarks/results] [--out FILE]

One sequence study after the other is left out: its advice rests on the results of all others. STORES holds one store a
study, named like its plan (sequence_width.yaml: STORES/width); runs that it holds are not repeated, so advice that comes
out as one of the study's own arms costs nothing. For each study: what was chosen, its total time at equal quality
relative to scratch, the arm that turned out best, and the ratio of the two times (1: as good as the best in hindsight).
The best arm is picked by its estimate, which flatters it; seeds are shared with it, so no interval is given for the ratio.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

import reinvest as ri
from reinvest.core.errors import UnknownName
from reinvest.studies.sequence import load_plan, run_sequence

ADVISED = "advised on the other studies"


def without(name: str, results: Path, into: Path) -> list[str]:
    """Copy the results of all sequence studies but one into a folder: their names."""
    others = sorted(p for p in results.glob("sequence_*.json") if p.stem != name)
    for path in others:
        shutil.copy(path, into / path.name)
    return [path.stem for path in others]


def left_out(path: Path, stores: Path, results: Path, workers: int) -> dict[str, Any]:
    """One study again, with an arm that is advised on what the others found."""
    store = ri.Store(stores / path.stem.removeprefix("sequence_"))
    with tempfile.TemporaryDirectory() as folder:
        known = without(path.stem, results, Path(folder))
        plan = load_plan(path)
        kept = {n: a for n, a in plan.arms.items() if a["reuse"] != "advise"}
        asked = dataclasses.replace(
            plan, arms={**kept, ADVISED: {"reuse": "advise", "evidence": folder}}, title=f"{plan.title}, advice"
        )
        found = run_sequence(asked, store, workers=workers).result
    arms = {n: a for n, a in found["arms"].items() if a.get("speedup")}
    own = arms.pop(ADVISED, {"speedup": None})
    best = max(arms, key=lambda n: arms[n]["speedup"], default=None)
    best_speedup = max(1.0, arms[best]["speedup"]) if best else 1.0
    return {
        "study": path.stem,
        "setting": found["setting"],
        "evidence": known,
        "chosen": found["arms"][ADVISED].get("chosen"),
        "verdict": found["arms"][ADVISED]["verdict"],
        "relative_time": None if own["speedup"] is None else 1 / own["speedup"],
        "interval": own.get("interval"),
        "best_fixed": best if best_speedup > 1 else "scratch",
        "best_relative_time": 1 / best_speedup,
        "times_of_best": None if own["speedup"] is None else best_speedup / own["speedup"],
    }


def main() -> None:
    """Run all plans and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", type=Path, nargs="+")
    parser.add_argument("--stores", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for path in chosen.plans:
        try:
            rows.append(left_out(path, chosen.stores, chosen.results, chosen.workers))
        except UnknownName as error:  # a plan with a way of re-use that has been taken out since
            rows.append({"study": path.stem, "not_read": str(error)})
        print(json.dumps(rows[-1]), flush=True)
    if chosen.out:
        chosen.out.write_text(json.dumps({"facts": ri.facts(), "studies": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
