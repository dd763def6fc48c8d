"""Probes: examples of one's own data whose kind is known, because it was made so or chosen so.

Trained along with the rest, they show what the loss of each kind looks like over time under this recipe. Wrong labels
and spoiled inputs are learned like any other example, so a model trained with probes is for looking, not for shipping.
Siddiqui, Rajkumar, Maharaj, Krueger, Hooker, 2209.10015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import InvalidValue, unknown
from ..core.streams import example_normal, stream

__all__ = ["KINDS", "Probed", "Probes", "choose_probes"]

KINDS = {
    "typical": "the lowest scores of an earlier run",
    "atypical": "the highest scores of an earlier run",
    "random label": "a label drawn from the other classes",
    "noise": "an input with normal noise added",
    "blur": "an input averaged over 3 x 3 pixels, twice",
}
CHOSEN = ("typical", "atypical")


@dataclass(frozen=True)
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
    kinds: Sequence[str] = ("random label", "noise"),
    count: int = 250,
    *,
    classes: int | None = None,
    scores: Tensor | None = None,
    among: Tensor | None = None,
    seed: int = 0,
) -> Probes:
    """Draw `count` reference and `count` validation probes of each kind; no example is in two of them.

    labels: int64 [N]. kinds: of `KINDS`. classes: number of labels to draw wrong ones from; default the largest label
    + 1. scores: float [N] of an earlier run, for "typical" and "atypical" (mean loss, EL2N, forgetting, ...; NaN is not
    chosen). among: ids or bool [N] to choose from, such as the training split; default all. Wrong labels are uniform
    over the other classes. Raises InvalidValue for too few examples, missing scores, one class, and values outside
    these ranges; UnknownName for another kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of probe", kind, KINDS)
    if not kinds or len(set(kinds)) < len(kinds):
        raise InvalidValue(f"kinds of probes are named once each, got {list(kinds)}; choose from {', '.join(KINDS)}")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InvalidValue(f"count is a number of probes from 1 up, got {count!r}; 250 is the paper's")
    free = _candidates(labels, among)
    needed = 2 * count * len(kinds)
    if needed > len(free):
        raise InvalidValue(
            f"{count} reference and {count} validation probes of {len(kinds)} kinds need {needed} examples, got "
            f"{len(free)}; choose a smaller count"
        )
    chosen: dict[str, Tensor] = {}
    for kind in (k for k in CHOSEN if k in kinds):
        free, chosen[kind] = _extreme(free, scores, 2 * count, kind)
    order = free[stream(seed, "probes", 0).permutation(len(free))]
    for place, kind in enumerate(k for k in kinds if k not in CHOSEN):
        chosen[kind] = order[2 * count * place : 2 * count * (place + 1)]
    ids = torch.cat([chosen[kind] for kind in kinds])
    numbers = torch.arange(len(kinds)).repeat_interleave(2 * count)
    reference = torch.cat([_half(2 * count, seed, kind) for kind in kinds])
    own = labels[ids]
    if "random label" in kinds:
        wrong = numbers == list(kinds).index("random label")
        own = torch.where(wrong, _others(own, _number_of(labels, classes), seed), own)
    return Probes(tuple(kinds), ids, numbers, reference, own)


class Probed:
    """A map-style data set with the probes in place: the same ids and length, (x, y) or a dict with `label_key`.

    noise: standard deviation in the units of x; bounds: (low, high) to which noisy inputs are clipped, None for inputs
    without such. A probe's noise is the same at every sighting, drawn from (seed, id). Raises InvalidValue for other
    values and for a data set with fewer examples than the probes' ids name.
    """

    def __init__(
        self,
        dataset: Any,
        probes: Probes,
        *,
        noise: float = 0.1,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        label_key: str = "labels",
        seed: int = 0,
    ) -> None:
        if int(probes.ids.max()) >= len(dataset):
            raise InvalidValue(
                f"probes are examples of the data set, got id {int(probes.ids.max())} for {len(dataset)}; choose them "
                "from this data set's labels"
            )
        if not isinstance(noise, (int, float)) or noise < 0:
            raise InvalidValue(
                f"noise is a standard deviation from 0 up, got {noise!r}; 0.1 is usual for pixels in [0, 1]"
            )
        self.dataset, self.probes, self.noise, self.bounds = dataset, probes, float(noise), bounds
        self.label_key, self.seed = label_key, seed
        self._places = {int(i): place for place, i in enumerate(probes.ids)}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        item = self.dataset[index]
        place = self._places.get(int(index))
        if place is None:
            return item
        kind, label = self.probes.names[int(self.probes.kinds[place])], int(self.probes.labels[place])
        if isinstance(item, Mapping):
            if kind != "random label":
                return item
            return {**item, self.label_key: _like(item[self.label_key], label)}
        x, y, *rest = item
        return (self._spoiled(x, kind, int(index)), _like(y, label), *rest)

    def _spoiled(self, x: Any, kind: str, index: int) -> Any:
        if kind == "noise":
            drawn = example_normal(self.seed, "probe noise", 0, torch.tensor([index]), x.numel())
            noisy = x + self.noise * drawn.reshape(x.shape).to(x)
            return noisy if self.bounds is None else noisy.clamp(*self.bounds)
        if kind == "blur":
            blurred = x.unsqueeze(0)
            for _ in range(2):
                blurred = F.avg_pool2d(F.pad(blurred, (1, 1, 1, 1), mode="replicate"), 3, 1)
            return blurred.squeeze(0)
        return x


def _like(old: Any, label: int) -> Any:
    return torch.full_like(old, label) if isinstance(old, Tensor) else type(old)(label)


def _candidates(labels: Tensor, among: Tensor | None) -> Tensor:
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        got = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise InvalidValue(f"labels are one class an example, int64 [N], got {got}; pass for example records.labels")
    if among is None:
        found = torch.arange(len(labels))
    else:
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


def _half(size: int, seed: int, kind: str) -> Tensor:
    """Bool [size], half of it true, drawn so that both halves look alike."""
    return stream(seed, f"probe half:{kind}", 0).permutation(size) < size // 2


def _number_of(labels: Tensor, classes: int | None) -> int:
    count = int(labels.max()) + 1 if classes is None else classes
    if count < 2 or count <= int(labels.max()):
        raise InvalidValue(
            f"wrong labels are drawn from at least 2 classes, at least as many as the labels name, got {count}; pass classes="
        )
    return count


def _others(labels: Tensor, classes: int, seed: int) -> Tensor:
    """Uniform over the classes but the own one."""
    drawn = stream(seed, "probe labels", 0).integers(classes - 1, len(labels))
    return drawn + (drawn >= labels)
