"""Write claims/README.md and the picture beside it from the stored comparisons in claims/.

python -m benchmarks.claims_table

A claim is a plan (METHOD.yaml, committed before its runs) and its result (METHOD.json, written by
`reinvest compare claims/METHOD.yaml --store STORE --out METHOD.html`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "claims"
HEAD = """# Claims

Verdicts at desk size, the negative ones included: each method against a tuned baseline that is the same but for it,
quality against training time on this one machine. Written by `python -m benchmarks.claims_table` from the results in this
folder; a test compares.

{picture}- **Speed-up**: of the time to equal quality, with its 95 % interval; above 1 is faster. A verdict needs the whole interval
  on one side of 1. **Step**: seconds of a step, baseline = 1. **Gain**: quality at equal time, in {units}.
  **Could have seen**: the smallest speed-up that this design shows in 80 % of cases.
- Only the baseline was tuned (`baseline*.yaml`, on validation); the methods have their usual settings. So these are claims
  about recipes of small networks in short runs on a CPU, and none about a method at its best or at another size.
- Runs belong to the code of their day: where a method's `revision` was raised since, CHANGELOG says what was mended.
- Comparisons of one task share the baseline's runs: a lucky baseline is lucky in all of them, and with {count} verdicts about
  {expected:.1f} would be wrong at 95 % each.
{masked}
| method | task | step | verdict | speed-up | gain | could have seen |
|---|---|---|---|---|---|---|
"""
UNITS = {"accuracy": ("points", 100.0), "nll": ("nats", 1.0), "iou": ("points", 100.0)}


@dataclass(frozen=True)
class Claim:
    """One arm's judgement: the file's stem, the arm, the comparison's task and metric, cost of a step, the verdict."""

    file: str
    arm: str
    task: str
    metric: str
    step: float
    verdict: dict[str, Any]


def claims(folder: Path = FOLDER) -> Iterator[Claim]:
    """Every judged arm of every comparison in the folder, by file name."""
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf8"))
        if result.get("kind") != "comparison":
            continue
        costs = (result["timing"] or {}).get("arms", {})
        for name, arm in result["arms"].items():
            if arm["verdict"] is not None:
                step = costs.get(name, {}).get("ratio", math.nan)
                yield Claim(path.stem, name, result["task"]["name"], result["task"]["metric"], step, arm["verdict"])


def number(value: float | None, digits: int = 3) -> str:
    """A figure of three digits; "open" where there is none."""
    return "open" if value is None or math.isnan(value) else f"{value:#.{digits}g}"


def row(claim: Claim) -> str:
    """One claim's line."""
    v, (unit, scale) = claim.verdict, UNITS.get(claim.metric, ("", 1.0))
    gain = "–" if v["gain"] is None else f"{v['gain'] * scale:+.2f} {unit}"
    speed = "–" if v["speedup"] is None else f"{number(v['speedup'])} ({number(v['low'])} to {number(v['high'])})"
    links = f"[{claim.arm}]({claim.file}.yaml)"
    step = "–" if math.isnan(claim.step) else f"{claim.step:.3g}"
    seen = "–" if v["smallest_effect"] is None else number(v["smallest_effect"])
    cells = (links, claim.task, step, f"[{v['verdict']}]({claim.file}.json)", speed, gain, seen)
    return "| " + " | ".join(cells) + " |"


def page(found: list[Claim]) -> str:
    """The whole page; claims from the fastest to the slowest within each task."""
    units = " or ".join(dict.fromkeys(UNITS.get(c.metric, (c.metric, 1.0))[0] for c in found)) or "the metric's units"
    picture = "![Speed-ups with their intervals](../docs/images/claims.svg)\n\n" if found else ""
    head = HEAD.format(
        picture=picture, units=units, count=len(found), expected=0.05 * len(found), masked=of_masked_models()
    )
    return head + "".join(row(claim) + "\n" for claim in ordered(found))


def of_masked_models(folder: Path = FOLDER) -> str:
    """Why MaskingRate has no verdict: what tuning its baseline found."""
    path = folder / "baseline_masked.json"
    if not path.exists():
        return ""
    points = json.loads(path.read_text(encoding="utf8"))["points"]
    best = min(point["mean"] for point in points)
    return (
        f"- MaskingRate has none: at every rate of `{path.stem}.yaml` a masked model of this size has learned hardly more in 600\n"
        f"  steps than how frequent each byte is ({best:.2f} nats at best), so that nothing could be told apart.\n"
        "- Of the methods that change pictures, ProgressiveResizing refuses label maps, which would have to be resized with "
        "them;\n  Cutout takes them as they are.\n"
    )


def ordered(found: list[Claim]) -> list[Claim]:
    """By task, then by speed-up; arms without one last."""
    return sorted(found, key=lambda c: (c.task, -(c.verdict["speedup"] or 0.0)))


LEFT, WIDTH, LINE, TOP = 230, 420, 22, 34
COLOURS = {"better": "#1a7f37", "worse": "#b3261e"}
TICKS = (0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)


def drawing(found: list[Claim]) -> str:
    """An interval a line on a logarithmic axis, as SVG."""
    shown = [c for c in ordered(found) if c.verdict["speedup"] is not None]
    low, high = math.log(TICKS[0]), math.log(TICKS[-1])

    def across(value: float) -> float:
        return LEFT + WIDTH * (min(max(math.log(value), low), high) - low) / (high - low)

    height = TOP + LINE * len(shown) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="16">speed-up to equal quality, 95 % interval; right of 1 is faster</text>',
    ]
    for tick in TICKS:
        x, stroke = across(tick), "#888" if tick == 1.0 else "#ddd"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 26}" stroke="{stroke}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{tick:g}</text>')
    for i, claim in enumerate(shown):
        v, y = claim.verdict, TOP + LINE * i + 8
        colour = COLOURS.get(v["verdict"], "#555")
        ends = [across(TICKS[k] if v[e] is None else v[e]) for k, e in ((0, "low"), (-1, "high"))]
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{claim.arm}, {claim.task}</text>')
        parts.append(
            f'<line x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{across(v["speedup"]):.1f}" cy="{y}" r="4" fill="{colour}"/>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write both files."""
    found = list(claims())
    (FOLDER / "README.md").write_text(page(found), encoding="utf8")
    (FOLDER.parent / "docs" / "images" / "claims.svg").write_text(drawing(found), encoding="utf8")


if __name__ == "__main__":
    main()
