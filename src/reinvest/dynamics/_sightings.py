"""What is drawn of suspects: the course of each one's loss, what the model said in its place, and what is usual."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .trajectories import Trajectories

SAMPLE = 20_000
NOT_SEEN, GIVEN, SUGGESTED, OTHER = range(4)
"""Values of `answers_of`."""
SHARES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Band:
    """Of the losses of some examples in each epoch, float32 [E]: the 10 %, 50 % and 90 % quantiles, NaN where none is."""

    name: str
    low: Tensor
    middle: Tensor
    high: Tensor


def bands_of(run: Trajectories, kept: Tensor, ordinary: Tensor) -> tuple[Band, ...]:
    """Bands of the ordinary examples (bool [N]; 20,000 of them at equal distances if they are more), and of the probes."""
    ids = ordinary.nonzero()[:, 0]
    if len(ids) > SAMPLE:
        ids = ids[torch.arange(SAMPLE) * len(ids) // SAMPLE]
    sets = [("all examples" if run.probes is None else "ordinary examples", ids)]
    if run.probes is not None:
        sets += [(f"probes: {name}", run.probes.of(name)) for name in run.probes.names]
    return tuple(_band(name, run.rows(own)[:, kept]) for name, own in sets)


def answers_of(run: Trajectories, kept: Tensor, ids: Tensor, suggested: Tensor) -> Tensor | None:
    """Whose class the model said of examples `ids` [S] in each epoch, uint8 [S, E]; None where records do not tell."""
    if run.predicted is None or run.labels is None:
        return None
    said = run.rows(ids, "predicted")[:, kept]
    found = torch.full(said.shape, OTHER, dtype=torch.uint8)
    found[said == suggested.unsqueeze(1)] = SUGGESTED
    found[said == run.labels[ids].unsqueeze(1)] = GIVEN
    found[said.isnan()] = NOT_SEEN
    return found


def _band(name: str, losses: Tensor) -> Band:
    finite = losses.masked_fill(~losses.isfinite(), torch.nan)
    low, middle, high = torch.nanquantile(finite, torch.tensor(SHARES), dim=0)
    return Band(name, low, middle, high)
