"""Trajectories made by hand or drawn: what a run would have kept of examples whose kind is known."""

from __future__ import annotations

import torch

from reinvest.core.probes import Probes
from reinvest.dynamics.trajectories import Trajectories

NOT_SEEN = 255


def run_of(loss, predicted, labels, **more):
    """Trajectories of rows: losses, classes said (-1: not seen) and labels, as lists."""
    said = torch.tensor(predicted)
    return Trajectories(
        torch.tensor(loss, dtype=torch.float32),
        predicted=said.masked_fill(said < 0, NOT_SEEN).to(torch.uint8),
        labels=torch.tensor(labels),
        **{"classes": 3, "class_names": ("ant", "bee", "cat"), "namespace": "insects", "fingerprint": "f", **more},
    )


def drawn(count=1000, epochs=20, wrong=0.1, seed=0, classes=5, probes=0, memorised=15, spread=0.4, **more):
    """(Trajectories, bool [N] wrong labels, true labels): right ones are learned early, wrong ones by heart near `memorised`.

    probes: how many reference and validation probes with random labels there are; they count among the examples.
    """
    g = torch.Generator().manual_seed(seed)
    true = torch.randint(classes, (count,), generator=g)
    is_probe = torch.arange(count) < 2 * probes
    bad = (torch.rand(count, generator=g) < wrong) & ~is_probe
    other = (true + torch.randint(1, classes, (count,), generator=g)) % classes
    changed = bad | is_probe
    labels = torch.where(changed, other, true)
    when = torch.where(changed, float(memorised), 2.0) * (1 + spread * torch.randn(count, generator=g)).clamp(min=0.1)
    time = torch.arange(epochs).float()
    # Before it is learned an example costs what its class's other answers leave; then the loss falls off.
    loss = torch.where(changed, 2.5, 1.5).unsqueeze(1) / (1 + torch.exp((time - when.unsqueeze(1)) / 1.5))
    loss = (loss * (1 + 0.2 * torch.randn(count, epochs, generator=g)).clamp(min=0.05)).clamp(min=1e-3)
    noise = torch.randint(classes, (count, epochs), generator=g)
    early = torch.where(torch.rand(count, epochs, generator=g) < 0.8, true.unsqueeze(1), noise)
    said = torch.where(time >= when.unsqueeze(1), labels.unsqueeze(1), early)
    planted = None
    if probes:
        ids = torch.arange(2 * probes)
        planted = Probes(("random label",), ids, torch.zeros_like(ids), ids % 2 == 0, labels[ids])
    run = Trajectories(
        loss,
        predicted=said.to(torch.uint8),
        labels=labels,
        classes=classes,
        namespace="drawn",
        fingerprint="f",
        probes=planted,
        **more,
    )
    return run, bad, true
