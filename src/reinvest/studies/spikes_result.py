"""The result of a search for spikes as plain values, from which page and text are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..dynamics.spike_findings import SpikeFinding, SpikeReport
from .sequence_result import read_kind
from .spikes import Replay
from .spikes_notes import notes_of, unjudged

__all__ = ["read_spikes", "spike_result"]

SCHEMA = 1
POINTS = 4000
"""Points of a curve at most: of each stretch of steps the highest."""


def spike_result(
    run: Any,
    report: SpikeReport,
    replays: Sequence[Replay] = (),
    without: Mapping[int, Any] | None = None,
    *,
    asked: bool = False,
) -> dict[str, Any]:
    """Everything as plain values, from which the page is drawn.

    replays: one for each spike of the report, or none. without: a `Without` for the first steps of some spikes. asked:
    whether a replay was asked for.
    """
    left = {} if without is None else {start: one.to_dict() for start, one in without.items()}
    from .. import __version__

    count, norm = len(report.spikes), report.gradient_norm if report.source == "steps" else torch.empty(0)
    first = unjudged(report)
    none = "no spike" if first < len(report.loss) else "nothing could be judged"
    found = none if not count else "one spike" if count == 1 else f"{count} spikes"
    return {
        "schema": SCHEMA,
        "kind": "spikes",
        "title": f"Loss spikes: {found} in {run.name}, seed {run.seed}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "run": run.id,
        "name": run.name,
        "task": run.task,
        "seed": run.seed,
        "source": report.source,
        "threshold": report.threshold,
        "window": report.window,
        "steps": len(report.loss),
        "unjudged": first,
        "hint": report.hint,
        "notes": notes_of(report, asked=asked),
        "series": {
            "loss": _thinned(report.loss, report.asked),
            "gradient norm": _thinned(norm),
        },
        "spikes": [
            {**_spike(spike, replays[k] if replays else None), "without": left.get(spike.start)}
            for k, spike in enumerate(report.spikes)
        ],
    }


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _spike(spike: SpikeFinding, replay: Replay | None) -> dict[str, Any]:
    high = [spike.layer_names.index(layer.name) for layer in spike.layers]
    shown = high or list(range(len(spike.layer_names)))
    return {
        "start": spike.start,
        "peak": spike.peak,
        "end": spike.end,
        "length": spike.end - spike.start + 1,
        "epoch": spike.epoch,
        "signals": list(spike.signals),
        "loss": _plain(spike.value),
        "usual": _plain(spike.usual),
        "z": _plain(spike.z),
        "gradient_norm": _plain(spike.gradient_norm),
        "gradient_peak": spike.gradient_peak,
        "usual_gradient_norm": _plain(spike.usual_gradient_norm),
        "cause": spike.cause,
        "batch": spike.batch,
        "needed": spike.needed,
        "share": _plain(spike.share),
        "suspects": list(spike.suspects),
        "ids": spike.ids.tolist(),
        "examples": [
            {"id": e.id, "loss": _plain(e.loss), "usual": e.usual, "rise": _plain(e.rise)} for e in spike.examples
        ],
        "layers": [
            {"name": r.name, "first": r.first, "z": _plain(r.z), "times": _plain(r.times)} for r in spike.layers
        ],
        "update_times": _plain(spike.update_times),
        "update_z": _plain(spike.update_z),
        "heat": {
            "steps": spike.around.tolist(),
            "layers": [spike.layer_names[k] for k in shown],
            "z": [[_plain(v) for v in spike.layer_z[:, k].tolist()] for k in shown],
        },
        "text": spike.text,
        "replay": None if replay is None else _replay(replay),
    }


def _replay(replay: Replay) -> dict[str, Any]:
    values = {name: getattr(replay, name) for name in Replay.__dataclass_fields__}
    return {**values, "asked": list(replay.asked), "text": replay.text}


def _thinned(values: Tensor, seen: Tensor | None = None) -> dict[str, list[Any]]:
    """Steps and values, of each stretch of the steps seen the highest, so that no spike is lost; None for what is not finite."""
    rows = torch.arange(len(values)) if seen is None or not bool(seen.any()) else seen.nonzero()[:, 0]
    each = max(1, math.ceil(len(rows) / POINTS))
    parts = (rows[begin : begin + each] for begin in range(0, len(rows), each))
    steps = [int(part[values[part].nan_to_num(math.inf, math.inf).argmax()]) for part in parts]
    return {"steps": steps, "values": [_plain(float(values[step])) for step in steps]}


def read_spikes(path: str | Path) -> dict[str, Any]:
    """Read a result file. Raises InvalidValue if it is absent, CorruptFile if it is none, SchemaTooNew for a later one."""
    return read_kind(path, "spikes", SCHEMA, "series", "a search for spikes'")
