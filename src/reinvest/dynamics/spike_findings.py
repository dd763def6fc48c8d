"""What lay behind the loss spikes of a run: layers whose gradients rose, examples that carried the rise, the update before.

A run that was trained with the method SpikeWatch tells it step by step; any other with records epoch by epoch. Steps
and epochs count from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.errors import CorruptFile, InvalidValue, StoreError
from ..core.spikes import (
    CONSISTENT,
    FIRST,
    LEAST_SPREAD,
    THRESHOLD,
    WINDOW,
    find_spikes,
    robust_z,
    seen_z,
    spike_steps,
    spike_z,
)
from .spike_report import ExampleRise, LayerRise, SpikeFinding, SpikeReport
from .trajectories import TRAINING, Trajectories

__all__ = ["ExampleRise", "LayerRise", "SpikeFinding", "SpikeReport", "explain_spikes", "explained_epochs", "spikes_of"]

WATCH = "SpikeWatch"
ADD = "add SpikeWatch to the recipe (methods: [SpikeWatch])"
LEAD = 3
"""Steps before the first one of a spike in which something may already have been wrong: no part of what is usual."""
TOO_FAR = 2.0
"""Times the usual update below which one is not to blame: regular ones pass the threshold at a few per cent more."""
FEW = 0.1
"""Share of a batch that half of the rise may take to be called the doing of a few examples."""
EPOCHS_BACK = 2
"""Epochs whose median is an example's usual loss."""
SHOWN = 10
"""Examples that are listed at most."""

History = Callable[[Tensor], Tensor]
"""Losses float32 [B, E] of examples `ids` [B] in each epoch, NaN where not seen."""


def spikes_of(run: Any, threshold: float | None = None) -> SpikeReport:
    """The spikes of a stored run, explained as far as it kept what is needed.

    threshold: robust z above 0; None takes the watch's own. Raises StoreError for a run without watch and records,
    InvalidValue for a threshold outside its range.
    """
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 < threshold < math.inf):
        raise InvalidValue(f"a threshold is a finite robust z above 0, got {threshold!r}; 6 is usual")
    every = run.findings()
    found = every.get(WATCH)
    try:
        tracks = Trajectories.of(run, source=TRAINING)
    except CorruptFile:
        raise
    except StoreError as error:
        if found is None:
            raise StoreError(
                f"spikes are found in what a run kept of its steps or epochs, got run {run.id!r} without either ({error}); "
                f"{ADD} and train it again"
            ) from error
        tracks = None
    if found is None and tracks is not None:
        return _by_epochs(run, tracks, THRESHOLD if threshold is None else threshold)
    assert found is not None
    kept = found["threshold"]
    asked = threshold or (THRESHOLD if kept is None else kept)
    hint = ""
    if kept is None or asked < kept:
        hint = (
            f"windows were kept from robust z {'infinity' if kept is None else f'{kept:g}'} on: lower spikes have none"
        )
    if f"{WATCH} 2" in every:
        hint = "; ".join(
            part for part in (hint, "several chains of this run had a watch: only the first is told of") if part
        )
    spikes = explain_spikes(found, None if tracks is None else tracks.rows, asked)
    return SpikeReport(
        run.id,
        "steps",
        asked,
        found["window"],
        found["steps_per_epoch"],
        found["loss"],
        found["gradient_norm"],
        tuple(spikes),
        hint,
        asked_of(found),
    )


# ---- step by step --------------------------------------------------------------------------------------------------


def asked_of(found: Mapping[str, Any]) -> Tensor:
    """Steps in which a loop asked for a loss, bool [T]: where a watch did not keep that, all of them or none."""
    if "asked" in found:
        return found["asked"]  # type: ignore[no-any-return]
    return torch.full((len(found["loss"]),), bool(found["loss"].isfinite().any()))


def signal_z(found: Mapping[str, Any], name: str, score: Callable[..., Tensor] = spike_z) -> Tensor:
    """The z of "loss" or "gradient_norm" in what SpikeWatch found, float64 [T], NaN in a step without a loss."""
    if name == "loss":
        return seen_z(found["loss"], asked_of(found), found["window"], score=score)
    return score(found[name], found["window"])


