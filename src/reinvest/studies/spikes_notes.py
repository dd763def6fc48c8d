"""What a search for spikes has to be read with: steps that could not be judged, and a replay that had nothing to replay."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.spikes import FIRST, LEAST, spike_z
from ..dynamics.spike_report import SpikeReport

__all__ = ["notes_of", "unjudged"]

CHUNK = 256
"""Steps that are scored at first; four times as many each time that none of them can be."""


def unjudged(report: SpikeReport) -> int:
    """How many steps (or epochs) at the beginning have no robust z in any signal, so that no spike is told of them."""
    loss = report.loss
    if report.source == "epochs":
        return _first(loss, ~loss.isnan(), lambda values: spike_z(values, report.window, FIRST))
    asked = torch.ones(len(loss), dtype=torch.bool) if report.asked is None else report.asked
    every = torch.ones(len(report.gradient_norm), dtype=torch.bool)
    signals = ((loss, asked), (report.gradient_norm, every))
    return min(_first(values, seen, lambda part: spike_z(part, report.window)) for values, seen in signals)


def _first(values: Tensor, seen: Tensor, score: Callable[[Tensor], Tensor]) -> int:
    """The first of the steps `seen` that has a score; all steps where none has. A long run is not scored to its end."""
    rows = seen.nonzero()[:, 0]
    size = CHUNK
    while True:
        known = (~score(values[rows[:size]]).isnan()).nonzero()
        if len(known):
            return int(rows[known[0, 0]])
        if size >= len(rows):
            return len(values)
        size *= 4


def notes_of(report: SpikeReport, *, asked: bool) -> list[str]:
    """Sentences without their stop. asked: whether a replay was asked for."""
    notes = []
    first = unjudged(report)
    if first and (report.source == "steps" or first < len(report.loss)):
        notes.append(_unseen(report, first))
    if asked and not report.spikes:
        notes.append(
            "nothing was trained again, because there is no spike to replay; a lower threshold finds smaller rises"
        )
    return notes


def _unseen(report: SpikeReport, first: int) -> str:
    steps, unit = len(report.loss), report.source[:-1]
    least = min(FIRST if report.source == "epochs" else LEAST, report.window)
    which = f"the first {first:,} of {steps:,}" if first < steps else f"none of the {steps:,}"
    text = (
        f"{which} {unit}s can{'not' if first < steps else ''} be judged: {'an' if unit == 'epoch' else 'a'} {unit} is "
        f"compared with up to {report.window:,} before it, and at least {least} of them need finite values"
    )
    # An epoch that never came has no mean loss.
    broken = ~report.loss.isfinite() if report.source == "steps" else report.loss.isinf()
    if report.asked is not None:
        broken &= report.asked
    if report.source == "steps":
        broken |= ~report.gradient_norm.isfinite()
    # A value that is not finite would be a spike anywhere else.
    at = broken[:first].nonzero()[:, 0].tolist()
    if at:
        return f"{text}; the value of {unit} {at[0]:,} is not finite"
    return text if first < steps else f"{text}; train longer"
