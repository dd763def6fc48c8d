"""Which labels are wrong, told by losses alone, and targets that a wrong label pulls less.

Right and wrong labels differ in their level: the mean of log(1 + loss) over some epochs. Levels are a mixture of two groups
only where something shows that there are two: hard examples have high losses too, and any mixture fits some of them as a
second group. So a valley between two modes is asked for first. Nothing here knows a model or a run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InvalidValue

DOUBT = math.log1p(math.log(2.0))
"""The level of a loss of log 2, where the label has half of the probability: a group of wrong labels lies above it."""
WIDTHS = (0.1, 0.15, 0.2, 0.3, 0.45, 0.6)
WIDE = (0.9, 1.3, 1.9)
"""Widths that are tried where those find nothing: of modes further apart than three windows none sees both."""
HIGHEST = 4.0
"""Level (a loss of 54) up to which a second mode is looked for; higher ones count as this one, whatever exploded there."""
SURE = 4.5
"""How many standard deviations a window must lie above the valley beside it."""
MOST = 20_000
"""Levels that a mixture is fitted to; of more, as many evenly spaced quantiles."""
LEAST = 20
"""Levels of a class without which it is not compared with others."""
UNIT = 6.0
"""Level that stands for 1 where levels are fitted by beta distributions; not the largest one, which one outlier decides."""
EDGE = 1e-4


@dataclass(frozen=True)
class Valley:
    """Between two modes: its middle, and by how many standard deviations the lower of both stands above it."""

    place: float
    strength: float


def levels_of(losses: Tensor) -> Tensor:
    """log(1 + loss), float32 of any shape; NaN where a loss is not finite."""
    found = losses.detach().float()
    return torch.where(found.isfinite(), found.clamp(min=0.0).log1p(), math.nan)


def find_valley(levels: Tensor) -> Valley | None:
    """The clearest valley of the distribution of levels float [N] below a mode of doubtful labels; None without one.

    Of three windows of one width side by side, the middle one must hold less than each of the others, by `SURE` standard
    deviations of a fair coin. The shares of equal windows of a distribution with one mode have one mode too, so that one
    of the two comparisons is then a fair coin or worse, and by the number of windows (439) the probability of
    finding a valley is below 0.2 % whatever the distribution. NaN does not count. Only windows above `DOUBT` can be
    the second mode: a group whose labels are believed on the whole is no group of wrong labels.
    """
    known = levels[~levels.isnan()].double().sort().values
    found: Valley | None = None
    for width in (*WIDTHS, *WIDE):
        if width == WIDE[0] and found is not None:
            break
        begin = torch.arange(DOUBT, HIGHEST, width / 4, dtype=torch.float64)
        edges = torch.stack([begin + k * width for k in (-2, -1, 0, 1)], 1)
        left, middle, right = torch.searchsorted(known, edges).diff(dim=1).double().unbind(1)
        rises = [(side - middle) / (side + middle).clamp(min=1.0).sqrt() for side in (left, right)]
        strength, at = torch.minimum(*rises).max(0)
        if float(strength) >= (SURE if found is None else found.strength):
            found = Valley(float(begin[at]) - width / 2, float(strength))
    return found


def align_classes(levels: Tensor, labels: Tensor) -> Tensor:
    """Levels [N] in which the middle half of each class has the mean of the middle half of all; none is below 0.

    Classes are learned one after the other, and one that is not learned yet is no group of wrong labels. labels: int64
    [N], below 0 for none. Classes with fewer than `LEAST` levels stay as they are. Raises InvalidValue for other shapes.
    """
    if labels.shape != levels.shape or labels.is_floating_point():
        raise InvalidValue(
            f"labels are one class an example, int64 {list(levels.shape)}, got {labels.dtype} {list(labels.shape)}; pass "
            "those of the same examples"
        )
    able = (~levels.isnan() & (labels >= 0)).nonzero()[:, 0]
    if not len(able):
        return levels
    order = able[levels[able].argsort()]
    every = _middle(levels[order], torch.tensor([len(order)]))
    order = order[labels[order].argsort(stable=True)]
    counts = labels[order].bincount()
    shift = torch.where(counts >= LEAST, _middle(levels[order], counts) - every, 0.0)
    found = levels.clone()
    found[able] = (levels[able].double() - shift[labels[able]]).clamp(min=0.0).to(levels.dtype)
    return found


def _middle(values: Tensor, counts: Tensor) -> Tensor:
    """Mean of the middle half of each of some sorted groups that lie one after the other: float64 [groups]."""
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), values.double().cumsum(0)])
    begin = counts.cumsum(0) - counts
    low, high = begin + counts // 4, begin + counts - counts // 4
    return (sums[high] - sums[low]) / (high - low).clamp(min=1)


def clean_mixture(levels: Tensor, noise: float | None = None, *, labels: Tensor | None = None) -> Tensor:
    """Probability that each label is right, float32 [N], out of levels float [N]: 1 is surely right; NaN stays.

    noise: the share of wrong labels if it is known, from 0 (all are right) to below 1; None finds it out. Then all are 1
    unless there is a valley (`find_valley`), and with one the levels are a mixture of two beta distributions (Arazo,
    Ortego, Albert, O'Connor, McGuinness, 1904.11238). A known share without a valley is fitted by two normal ones
    (2002.07394), and the mean of 1 - probability is the share. Probabilities never rise with the level. Whatever else
    makes a group of high losses looks like wrong labels; with labels (int64 [N]) classes do not (`align_classes`).
    Raises InvalidValue for another shape and for noise outside its range.
    """
    if not isinstance(levels, Tensor) or levels.ndim != 1 or not levels.is_floating_point():
        got = f"{levels.dtype} {list(levels.shape)}" if isinstance(levels, Tensor) else type(levels).__name__
        raise InvalidValue(f"levels are one number an example, float [N], got {got}; pass the mean of log(1 + loss)")
    check_noise(noise)
    if labels is not None:
        levels = align_classes(levels, labels)
    found = torch.where(levels.isnan(), math.nan, 1.0).float()
    valley = find_valley(levels)
    if noise == 0.0 or (noise is None and valley is None) or bool(levels.isnan().all()):
        return found
    known = ~levels.isnan()
    values = levels[known].double().cpu().clamp(max=HIGHEST)
    grid = values.sort().values
    if len(grid) > MOST:
        grid = grid[torch.arange(MOST) * (len(grid) - 1) // (MOST - 1)]
    cut = valley.place if valley is not None else float(torch.quantile(grid, 1.0 - (noise or 0.0)))
    wrong = _fit(grid, cut, noise, beta=valley is not None)
    if noise is not None:
        odds = torch.logit(wrong, eps=1e-9)
        wrong = torch.sigmoid(odds + moved(odds, noise))
    found[known.to(found.device)] = (1.0 - _interpolated(values, grid, wrong)).float().to(found.device)
    return found


def soften_labels(labels: Tensor, predicted: Tensor, p_clean: Tensor, classes: int) -> Tensor:
    """Targets p x onehot(label) + (1 - p) x onehot(predicted): [B, classes], in p_clean's precision.

    labels: int64 [B], below 0 gives a row of zeros. predicted: int64 [B], below 0 where nothing is known: then the label
    stays. p_clean: float [B]; 1 leaves the label, 0 gives the predicted class. Raises InvalidValue for other shapes and,
    on the CPU, for classes out of range and p_clean outside [0, 1].
    """
    if labels.ndim != 1 or predicted.shape != labels.shape or p_clean.shape != labels.shape:
        raise InvalidValue(
            "labels, predicted classes and probabilities are one number an example [B], got shapes "
            f"{list(labels.shape)}, {list(predicted.shape)} and {list(p_clean.shape)}; pass those of the same examples"
        )
    if labels.device.type == "cpu" and len(labels):
        highest = max(int(labels.max()), int(predicted.max()))
        if highest >= classes or not bool(((p_clean >= 0) & (p_clean <= 1)).all()):
            raise InvalidValue(
                f"classes lie in 0 .. {classes - 1} and probabilities in 0 .. 1, got class {highest} and probabilities "
                f"{float(p_clean.min()):g} .. {float(p_clean.max()):g}; check the labels and the number of outputs"
            )
    other = torch.where(predicted >= 0, 1.0 - p_clean, 0.0)
    valid = (labels >= 0).to(p_clean.dtype)
    table = p_clean.new_zeros(len(labels), classes)
    table.scatter_(1, labels.clamp(min=0).unsqueeze(1), ((1.0 - other) * valid).unsqueeze(1))
    return table.scatter_add_(1, predicted.clamp(min=0).unsqueeze(1), (other * valid).unsqueeze(1))


def check_noise(noise: float | None) -> None:
    """Raises InvalidValue unless it is None or a share from 0 to below 1."""
    plain = isinstance(noise, (int, float)) and not isinstance(noise, bool)
    if noise is not None and not (plain and 0.0 <= noise < 1.0):
        raise InvalidValue(
            f"noise is the share of wrong labels from 0 (none) to below 1, or None, got {noise!r}; leave it out where it "
            "is unknown"
        )


def _fit(grid: Tensor, cut: float, noise: float | None, *, beta: bool) -> Tensor:
    """Probability of the upper group at each of the sorted levels [K], by expectation and maximisation from `cut` on."""
    values = (grid / UNIT).clamp(EDGE, 1.0 - EDGE) if beta else grid
    wrong = torch.where(grid > cut, 0.95, 0.05).double()
    means = [0.0, 0.0]
    for _ in range(300):
        scores = []
        for k, part in enumerate((1.0 - wrong, wrong)):
            total = part.sum().clamp(min=1e-9)
            mean = float((part * values).sum() / total)
            variance = float((part * (values - mean).square()).sum() / total) + 1e-6
            means[k] = mean
            share = (1.0 - noise, noise)[k] if noise is not None else max(float(total) / len(grid), 1e-9)
            scores.append(math.log(max(share, 1e-9)) + (_log_beta if beta else _log_normal)(values, mean, variance))
        new = torch.sigmoid(scores[1] - scores[0])
        step = float((new - wrong).abs().max())
        wrong = new
        if step < EDGE:
            break
    # A wide group takes over far beyond a narrow one on both sides, where no label gets better by a higher loss.
    first, last = (int(torch.searchsorted(values, mean).clamp(max=len(values) - 1)) for mean in means)
    wrong[:first] = wrong[: first + 1].min()
    if last > first:
        wrong[last:] = wrong[last:].max()
    return wrong.cummax(0).values


def _log_beta(values: Tensor, mean: float, variance: float) -> Tensor:
    size = max(mean * (1.0 - mean) / variance - 1.0, 1e-2)
    a, b = mean * size, (1.0 - mean) * size
    whole = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return (a - 1.0) * values.log() + (b - 1.0) * torch.log1p(-values) - whole


def _log_normal(values: Tensor, mean: float, variance: float) -> Tensor:
    return -0.5 * ((values - mean).square() / variance + math.log(variance))


def moved(odds: Tensor, share: float) -> float:
    """The number that log-odds [N] are moved by, so that the mean of their probabilities is a share in (0, 1)."""
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.sigmoid(odds + middle).mean()) < share else (low, middle)
    return (low + high) / 2


def _interpolated(values: Tensor, grid: Tensor, wrong: Tensor) -> Tensor:
    """The curve (grid, wrong) [K] at other levels."""
    at = torch.searchsorted(grid, values).clamp(1, max(1, len(grid) - 1))
    if len(grid) == 1:
        return wrong.expand(len(values))
    below, above = grid[at - 1], grid[at]
    share = ((values - below) / (above - below).clamp(min=1e-12)).clamp(0.0, 1.0)
    return torch.lerp(wrong[at - 1], wrong[at], share)
