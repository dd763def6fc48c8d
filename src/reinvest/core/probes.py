"""Probes: examples of one's own data whose kind is known, because it was made so or chosen so.

Trained along with the rest, they show what the loss of each kind looks like over time under this recipe. Wrong labels
and spoiled inputs are learned like any other example, so a model trained with probes is for looking, not for shipping.
Siddiqui, Rajkumar, Maharaj, Krueger, Hooker, 2209.10015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InvalidValue, unknown
from .streams import example_integers, example_uniform

KINDS = {
    "as it is": "an example drawn at random and left as it is, right or wrong",
    "typical": "the lowest scores of an earlier run",
    "atypical": "the highest scores of an earlier run",
    "random label": "a label drawn from the other classes",
    "noise": "an input with normal noise added",
    "blur": "an input averaged over 3 x 3 pixels, twice",
    "out of distribution": "a picture redrawn as a pencil sketch, its label kept",
}
USUAL = ("as it is", "random label", "noise")
CHOSEN = ("typical", "atypical")
SPOILED = ("noise", "blur", "out of distribution")
"""Kinds whose input is changed; `spoiled` makes them."""


@dataclass(frozen=True, eq=False)
class Probes:
    """ids int64 [P], each once; kinds int64 [P], numbers into `names`; reference bool [P], the others are validation.

    labels int64 [P]: what each is to be trained with; its own label but for the kind "random label".
    """

    names: tuple[str, ...]
    ids: Tensor
    kinds: Tensor
    reference: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, kind: str) -> Tensor:
        """Ids of one kind, int64. Raises UnknownName for a kind that there is none of."""
        if kind not in self.names:
            raise unknown("kind of probe", kind, self.names)
        return self.ids[self.kinds == self.names.index(kind)]


def choose_probes(
    labels: Tensor,
    kinds: Sequence[str] = USUAL,
    count: int = 250,
    *,
    classes: int | None = None,
    scores: Tensor | None = None,
    among: Tensor | None = None,
    seed: int = 0,
) -> Probes:
    """Draw `count` reference and `count` validation probes of each kind; no example is in two of them.

    labels: int64 [N]. kinds: of `KINDS`. classes: number of labels to draw wrong ones from; default the largest label
    + 1; labels of examples that are not to be chosen may lie beyond. scores: float [N] of an earlier run, for "typical" and
    "atypical" (mean loss, EL2N, forgetting, ...; NaN is not chosen). among: ids or bool [N] to choose from, such as the
    training split; default all. Wrong labels are uniform over the other classes. All draws belong to (seed, id), so that
    more examples to choose from change few of them. Raises InvalidValue for too few examples, missing scores, one class,
    and values outside these ranges; UnknownName for another kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of probe", kind, KINDS)
    if not kinds or len(set(kinds)) < len(kinds):
        raise InvalidValue(f"kinds of probes are named once each, got {list(kinds)}; choose from {', '.join(KINDS)}")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InvalidValue(f"count is a number of probes from 1 up, got {count!r}; 250 is the paper's")
    free = _candidates(labels, among)
    _check_scores(scores, len(labels))
    needed = 2 * count * len(kinds)
    if needed > len(free):
        raise InvalidValue(
            f"{count} reference and {count} validation probes of {len(kinds)} kinds need {needed} examples, got "
            f"{len(free)}; choose a smaller count"
        )
    chosen: dict[str, Tensor] = {}
    for kind in (k for k in CHOSEN if k in kinds):
        free, chosen[kind] = _extreme(free, scores, 2 * count, kind)
    for kind in (k for k in kinds if k not in CHOSEN):
        order = ranked(free, seed, f"probes:{kind}")
        chosen[kind], free = order[: 2 * count], order[2 * count :]
    ids = torch.cat([chosen[kind] for kind in kinds])
    numbers = torch.arange(len(kinds)).repeat_interleave(2 * count)
    reference = torch.cat([_half(chosen[kind], seed) for kind in kinds])
    own = labels[ids].long()
    if "random label" in kinds:
        wrong = numbers == list(kinds).index("random label")
        own = torch.where(wrong, other_labels(ids, own, _number_of(labels, own, classes), seed, "probe labels"), own)
    return Probes(tuple(kinds), ids, numbers, reference, own)


def ranked(ids: Tensor, seed: int, name: str) -> Tensor:
    """Ids [n] in an order drawn from (seed, name): each has a number of its own, so that two of them never change places.

    Whichever ids are ranked with them; equal numbers (24 bits) are put in the order of the ids.
    """
    ascending = ids.sort().values
    return ascending[example_uniform(seed, name, 0, ascending)[:, 0].argsort(stable=True)]


def other_labels(ids: Tensor, labels: Tensor, classes: int, seed: int, name: str) -> Tensor:
    """For each example a label that is not its own, uniform over the others, drawn from (seed, name, id): int64 [n]."""
    drawn = example_integers(seed, name, 0, ids, classes - 1)[:, 0]
    return drawn + (drawn >= labels)


def in_form_of(old: Any, label: int) -> Any:
    """A label in the form of another: tensor, array, number. Raises InvalidValue for one that is several numbers."""
    size = old.numel() if isinstance(old, Tensor) else np.size(old)
    if size != 1:
        raise InvalidValue(
            f"a label that is exchanged is one class number, got {size} numbers; let the data set yield class numbers"
        )
    if isinstance(old, Tensor):
        return torch.full_like(old, label)
    return np.full_like(old, label) if isinstance(old, np.ndarray) else type(old)(label)


