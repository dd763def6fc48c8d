"""Copy results of sequence studies into the package as evidence for `reinvest advise`, without the single runs.

python -m benchmarks.pack_evidence benchmarks/results/sequence_*.json && reinvest recommend --out docs/recommendations.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "src" / "reinvest" / "studies" / "evidence"
LEFT_OUT = ("runs", "points")


def main() -> None:
    """Pack the named files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    FOLDER.mkdir(exist_ok=True)
    for path in parser.parse_args().results:
        whole = json.loads(path.read_text(encoding="utf8"))
        kept = {name: value for name, value in whole.items() if name not in LEFT_OUT}
        (FOLDER / path.name).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf8")
        print(FOLDER / path.name)


if __name__ == "__main__":
    main()
