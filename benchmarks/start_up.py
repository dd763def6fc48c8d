"""What a user waits for before anything happens: `import reinvest`, and `reinvest --help`.

Wall seconds of whole interpreters less those of an empty one, best and median of several. Prints JSON lines.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

ROUNDS = 9


def seconds(*arguments: str) -> float:
    """Wall seconds of one interpreter with these arguments."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    """Interleave the empty interpreter with the measured ones."""
    ways = {"import reinvest": ("-c", "import reinvest"), "reinvest --help": ("-m", "reinvest.cli.main", "--help")}
    goals = {"import reinvest": 0.15, "reinvest --help": None}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        empty = seconds("-c", "pass")
        for name, arguments in ways.items():
            taken[name].append(seconds(*arguments) - empty)
    for name, values in taken.items():
        print(
            json.dumps(
                {
                    "benchmark": "start_up",
                    "what": name,
                    "seconds": round(statistics.median(values), 4),
                    "best": round(min(values), 4),
                    "goal": goals[name],
                    "rounds": ROUNDS,
                }
            )
        )


if __name__ == "__main__":
    main()