def spoiled(
    x: Tensor,
    kind: str,
    ids: Tensor,
    *,
    noise: float = 0.1,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
) -> Tensor:
    """Inputs x [B, ...] of examples `ids` [B] as probes of one of the kinds `SPOILED`, the same at every sighting.

    noise: standard deviation in the units of x. bounds: (low, high) of x, to which noisy inputs are clipped; None for
    inputs without such. A sketch (and a blur) needs pictures [B, C, H, W]: each pixel's brightness is divided by that of
    its surroundings, so that flat parts turn white and edges dark (without bounds between a picture's own extremes).
    Raises InvalidValue for whole numbers, inputs further beyond the bounds than a tenth of their width, and for other
    shapes where pictures are needed.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise InvalidValue(f"inputs that are spoiled are floating point, got {got}; convert pictures to 0..1")
    exact = x.double()
    if kind != "blur" and bounds is not None:
        _check_bounds(exact, *bounds)
    if kind == "noise":
        made = exact + noise * _normals(seed, ids, x[0].numel()).reshape(x.shape).to(x.device)
        return (made if bounds is None else made.clamp(*bounds)).to(x.dtype)
    if x.ndim != 4:
        raise InvalidValue(
            f"{kind!r} is a way to spoil pictures [C, H, W], got inputs of shape {list(x.shape[1:])}; leave that kind out"
        )
    return (_blurred(exact) if kind == "blur" else _sketched(exact, bounds)).to(x.dtype)


def _normals(seed: int, ids: Tensor, count: int) -> Tensor:
    """Standard normals of examples [B, count] in float64, so that the bytes of a noisy picture are the same everywhere.

    In float32 machines round logarithm and cosine differently, and a byte in a million with them.
    """
    drawn = example_uniform(seed, "probe noise", 0, ids, 2 * count).double()
    return torch.sqrt(-2.0 * torch.log1p(-drawn[:, :count])) * torch.cos(2.0 * math.pi * drawn[:, count:])


def _check_bounds(x: Tensor, low: float, high: float) -> None:
    """Clipped to bounds that are not theirs, inputs that were scaled already would be spoiled far beyond the noise."""
    lowest, highest = (float(v) for v in x.aminmax())
    slack = (high - low) / 10  # resizing overshoots
    if lowest < low - slack or highest > high + slack:
        raise InvalidValue(
            f"inputs that are spoiled lie within bounds, got {lowest:.3g}..{highest:.3g} for ({low:g}, {high:g}); pass "
            "their own bounds=(low, high), or None for inputs without"
        )


def _blurred(x: Tensor) -> Tensor:
    for _ in range(2):
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x


def _sketched(x: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    if bounds is None:
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    else:
        low, high = (torch.full((len(x), 1, 1, 1), b, dtype=x.dtype, device=x.device) for b in bounds)
    span = high - low
    grey = ((x - low) / torch.where(span > 0, span, 1.0)).mean(1, keepdim=True)
    # One level of a byte on both sides: where all is black there is nothing to draw, and nothing to divide by.
    lines = ((grey + 1 / 255) / (_blurred(grey) + 1 / 255)).clamp(max=1.0)
    return (low + span * lines).expand_as(x).contiguous()


def _candidates(labels: Tensor, among: Tensor | None) -> Tensor:
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        got = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise InvalidValue(f"labels are one class an example, int64 [N], got {got}; pass for example records.labels")
    if among is None:
        found = torch.arange(len(labels))
    else:
        good = isinstance(among, Tensor) and among.ndim == 1 and not among.is_floating_point()
        if not good or (among.dtype == torch.bool and len(among) != len(labels)):
            got = f"{among.dtype} {list(among.shape)}" if isinstance(among, Tensor) else type(among).__name__
            raise InvalidValue(
                f"candidates are ids int64 [n] or a mask bool [{len(labels)}], got {got}; pass for example roles == 1"
            )
        found = among.nonzero()[:, 0] if among.dtype == torch.bool else among.long()
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < len(labels):
        raise InvalidValue(
            f"candidates are ids from 0 to {len(labels) - 1}, got {int(found.min())} to {int(found.max())}; pass ids of "
            "these labels"
        )
    if len(torch.unique(found)) < len(found):
        raise InvalidValue(
            f"candidates are named once each, got {len(found) - len(torch.unique(found))} twice; pass a mask"
        )
    return found[labels[found] >= 0]


def _check_scores(scores: Tensor | None, count: int) -> None:
    if scores is None or (isinstance(scores, Tensor) and scores.shape == (count,)):
        return
    got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    raise InvalidValue(f"scores are one an example, a tensor [{count}], got {got}; give examples without a score NaN")


def _extreme(free: Tensor, scores: Tensor | None, count: int, kind: str) -> tuple[Tensor, Tensor]:
    """(the rest, the lowest or highest scores)."""
    if scores is None:
        raise InvalidValue(
            f"{kind!r} probes are chosen by scores of an earlier run, got none; pass scores, or leave that kind out"
        )
    own = scores[free]
    known, unknown_scores = free[~own.isnan()], free[own.isnan()]
    if len(known) < count:
        raise InvalidValue(f"{count} {kind} probes need as many scores, got {len(known)}; choose a smaller count")
    order = known[scores[known].argsort(descending=kind == "atypical", stable=True)]
    return torch.cat([order[count:], unknown_scores]), order[:count]


def _half(ids: Tensor, seed: int) -> Tensor:
    """Bool [n], half of it true, drawn so that both halves look alike."""
    return torch.isin(ids, ranked(ids, seed, "probe half")[: len(ids) // 2])


def _number_of(labels: Tensor, chosen: Tensor, classes: int | None) -> int:
    count = int(labels.max()) + 1 if classes is None else classes
    if count < 2 or count <= int(chosen.max()):
        raise InvalidValue(
            f"wrong labels are drawn from at least 2 classes, at least as many as the labels name, got {count}; pass classes="
        )
    return count
