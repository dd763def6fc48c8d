"""`reinvest spikes RUN`: where the loss of a run rose suddenly, which layers and examples it was, and whether it does again."""

from __future__ import annotations

import json
from typing import Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue
from ._output import Output
from ._parser import Command, Parser, option, store_option
from ._verdicts import target


def _arguments(parser: Parser) -> None:
    parser.add_argument("run", type=str, metavar="RUN", help="a run's id, or the first digits of it")
    store_option(parser)
    option(
        parser,
        "--threshold",
        type=float,
        metavar="Z",
        help="robust z above which a step is part of a spike (default: that of the run's SpikeWatch, 6 without one)",
    )
    parser.add_argument(
        "--replay",
        action="store_true",
        help=(
            "train the run again until its last spike is over, and in full with another seed; takes up to twice the run's "
            "time, stores nothing"
        ),
    )
    option(
        parser, "--out", type=str, metavar="FILE.html", help="write the page; FILE.json beside it holds every figure"
    )


def _run(options: Namespace, out: Output) -> int:
    from ..dynamics.spike_findings import spikes_of
    from ..store import Store
    from ..studies.spikes import replay_spikes, spike_result

    file = target(options.out) if options.get("out") else None
    store = Store(options.store)
    run = store.get(options.run)
    threshold = options.get("threshold")
    report = spikes_of(run, threshold)
    replays: list[Any] = []
    if options.replay:
        if report.source != "steps":
            raise InvalidValue(
                f"a replay needs the steps of a spike, got run {run.id!r}, which kept epochs only; "
                "add SpikeWatch to the recipe (methods: [SpikeWatch]) and train it again"
            )
        replays = replay_spikes(run, report.spikes, store=store, threshold=report.threshold)
    result = spike_result(run, report, replays)
    from ..report.spikes import print_spikes, write_spikes

    if file is not None:
        write_spikes(result, file)
        text = json.dumps(result, ensure_ascii=False, allow_nan=False, indent=1)
        file.with_suffix(".json").write_text(text + "\n", encoding="utf8")
    out.show(lambda console: print_spikes(result, console))
    kept = {name: value for name, value in result.items() if name != "series"}
    pages = {} if file is None else {"report": str(file), "result": str(file.with_suffix(".json"))}
    out.give({**kept, **pages}, None if file is None else lambda: f"\nPage: {file}")
    return 0


SPIKES = Command(
    about=(
        "Find the sudden rises of loss and gradient norm in a stored run, and say of each: where, how high and how long; in\n"
        "which layers the gradients rose first; whether a few examples carried it (and which), or the update before; and\n"
        "with --replay whether the same steps spike again, and whether the same examples do with another seed.\n\n"
        "Step by step this needs a run that was trained with the method SpikeWatch, which changes nothing in training:\n"
        "  methods: [SpikeWatch]\n"
        "Of any other run with records, whole epochs are compared. Steps and epochs count from 0."
    ),
    examples=(
        "reinvest spikes 3f2a",
        "reinvest spikes 3f2a --threshold 10 --out spikes.html",
        "reinvest spikes 3f2a --store /data/runs --replay --json",
    ),
    arguments=_arguments,
    run=_run,
)
