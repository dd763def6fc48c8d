"""`reinvest spikes RUN`: where the loss of a run rose suddenly, which layers and examples it was, and whether it does again."""

from __future__ import annotations

import json
from typing import Any

from jsonargparse import Namespace

from ..core.errors import InvalidValue, unknown
from ._output import Output
from ._parser import Command, Parser, option, store_option
from ._verdicts import target

SUSPECTS = "suspects"


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
        parser,
        "--without",
        type=str,
        metavar="IDS",
        help=(
            "with --replay: train again up to the end of one spike only, with these examples left out of its batches (ids "
            'with commas between, or "suspects" for those that the spike is blamed on), and say whether it still comes'
        ),
    )
    parser.add_argument("--without-batch", action="store_true", help="the same without the spike's whole first batch")
    option(
        parser,
        "--spike",
        type=int,
        metavar="STEP",
        help="the spike that --without is about, by its first step (default: the highest)",
    )
    option(
        parser, "--out", type=str, metavar="FILE.html", help="write the page; FILE.json beside it holds every figure"
    )


def _run(options: Namespace, out: Output) -> int:
    from ..dynamics.spike_findings import spikes_of
    from ..store import Store
    from ..studies.spikes import replay_spikes
    from ..studies.spikes_result import spike_result

    file = target(options.out) if options.get("out") else None
    _check_without(options)
    store = Store(options.store)
    run = store.get(options.run)
    threshold = options.get("threshold")
    report = spikes_of(run, threshold)
    replays: list[Any] = []
    without: dict[int, Any] = {}
    if options.replay:
        if report.source != "steps":
            raise InvalidValue(
                f"a replay needs the steps of a spike, got run {run.id!r}, which kept epochs only; "
                "add SpikeWatch to the recipe (methods: [SpikeWatch]) and train it again"
            )
        if _leaves_out(options):
            without = _without(options, run, report, store)
        else:
            replays = replay_spikes(run, report.spikes, store=store, threshold=report.threshold)
    result = spike_result(run, report, replays, without, asked=options.replay)
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


def _leaves_out(options: Namespace) -> bool:
    return bool(options.without_batch) or options.get("without") is not None


def _check_without(options: Namespace) -> None:
    if options.without_batch and options.get("without") is not None:
        raise InvalidValue(
            f"either some examples are left out or the whole batch, got --without {options.without} and --without-batch; drop one"
        )
    if _leaves_out(options) and not options.replay:
        raise InvalidValue(
            "examples are left out of a replay, got --without or --without-batch alone; add --replay, which trains again"
        )
    if options.get("spike") is not None and not _leaves_out(options):
        raise InvalidValue(
            f"a spike is chosen for a replay with examples left out, got --spike {options.spike} alone; add --without IDS or "
            "--without-batch"
        )
    if options.get("without") not in (None, SUSPECTS):
        _ids(options.without)


def _ids(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidValue(
            f"ids are whole numbers with commas between them, or {SUSPECTS}, got --without {text!r}; write --without 17,40"
        )
    return [int(part) for part in parts]


def _without(options: Namespace, run: Any, report: Any, store: Any) -> dict[int, Any]:
    """What came of the chosen spike with examples left out, by its first step."""
    from ..studies.spikes_without import replay_without

    if not report.spikes:
        raise InvalidValue(
            f"examples are left out of a spike's batches, got run {run.id!r} without a spike above robust z {report.threshold:g}; "
            "lower --threshold"
        )
    known = {spike.start: spike for spike in report.spikes}
    spike = max(report.spikes, key=lambda one: one.z)
    if options.get("spike") is not None:
        if options.spike not in known:
            raise unknown("first step of a spike", str(options.spike), map(str, known))
        spike = known[options.spike]
    ids = None if options.without_batch else list(spike.suspects)
    if options.get("without") not in (None, SUSPECTS):
        ids = _ids(options.without)
    if ids is not None and not ids:
        raise InvalidValue(
            f"suspects are left out where a few examples carried the spike, got the one at step {spike.start:,}, blamed on none; "
            "name ids, or use --without-batch"
        )
    return {spike.start: replay_without(run, spike, ids, store=store, threshold=report.threshold)}


SPIKES = Command(
    about=(
        "Find the sudden rises of loss and gradient norm in a stored run, and say of each: where, how high and how long; in\n"
        "which layers the gradients rose first; whether a few examples carried it (and which), or the update before; and\n"
        "with --replay whether the same steps spike again, and whether the same examples do with another seed; with --without\n"
        "or --without-batch whether a spike comes without them, too.\n\n"
        "Step by step this needs a run that was trained with the method SpikeWatch, which changes nothing in training:\n"
        "  methods: [SpikeWatch]\n"
        "Of any other run with records, whole epochs are compared. Steps and epochs count from 0. The first 30 steps (or 8\n"
        "epochs) have too few before them to be judged; what is said of a run names them."
    ),
    examples=(
        "reinvest spikes 3f2a",
        "reinvest spikes 3f2a --threshold 10 --out spikes.html",
        "reinvest spikes 3f2a --store /data/runs --replay --json",
        "reinvest spikes 3f2a --replay --without suspects",
        "reinvest spikes 3f2a --replay --without-batch --spike 4711",
    ),
    arguments=_arguments,
    run=_run,
)
