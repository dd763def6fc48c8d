"""Probes in one's own data set: `Probed` puts in place what `choose_probes` drew.

A task of the testbed plants them by itself (task "planted"); the drawing is the same, in `core/probes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.batch import find_ids
from ..core.errors import InvalidValue
from ..core.probes import KINDS, SPOILED, Probes, choose_probes, in_form_of, spoiled

__all__ = ["KINDS", "Probed", "Probes", "choose_probes"]


class Probed:
    """A map-style data set with the probes in place: the same ids and length, (x, y) or a dict with `label_key`.

    noise: standard deviation in the units of x; bounds: (low, high) of x, to which noisy inputs are clipped, None for
    inputs without such. A probe's noise is the same at every sighting, drawn from (seed, id). Ids go around it:
    `Indexed(Probed(dataset, probes))`. Raises InvalidValue for other values, for a data set with ids, or with fewer
    examples than the probes' ids name, and at a probe for inputs beyond the bounds, a label that is no single class, and
    a dict whose input is to be spoiled.
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
        if find_ids(dataset)[0]:
            raise InvalidValue(
                f"probes are put into plain items (x, y), got {type(dataset).__name__} with ids in front; write "
                "ri.Indexed(Probed(dataset, probes))"
            )
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
        index = int(index) + len(self) if index < 0 else int(index)
        item = self.dataset[index]
        place = self._places.get(index)
        if place is None:
            return item
        kind, label = self.probes.names[int(self.probes.kinds[place])], int(self.probes.labels[place])
        if isinstance(item, Mapping):
            if kind in SPOILED:
                raise InvalidValue(
                    f"the input of an item (x, y) is spoiled, got a dict for a {kind!r} probe; leave that kind out"
                )
            if kind != "random label":
                return item
            return {**item, self.label_key: in_form_of(item[self.label_key], label)}
        x, y, *rest = item
        if kind in SPOILED:
            own = x.unsqueeze(0) if isinstance(x, Tensor) else x
            x = spoiled(own, kind, torch.tensor([index]), noise=self.noise, bounds=self.bounds, seed=self.seed).squeeze(
                0
            )
        return (x, in_form_of(y, label) if kind == "random label" else y, *rest)
