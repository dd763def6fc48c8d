"""Run every benchmark, one after the other (they must not share the machine), and keep the lines they print.

python -m benchmarks [--out benchmarks/results] [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

MODULES = (
    "start_up",
    "overhead",
    "data_path",
    "store_speed",
    "recording",
    "reuse_step",
    "method_costs",
    "dynamics_scale",
)


def main() -> int:
    """Returns the number of benchmarks that failed to run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, help="folder for one .jsonl file a benchmark, with the facts of the machine"
    )
    parser.add_argument("--only", default=",".join(MODULES), help="names of benchmarks, with commas")
    chosen = parser.parse_args()
    names = chosen.only.split(",")
    unknown = sorted(set(names) - set(MODULES))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; known: {', '.join(MODULES)}")
    failed = 0
    for name in names:
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], capture_output=True, text=True, check=False)
        print(done.stdout, end="", flush=True)
        if done.returncode:
            failed += 1
            print(json.dumps({"benchmark": name, "error": done.stderr.strip()[-400:]}), flush=True)
        elif chosen.out is not None:
            from reinvest import facts

            chosen.out.mkdir(parents=True, exist_ok=True)
            head = json.dumps({"benchmark": name, "facts": facts()})
            (chosen.out / f"{name}.jsonl").write_text(head + "\n" + done.stdout)
    return failed


if __name__ == "__main__":
    sys.exit(main())
