"""`reinvest report RESULT.json`: the report drawn again from a stored result, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from ._output import Output
from ._parser import Command, Parser, option
from ._verdicts import print_table, target


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "result",
        type=str,
        metavar="RESULT.json",
        help="the JSON file that compare, demo, sequence, ablate, tune, spikes --out, outcomes --out, plan --out, "
        "variance --out, gate --out, workloads --out or verdict --out wrote",
    )
    option(parser, "--out", type=str, metavar="FILE.html", help="the report (default: the result's path with .html)")


def _run(options: Namespace, out: Output) -> int:
    kind = _kind(options.result)
    if kind in ("sequence", "ablation", "spikes", "outcomes", "plan", "tuning", "variance", "gate", "workloads"):
        return _study_page(kind, options, out)
    from ..evaluation.result import read_result

    result = read_result(options.result)
    file = target(options.get("out") or str(Path(options.result).with_suffix(".html")))
    from ..report.html import write_report

    write_report(result, file)
    print_table(result, out)
    verdicts = {arm: entry["verdict"] for arm, entry in result["arms"].items() if entry["verdict"] is not None}
    out.give({"report": str(file), "title": result["title"], "verdicts": verdicts}, lambda: f"\nReport: {file}")
    return 0


def _kind(path: str) -> str:
    """The kind of a result; "" for what is none, which its reader then refuses."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf8"))
        return str(found.get("kind", "")) if isinstance(found, dict) else ""
    except (OSError, ValueError):
        return ""


def _study_page(kind: str, options: Namespace, out: Output) -> int:
    """The page and tables of a sequence study, an ablation, a search for spikes, outcomes, a tuning, or a variance."""
    from ..evaluation.planning import SCHEMA as PLAN_SCHEMA
    from ..evaluation.workloads import SCHEMA as WORKLOADS_SCHEMA
    from ..report.ablation import print_ablation
    from ..report.gate import print_gate
    from ..report.outcomes import print_outcomes
    from ..report.pages import catalog
    from ..report.plan import print_plan
    from ..report.sequence import print_sequence
    from ..report.spikes import print_spikes
    from ..report.tune import print_tuning
    from ..report.variance import print_variance
    from ..report.workloads import print_workloads
    from ..studies.ablation import read_ablation
    from ..studies.gate_result import SCHEMA as GATE_SCHEMA
    from ..studies.outcomes import read_outcomes
    from ..studies.sequence_result import read_kind, read_sequence
    from ..studies.spikes_result import read_spikes
    from ..studies.tune_result import read_tuning
    from ..studies.variance import read_variance

    read, show = {
        "sequence": (read_sequence, print_sequence),
        "ablation": (read_ablation, print_ablation),
        "spikes": (read_spikes, print_spikes),
        "outcomes": (read_outcomes, print_outcomes),
        "plan": (lambda path: read_kind(path, "plan", PLAN_SCHEMA, "planned", "a plan's"), print_plan),
        "tuning": (read_tuning, print_tuning),
        "variance": (read_variance, print_variance),
        "gate": (lambda path: read_kind(path, "gate", GATE_SCHEMA, "parts", "a gate's"), print_gate),
        "workloads": (
            lambda path: read_kind(path, "workloads", WORKLOADS_SCHEMA, "workloads", "several workloads'"),
            print_workloads,
        ),
    }[kind]
    result: dict[str, Any] = read(options.result)
    file = target(options.get("out") or str(Path(options.result).with_suffix(".html")))
    catalog[kind](result, file)
    out.show(lambda console: show(result, console))
    out.give({"report": str(file), "title": result["title"], "kind": kind}, lambda: f"\nPage: {file}")
    return 0


REPORT = Command(
    about="Draw the report of a stored result again: one HTML file that works offline. Trains and measures nothing.",
    examples=(
        "reinvest report report.json",
        "reinvest report study.json --out shared.html",
        "reinvest report study.json --json",
    ),
    arguments=_arguments,
    run=_run,
)