def explain_spikes(
    found: Mapping[str, Any], history: History | None = None, threshold: float = THRESHOLD
) -> list[SpikeFinding]:
    """The spikes in what SpikeWatch found, in order. history tells what is usual for an example."""
    signals = {"gradient norm": found["gradient_norm"].double()}
    asked = asked_of(found)
    if bool(asked.any()):
        # Steps without a loss have the lowest, so that none of them is a peak.
        signals = {"loss": found["loss"].double().masked_fill(~asked, -math.inf), **signals}
    sudden = {name: signal_z(found, name.replace(" ", "_")) for name in signals}
    z = {name: signal_z(found, name.replace(" ", "_"), robust_z) for name in signals}
    begun, high = (torch.stack([values > threshold for values in each.values()]).any(0) for each in (sudden, z))
    return [_explained(found, signals, z, steps, history, threshold) for steps in spike_steps(begun, high)]


def _explained(
    found: Mapping[str, Any],
    signals: Mapping[str, Tensor],
    z: Mapping[str, Tensor],
    steps: list[int],
    history: History | None,
    threshold: float,
) -> SpikeFinding:
    start, end = steps[0], steps[-1]
    rose = tuple(name for name in signals if bool((z[name][steps] > threshold).any()))
    heights = {name: _peak(signals[name], steps) for name in signals}
    usual = {name: _usual(signals[name], start, found["window"]) for name in signals}
    base: dict[str, Any] = {
        "start": start,
        "peak": heights[rose[0]][0],
        "end": end,
        "epoch": start // max(1, found["steps_per_epoch"]),
        "signals": rose,
        "value": heights["loss"][1] if "loss" in heights else math.nan,
        "usual": usual.get("loss", math.nan),
        "z": max(float(z[name][steps].nan_to_num(-math.inf, math.inf).max()) for name in rose),
        "gradient_norm": heights["gradient norm"][1],
        "usual_gradient_norm": usual["gradient norm"],
        "gradient_peak": heights["gradient norm"][0],
    }
    near = [w for w in found["windows"] if start in w["steps"].tolist()]
    if not near:
        return SpikeFinding(**base)
    window = min(near, key=lambda w: abs(w["start"] - start))
    row = window["steps"].tolist().index(start)
    base["epoch"] = int(window["epochs"][row])
    base |= _layers(window, found["names"], start, end, threshold)
    base |= _update(window, row)
    base |= _examples(window, row, history, base["epoch"], base["usual"])
    # Weights that were thrown off hit some examples harder than others, which is not the doing of these.
    thrown = base.get("update_z", math.nan) > threshold and base["update_times"] >= TOO_FAR
    few = bool(base["suspects"]) and "loss" in rose and not thrown
    base["cause"] = "update" if thrown else "examples" if few else "batch" if "loss" in rose else "gradient"
    if not few:
        base["suspects"] = ()
    return SpikeFinding(**base)


def _peak(values: Tensor, steps: list[int]) -> tuple[int, float]:
    """Step and height of the highest value; what is not finite is highest."""
    at = int(values[steps].nan_to_num(math.inf).argmax())
    height = float(values[steps[at]])
    return steps[at], math.nan if height == -math.inf else height


def _usual(values: Tensor, start: int, window: int) -> float:
    past = values[max(0, start - window) : start]
    return float(past[past.isfinite()].quantile(0.5)) if bool(past.isfinite().any()) else math.nan


