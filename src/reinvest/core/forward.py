"""A model called on a batch, whatever the batch is and whatever the model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .batch import TARGET_KEYS, Batch
from .errors import InvalidValue


def logits_of(model: Callable[..., Any], batch: Batch, device: torch.device, who: str) -> Tensor:
    """Logits of a batch: model(x), or model(**fields) less the targets for batches that are dicts.

    Takes what the model returns, or its field `logits`. Raises InvalidValue, naming `who` asked, for anything that is
    not a tensor of at least two dimensions.
    """
    if isinstance(batch.container, Mapping):
        fields = {k: v for k, v in batch.package().items() if k not in TARGET_KEYS}
        found = model(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in fields.items()})
    else:
        found = model(batch.inputs.to(device))
    output = getattr(found, "logits", found)
    if not isinstance(output, Tensor) or output.ndim < 2:
        raise InvalidValue(
            f"{who} needs logits [B, C, ...] from the model, got {type(output).__name__}; return the logits "
            "(or an object with a field 'logits')"
        )
    return output
