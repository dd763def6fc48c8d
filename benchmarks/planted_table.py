"""Write docs/planted_noise.md from benchmarks/results/planted_noise.json.

python -m benchmarks.planted_table
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.planted_acting import paired

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "planted_noise.json"
PAGE = ROOT / "docs" / "planted_noise.md"
HEAD = """# Are planted wrong labels found, and does it pay to act?

Written by `python -m benchmarks.planted_table` from `benchmarks/results/planted_noise.json`; a test compares. The plan,
committed before its runs, is `benchmarks/plans/planted_noise.yaml`: CIFAR-10 (10,000 training pictures at 16x16), a
ResNet-8, 20 epochs' worth of steps, wrong labels planted six ways, 5 % of the pictures with normal noise, probes drawn as a
user would who does not know the truth. Probes are left out of all figures. Mean of the seeds (lowest to highest).
"""


def several(values: Sequence[float | None], form: str = "{:.3f}") -> str:
    """Mean (lowest to highest), a dash where there is nothing."""
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    shown = form.format(statistics.fmean(known))
    return shown if len(known) == 1 else f"{shown} ({form.format(min(known))} to {form.format(max(known))})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(r) + " |" for r in rows), ""]


def noise_of(noise: dict[str, Any]) -> str:
    """A planted truth in words."""
    return f"{noise['label_noise']:.0%} {noise['noise']}"


def detection(result: dict[str, Any]) -> list[str]:
    """Areas under the curve, one row a detector."""
    noises, runs = result["plan"]["noises"], result["detection"]
    names = list(runs[0][0]["area"])
    rows = [[name, *(several([run["area"][name] for run in own]) for own in runs)] for name in names]
    folds = result.get("cross_validation")
    if folds:
        rows.append([f"confident learning, {folds[0]['folds']}-fold", *(f"{one['area']:.3f}" for one in folds)])
    lines = [
        "## Wrong labels",
        "",
        "Area under the ROC curve for “the label was changed”: 0.5 is guessing, 1 finds all before any other. All rows but the "
        "last cost nothing beyond the run itself; cross-validation cost "
        + (f"{statistics.fmean(one['seconds'] for one in folds):.0f} s of further training." if folds else "–."),
        "",
        *table(["", *map(noise_of, noises)], rows),
    ]
    return lines + called(result)


def called(result: dict[str, Any]) -> list[str]:
    """What is called a label error, and what cleanlab calls one."""
    noises, runs, folds = result["plan"]["noises"], result["detection"], result.get("cross_validation")

    def row(name: str, key: str, form: str = "{:.0%}") -> list[str]:
        return [name, *(several([run["called"][key] for run in own], form) for own in runs)]

    rows = [
        row("planted", "planted", "{:,.0f}"),
        row("called label errors", "called", "{:,.0f}"),
        row("of these wrong", "precision"),
        row("of the wrong ones called", "recall"),
        row("suggested label is the true one", "suggestion_right"),
    ]
    if folds and folds[0].get("cleanlab"):
        rows += [
            [f"cleanlab {folds[0]['cleanlab']}: called", *(f"{one['called']:,}" for one in folds)],
            ["of these wrong", *(f"{one['precision']:.0%}" for one in folds)],
            ["of the wrong ones called", *(f"{one['recall']:.0%}" for one in folds)],
        ]
    lines = ["What `reinvest suspects` calls a label error:", "", *table(["", *map(noise_of, noises)], rows)]
    clean = result.get("clean")
    if clean:
        share = several([run["called"] / run["judged"] for run in clean["runs"]], "{:.2%}")
        lines += [
            f"On {clean['task']['name']} ({clean['task']['train_examples']:,} examples, nothing planted; accuracy "
            f"{several([run['accuracy'] for run in clean['runs']])}) {share} of the examples are called label errors.",
            "",
        ]
    return lines


def kinds(result: dict[str, Any]) -> list[str]:
    """Balanced accuracy of three kinds."""
    noises, runs = result["plan"]["noises"], result["detection"]
    names = list(runs[0][0]["kinds"])
    rows = [[name, *(several([run["kinds"][name]["balanced"] for run in own]) for own in runs)] for name in names]
    about = (
        "Balanced accuracy over as it is / wrong label / noisy picture, of classifiers that learned from the probes: 0.333 is "
        "guessing."
    )
    return ["## Kinds", "", about, "", *table(["", *map(noise_of, noises)], rows)]


def acting(result: dict[str, Any]) -> list[str]:
    """Test accuracy of training again, and differences to the data as they are."""
    found = result["acting"]

    def difference(one: dict[str, Any], name: str) -> str:
        if name in one["refused"]:
            return f"refused for {one['refused'][name]} of the seeds"
        if name not in one["difference"]:
            return several(one["accuracy"][name])
        return f"{several(one['accuracy'][name])}; {points(one['difference'][name])}"

    names = dict.fromkeys(name for one in found for name in (*one["accuracy"], *one["refused"]))
    rows = [[name, *(difference(one, name) for one in found)] for name in names]
    about = (
        "Test accuracy of training again for as many steps with another seed, and behind it the difference to the data as they "
        "are in points, paired by seed, with its 95 % t-interval."
    )
    return ["## Acting on it", "", about, "", *table(["", *(noise_of(one["noise"]) for one in found)], rows)]


def points(gap: dict[str, float]) -> str:
    """A difference in points with its 95 % interval."""
    return f"{100 * gap['mean']:+.1f} ({100 * gap['low']:+.1f} to {100 * gap['high']:+.1f})"


def first_time(result: dict[str, Any]) -> str:
    """The differences of the first run of the acting part, for what depends on the lists."""
    ways = ("relabelled", "without the suspects", "without as many at random")
    return "; ".join(
        f"{way} {', '.join(points(one['difference'][way]) for one in result['acting_first'])}" for way in ways
    )


def hypotheses(result: dict[str, Any]) -> list[str]:
    """What the plan expected, and whether it came so."""
    pairs = zip(result["plan"]["noises"], result["detection"], result["cross_validation"], strict=True)
    gaps = [
        statistics.fmean(run["area"]["mean loss"] for run in own) - one["area"]
        for noise, own, one in pairs
        if noise["noise"] == "symmetric"
    ]
    met = all(abs(gap) <= 0.01 for gap in gaps)
    strong = next(one for one in result["acting"] if one["noise"] == {"label_noise": 0.4, "noise": "symmetric"})[
        "difference"
    ]
    ways = ("without the suspects", "without as many at random")
    ahead = [paired(*(one["accuracy"][way] for way in ways)) for one in result["acting"]]
    sure = sum(gap["low"] > 0 for gap in ahead)
    refused = sum(own["refused"].get("LabelCorrection from the first run", 0) for own in result["acting"])
    return [
        "## What was expected",
        "",
        f"- Mean loss of one run within 0.01 of cross-validation for symmetric noise: {'met' if met else 'not met'} (differences "
        + ", ".join(f"{gap:+.3f}" for gap in gaps)
        + ").",
        f"- Relabelled ahead of the data as they are at 40 % symmetric noise: "
        f"{'met' if strong['relabelled']['low'] > 0 else 'not shown'} ({100 * strong['relabelled']['mean']:+.1f} points).",
        f"- Dropping suspects ahead of dropping at random: by {', '.join(map(points, ahead))} points; the interval of {sure} of "
        f"{len(ahead)} lies above 0.",
        f"- LabelCorrection refused {refused} of {len(result['acting']) * result['plan']['seeds']} runs for their probes. (It refused "
        "all of them at first, by a check that asked too much of probes, which was then mended; all else had run by then.)",
        "- Cross-validation cost as many steps as three runs, not as two as the plan says: each fold's model trained as long as "
        "one on all data.",
        "- Against class dependent noise probes with random labels are the wrong probes: hardly anything is called, and what "
        "ranks best is the area under the margin, for which a run keeps margins.",
        "- Acting was run twice: at first on the lists of earlier code, which called fewer, then, as shown, on those counted above. "
        f"The first time, in points: {first_time(result)}.",
        "",
    ]


def page() -> str:
    """The whole page."""
    result = json.loads(RESULT.read_text(encoding="utf8"))
    parts: dict[str, Callable[[dict[str, Any]], list[str]]] = {"detect": detection, "kinds": kinds, "act": acting}
    lines = [line for name, part in parts.items() if name in (*result["parts"], "kinds") for line in part(result)]
    lines += hypotheses(result) if {"detect", "folds", "act"} <= set(result["parts"]) else []
    return "\n".join([HEAD, *lines]).rstrip() + "\n"


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf8")


if __name__ == "__main__":
    main()
