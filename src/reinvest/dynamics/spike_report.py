"""A spike of the loss as it was found, and in one paragraph of plain English."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["ExampleRise", "LayerRise", "SpikeFinding", "SpikeReport"]

NAMED = 5
"""Examples and layers that a paragraph names at most."""


@dataclass(frozen=True)
class LayerRise:
    """A layer whose gradient norm passed the threshold: the first step, its highest robust z, and how many times the usual."""

    name: str
    first: int
    z: float
    times: float


@dataclass(frozen=True)
class ExampleRise:
    """An example's loss in the spike's first batch, what is usual for it (None: unknown), and the difference."""

    id: int
    loss: float
    usual: float | None
    rise: float


@dataclass(frozen=True)
class SpikeFinding:
    """One spike: steps `start` to `end` (both included), in "loss", in "gradient norm" or in both.

    value, usual: highest loss (at `peak`), and the median of the steps before; z: highest robust z of either signal. cause: "examples"
    (a few carried it), "update" (the step before moved the weights too far), "gradient" (the loss did not rise), "batch"
    (neither is known of) or "unknown" (no window was kept). needed: how many examples of the `batch` carry half of the
    rise, who are the `suspects` where they are few; share: what they carry. update_times, update_z: the relative update
    before the spike against the usual one. around [n] and layer_z [n, L] draw the layers named `layer_names`.
    """

    start: int
    peak: int
    end: int
    epoch: int
    signals: tuple[str, ...]
    value: float
    usual: float
    z: float
    gradient_norm: float
    usual_gradient_norm: float
    gradient_peak: int
    cause: str = "unknown"
    batch: int = 0
    needed: int = 0
    share: float = math.nan
    suspects: tuple[int, ...] = ()
    examples: tuple[ExampleRise, ...] = ()
    layers: tuple[LayerRise, ...] = ()
    update_times: float = math.nan
    update_z: float = math.nan
    ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64), compare=False)
    around: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64), compare=False)
    layer_names: tuple[str, ...] = ()
    layer_z: Tensor = field(default_factory=lambda: torch.empty(0, 0), compare=False)

    @property
    def text(self) -> str:
        """One paragraph in plain English."""
        return _told(self)


@dataclass(frozen=True)
class SpikeReport:
    """The spikes of a run, found in its "steps" or, without a watch, in its "epochs"; hint: what was missing, or ""; asked:
    bool [T], steps that have a loss, None for all."""

    run: str
    source: str
    threshold: float
    window: int
    steps_per_epoch: int
    loss: Tensor
    gradient_norm: Tensor
    spikes: tuple[SpikeFinding, ...]
    hint: str = ""
    asked: Tensor | None = None


def _told(spike: SpikeFinding) -> str:
    """What rose, when and how long; which layers; who or what is to blame, as far as it is known."""
    return " ".join(part for part in (_what(spike), _layers(spike), _who(spike)) if part)


def _rose(what: str, value: float, usual: float) -> str:
    """ "the loss rose to 4.1 from about 1.2"."""
    before = f"about {usual:.3g}" if math.isfinite(usual) else "what was not finite before"
    return (
        f"{what} rose to {value:.3g} from {before}"
        if math.isfinite(value)
        else f"{what} was not finite ({before} usually)"
    )


def _robust(z: float) -> str:
    return f"robust z {z:.3g}" if math.isfinite(z) else "no finite robust z"


def _times(value: float) -> str:
    return (
        "infinitely many times"
        if math.isinf(value)
        else "more than a million times"
        if value > 1e6
        else f"{value:,.0f} times"
        if value >= 100
        else f"{value:.3g} times"
    )


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - NAMED:,} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more


def _what(spike: SpikeFinding) -> str:
    if spike.cause == "epoch":
        long = "" if spike.end == spike.start else f" and stayed high until epoch {spike.end}"
        text = _rose("the mean loss", spike.value, spike.usual)
        return f"In epoch {spike.start} {text} ({_robust(spike.z)}){long}."
    steps = spike.end - spike.start + 1
    long = "for one step" if steps == 1 else f"within {steps:,} steps"
    gradient = _rose("the gradient norm", spike.gradient_norm, spike.usual_gradient_norm)
    if "loss" not in spike.signals:
        known = math.isfinite(spike.value)  # a loop of one's own need not ask the chain for a loss
        text = f"{gradient}, while the loss stayed as it was" if known else gradient
    else:
        more = f", and {gradient}" if "gradient norm" in spike.signals else ""
        text = _rose("the loss", spike.value, spike.usual) + more
    return f"At step {spike.start:,} (epoch {spike.epoch}) {text} ({_robust(spike.z)}), {long}."


def _layers(spike: SpikeFinding) -> str:
    if not spike.layers:
        known = bool(spike.layer_z.isfinite().any())
        return "The gradient norm of no layer rose beyond the usual." if known else ""
    first = spike.layers[0]
    total = len(spike.layer_names)
    where = f"{first.name} (at step {first.first:,}, {_times(first.times)} its usual norm)"
    earlier = any(layer.first > first.first for layer in spike.layers)
    if len(spike.layers) == total > 1:
        return f"The gradient norms of all {total} layers rose, {'first' if earlier else 'most'} in {where}."
    if len(spike.layers) == 1:
        return f"Of the {total} layers the gradient norm of one rose: {where}."
    order = "first" if earlier else "most"
    return f"The gradient norms of {len(spike.layers)} of the {total} layers rose, {order} in {where}."


def _who(spike: SpikeFinding) -> str:
    if spike.cause == "epoch":
        if not spike.examples:
            return ""
        listed = _listed([str(e.id) for e in spike.examples])
        return f"The losses of these examples rose most: ids {listed}."
    if spike.cause == "unknown":
        return "What lay around it was not kept."
    if spike.cause == "examples":
        count = len(spike.suspects)
        who = "One" if count == 1 else str(count)
        return (
            f"{who} of the {spike.batch:,} examples of that batch carried {spike.share:.0%} of the rise: "
            f"{'id' if count == 1 else 'ids'} {_listed([str(i) for i in spike.suspects])}; look there for a wrong label or a "
            "damaged input."
        )
    if spike.cause == "update":
        return (
            f"The update of the step before was {_times(spike.update_times)} as large as usual ({_robust(spike.update_z)}): "
            "that step moved the weights too far (by its learning rate or its gradient), and the data of this one are not to "
            "blame."
        )
    if spike.cause == "gradient":
        return ""
    spread = (
        f"No few examples carried it: half of the rise takes {spike.needed:,} of the {spike.batch:,} of that batch."
        if spike.needed
        else "Which examples carried it is not known, since the batches had no ids."
    )
    if not math.isfinite(spike.update_z):
        return f"{spread} How far the weights usually moved before is not known."
    return f"{spread} The update before was {_times(spike.update_times)} as large as usual: it takes this batch and these weights."