def _against(values: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """(robust z, median) of columns of `values` [n, L] against those of `base` [m, L]; NaN for fewer than 8 rows.

    The smaller z of values and logarithms, as in `spike_z`; of columns that are not positive throughout that of the values.
    """
    if len(base) < FIRST:
        return torch.full_like(values, math.nan), torch.full_like(values[0], math.nan)
    z, level = _distance(values, base)
    logs = _distance(values.log(), base.log())[0]
    z = torch.minimum(z, logs).where((values > 0).all(0) & (base > 0).all(0), z)
    return z.where(values.isfinite(), math.inf), level


def _distance(values: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    base = base.where(base.isfinite(), math.nan)
    level = base.nanquantile(0.5, dim=0)
    spread = CONSISTENT * (base - level).abs().nanquantile(0.5, dim=0)
    return (values - level) / torch.maximum(spread, LEAST_SPREAD * level.abs()).clamp(min=1e-300), level


def _by_layer(norms: Tensor, names: list[str]) -> tuple[list[str], Tensor]:
    """Norms [n, P] of parameters as those of the modules that hold them: (names, [n, L])."""
    layers = [name.rpartition(".")[0] or name for name in names]
    order = list(dict.fromkeys(layers))
    place = torch.tensor([order.index(layer) for layer in layers])
    squares = torch.zeros(len(norms), len(order), dtype=torch.float64)
    return order, squares.index_add_(1, place, norms.double().square()).sqrt_()


def _usual_rows(window: Mapping[str, Any], start: int) -> Tensor:
    return window["steps"] < start - LEAD  # type: ignore[no-any-return]


def _layers(window: Mapping[str, Any], names: list[str], start: int, end: int, threshold: float) -> dict[str, Any]:
    """Layers whose gradient norms rose, the first ones first, then the highest."""
    order, norms = _by_layer(window["gradient_norms"], names)
    z, level = _against(norms, norms[_usual_rows(window, start)])
    inside = ((window["steps"] >= start - LEAD) & (window["steps"] <= end)).nonzero()[:, 0]
    rises = []
    for k, name in enumerate(order):
        above = inside[z[inside, k] > threshold]
        if len(above):
            highest = float(norms[inside, k].nan_to_num(math.inf, math.inf).max())
            times = _times(highest, float(level[k]))
            rises.append(LayerRise(name, int(window["steps"][above[0]]), float(z[above, k].max()), times))
    rises.sort(key=lambda rise: (rise.first, -rise.z))
    return {"layers": tuple(rises), "around": window["steps"], "layer_names": tuple(order), "layer_z": z}


def _update(window: Mapping[str, Any], row: int) -> dict[str, float]:
    """How far the weights moved in the step before the spike, relative to their norm, against what is usual."""
    moved = window["update_norms"].double().square().sum(1).sqrt()
    held = window["weight_norms"].double().square().sum(1).sqrt().clamp(min=1e-300)
    ratio = (moved / held).unsqueeze(1)
    if row == 0:
        return {}
    z, level = _against(ratio, ratio[_usual_rows(window, int(window["steps"][row]))])
    return {"update_times": _times(float(ratio[row - 1, 0]), float(level[0])), "update_z": float(z[row - 1, 0])}


def _times(value: float, usual: float) -> float:
    """How many times the usual a value is; infinitely many where nothing is usual, NaN where the usual is not known.

    A value that is no number, as of an update of weights that are not finite, is beyond any size.
    """
    if math.isnan(usual):
        return math.nan
    if usual == 0.0:
        return 1.0 if value == 0.0 else math.inf
    return math.inf if math.isnan(value) else value / usual


def _examples(window: Mapping[str, Any], row: int, history: History | None, epoch: int, level: float) -> dict[str, Any]:
    """Who carried the rise of the first batch's loss, measured against what each one usually has."""
    begin, size = int(window["counts"][:row].sum()), int(window["counts"][row])
    losses = window["losses"][begin : begin + size].double()
    if not len(window["ids"]) or not size:
        return {"batch": size, "suspects": ()}
    ids = window["ids"][begin : begin + size]
    usual = torch.full_like(losses, math.nan) if history is None else _own_level(history(ids).double(), epoch)
    rise = (losses - usual.where(usual.isfinite(), level)).clamp(min=0.0)
    broken = ~losses.isfinite()
    rise[broken] = math.inf
    order = rise.argsort(descending=True, stable=True)
    if bool(broken.any()):
        needed, share = int(broken.sum()), 1.0
    else:
        shares = rise[order].cumsum(0) / rise.sum().clamp(min=1e-300)
        needed = min(int((shares < 0.5).sum()) + 1, size)
        share = float(shares[needed - 1])
    few = needed <= max(1, math.floor(FEW * size)) and float(rise[order[0]]) > 0.0 and size > 1
    listed = [
        ExampleRise(
            int(ids[k]), float(losses[k]), float(usual[k]) if bool(usual[k].isfinite()) else None, float(rise[k])
        )
        for k in order[:SHOWN].tolist()
    ]
    suspects = tuple(ids[order[:needed]].tolist()) if few else ()
    return {
        "batch": size,
        "needed": needed,
        "share": share,
        "suspects": suspects,
        "examples": tuple(listed),
        "ids": ids,
    }


def _own_level(rows: Tensor, epoch: int) -> Tensor:
    """The median loss [B] of the epochs right before `epoch`, or right after it for an example not seen before."""
    before = rows[:, max(0, epoch - EPOCHS_BACK) : epoch]
    after = rows[:, epoch + 1 : epoch + 1 + EPOCHS_BACK]
    none = torch.full((len(rows),), math.nan, dtype=rows.dtype)
    first = before.nanmedian(1).values if before.shape[1] else none
    second = after.nanmedian(1).values if after.shape[1] else none
    return first.where(first.isfinite(), second)


# ---- epoch by epoch ------------------------------------------------------------------------------------------------


def _by_epochs(run: Any, tracks: Trajectories, threshold: float) -> SpikeReport:
    curve, spikes = explained_epochs(tracks, threshold)
    few = (
        ""
        if tracks.epochs > FIRST
        else f"; and its {tracks.epochs} epochs are too few, from {FIRST + 1} on one is compared"
    )
    hint = f"this run kept mean losses of whole epochs only{few}; to see steps, batches and layers {ADD}"
    none = torch.full_like(curve, math.nan)
    return SpikeReport(run.id, "epochs", threshold, WINDOW, 1, curve, none, tuple(spikes), hint)


def explained_epochs(tracks: Trajectories, threshold: float = THRESHOLD) -> tuple[Tensor, list[SpikeFinding]]:
    """(mean loss float64 [E] of each epoch, the spikes in it with the examples whose losses rose most)."""
    total = torch.zeros(tracks.epochs, dtype=torch.float64)
    count = torch.zeros_like(total)
    for _, rows in tracks.blocks():
        known = ~rows.isnan()
        total += rows.double().where(known, 0.0).sum(0)
        count += known.sum(0)
    curve = total / count  # NaN for an epoch that never came, or whose batches were all mixed
    seen = count.nonzero()[:, 0]
    values = curve[seen]
    spikes = []
    for spike in find_spikes(values, threshold, z=spike_z(values, WINDOW, FIRST)):
        start, peak, end = (int(seen[place]) for place in (spike.start, spike.peak, spike.end))
        spikes.append(
            SpikeFinding(
                start,
                peak,
                end,
                start,
                ("loss",),
                spike.value,
                _usual(values, spike.start, WINDOW),
                spike.z,
                math.nan,
                math.nan,
                peak,
                cause="epoch",
                batch=int(count[start]),
                examples=_risen(tracks, seen[: spike.start + 1]),
            )
        )
    return curve, spikes


def _risen(tracks: Trajectories, epochs: Tensor) -> tuple[ExampleRise, ...]:
    """The examples whose losses in the last of `epochs` lie highest above those of the others right before."""
    last = int(epochs[-1])
    found: list[ExampleRise] = []
    for start, rows in tracks.blocks():
        usual = _own_level(rows[:, epochs[-1 - EPOCHS_BACK :]].double(), min(EPOCHS_BACK, len(epochs) - 1))
        rise = (rows[:, last].double() - usual).nan_to_num(-math.inf, math.inf)
        for k in rise.topk(min(SHOWN, len(rise))).indices.tolist():
            if float(rise[k]) > 0.0:
                found.append(ExampleRise(start + k, float(rows[k, last]), float(usual[k]), float(rise[k])))
        found = sorted(found, key=lambda e: (-e.rise, e.id))[:SHOWN]
    return tuple(found)
