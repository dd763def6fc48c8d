"""Rows of log-probabilities in 8 bits: all classes, or the largest few with the rest of the mass spread evenly.

Full rows: one uint8 a class, 0...255 for log-probabilities 0...-12. Sparse rows: the k largest classes (number and
uint8 code each) and the mass of all others as one float16, which decoding spreads evenly over them. Distilling from
top-k rows with a fixed small k loses half of the gain where the teacher is unsure, so k follows from the mass it keeps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidValue

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = -12.0
KEPT_MASS = 0.98
"""Least mean probability mass that the stored classes of sparse rows hold."""
_MOST_REST = 1 - 2**-11
"""Largest float16 below 1: a row of which nothing is known to be large keeps finite log-probabilities."""
_MOST_SORTED = 1 << 24
_MOST_ROWS = 2048


def encode(log_probabilities: Tensor) -> Tensor:
    """Log-probabilities (any shape) as uint8: 0 is probability 1, 255 is e^-12 or less."""
    import torch

    return (log_probabilities.clamp(FLOOR, 0.0) * (255 / FLOOR)).round().to(torch.uint8)


def decode(codes: Tensor) -> Tensor:
    """uint8 codes as float32 log-probabilities, right to 0.024 above the floor of -12 (not renormalised)."""
    import torch

    return codes.to(torch.float32) * (FLOOR / 255)


def decode_rows(codes: Tensor) -> Tensor:
    """Codes [..., C] as log-probabilities that sum to 1 over the classes."""
    return decode(codes).log_softmax(-1)


def bytes_of_index(classes: int) -> int:
    """Bytes of the smallest unsigned type that numbers so many classes: 1, 2 or 4."""
    return 1 if classes <= 1 << 8 else 2 if classes <= 1 << 16 else 4


def bytes_of_row(classes: int, top: int | None) -> int:
    """Bytes of one stored row: full (top None), or sparse with `top` classes."""
    return classes if top is None else top * (1 + bytes_of_index(classes)) + 2


def index_type(classes: int) -> Any:
    """The type that the class numbers of sparse rows are stored in."""
    import torch

    return {1: torch.uint8, 2: torch.uint16, 4: torch.int32}[bytes_of_index(classes)]


def choose_top(logits: Tensor) -> int | None:
    """How many classes sparse rows need, judged by the rows [R, C]; None where full rows are not larger.

    The smallest k whose mean kept mass, less two standard errors of that mean, is at least 98 %: the rows are a sample
    of those that will be stored. Rows that are not finite do not count; at most 2,048 rows and 16 million numbers,
    evenly spaced, are looked at.
    """
    import torch

    classes = logits.shape[-1]
    logits = logits.reshape(-1, classes)
    step = max(1, math.ceil(logits.numel() / _MOST_SORTED), math.ceil(len(logits) / _MOST_ROWS))
    rows = logits[::step].float().softmax(1)
    rows = rows[~rows.isnan().any(1)].sort(1, descending=True).values.double().cumsum(1)
    if not len(rows):
        return None
    error = rows.std(0) / math.sqrt(len(rows)) if len(rows) > 1 else torch.zeros_like(rows[0])
    enough = (rows.mean(0) - 2 * error >= KEPT_MASS).nonzero()
    top = int(enough[0]) + 1 if len(enough) else classes
    return top if bytes_of_row(classes, top) < classes else None


def squeeze(logits: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sparse rows of logits [..., C]: class numbers [..., k], largest first, their codes uint8, rest float16 [...].

    rest: mass of the classes that are not stored, in [e^-12, 1); NaN for rows that are not finite.
    """
    import torch

    logits = logits.float()
    values, index = logits.topk(top, -1)
    whole = logits.logsumexp(-1, keepdim=True)
    kept = values - whole
    rest = (1 - kept.exp().sum(-1)).clamp(math.exp(FLOOR), _MOST_REST)
    rest = rest.masked_fill(~whole.squeeze(-1).isfinite(), math.nan)
    return index.to(index_type(logits.shape[-1])), encode(kept), rest.to(torch.float16)


def spread(index: Tensor, codes: Tensor, rest: Tensor, classes: int) -> Tensor:
    """Log-probabilities float32 [..., C] of sparse rows: they sum to 1, classes that are not stored share `rest`."""
    import torch

    rest = rest.float().unsqueeze(-1)
    kept = decode(codes).log_softmax(-1) + torch.log1p(-rest)
    others = rest.log() - math.log(classes - codes.shape[-1])
    return others.expand(*others.shape[:-1], classes).clone().scatter_(-1, index.to(torch.int64), kept)


def checked_ids(ids: Any, examples: int) -> Tensor:
    """Ids as int64 [B] on the CPU. Raises InvalidValue unless they are whole numbers in 0 ... `examples` - 1."""
    import torch

    found = torch.as_tensor(ids)
    if found.numel() == 0:
        found = found.to(torch.int64)
    if found.ndim != 1 or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise InvalidValue(
            f"example ids are whole numbers [B], got {found.dtype} of shape {list(found.shape)}; "
            "pass the ids that the loader yields"
        )
    found = found.to("cpu", torch.int64)
    if len(found):
        low, high = (int(v) for v in found.aminmax())
        if low < 0 or high >= examples:
            raise InvalidValue(
                f"example ids lie in 0 ... {examples - 1}, got {low if low < 0 else high}; "
                "ask for examples that the records cover"
            )
    return found
