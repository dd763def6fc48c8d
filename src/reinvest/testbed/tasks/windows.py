"""Windows of a long text as examples: what comes next at every place, or what is hidden at some."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.criterion import IGNORE
from ...core.streams import example_integers
from . import content
from .sources import Batches
from .tokens import MASK, SPECIALS

SHARE = 0.15
"""Share of a window's tokens that a masked model predicts."""


def masked_count(length: int) -> int:
    """Tokens chosen in every window of `length`: 15 %, rounded half to even, and at least one."""
    return max(1, round(SHARE * length))


def mask_tokens(tokens: Tensor, ids: Tensor, *, seed: int, epoch: int, size: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a masked model (Devlin et al. 2018, arXiv 1810.04805, section 3.1): int64 [B, T] both.

    tokens: int64 [B, T] of a vocabulary of `size`. In each row exactly `masked_count(T)` places are chosen: there the
    target is the token, elsewhere -100. Of ten chosen tokens eight are hidden, one is replaced by any token, one stays.
    All draws are functions of (seed, epoch, id): a row looks the same in any batch.
    """
    length = tokens.shape[1]
    count = masked_count(length)
    order = example_integers(seed, "mask", epoch, ids, 1 << 31, length)
    places = order.argsort(dim=1, stable=True)[:, :count]
    kind = example_integers(seed, "mask-kind", epoch, ids, 10, count)
    other = example_integers(seed, "mask-token", epoch, ids, size - SPECIALS, count) + SPECIALS
    hidden = tokens.gather(1, places)
    shown = torch.where(kind < 8, MASK, torch.where(kind == 8, other, hidden))
    return tokens.scatter(1, places, shown), torch.full_like(tokens, IGNORE).scatter_(1, places, hidden)


class WindowSource:
    """Windows of token streams: row i is the tokens from starts[i] on.

    tokens: int16 [n]; starts: int64 [N], each with length + 1 tokens after it; size: of the vocabulary.
    x is int64 [B, T]; y int64 [B, T] is the next token at every place, or what was hidden, -100 elsewhere.
    """

    in_memory = True
    # A hidden token stays in its place: a row about a token speaks of that token in every view.
    moves = False

    def __init__(self, tokens: Tensor, starts: Tensor, *, length: int, masked: bool, size: int) -> None:
        self.rows, self.input_shape, self.device = len(starts), (length,), tokens.device
        self._tokens, self._starts, self._masked, self._size = tokens, starts, masked, size
        self.augmentation = "masked tokens" if masked else "none"
        self._span = torch.arange(length + 1, device=tokens.device)

    def _whole(self, ids: Tensor) -> Tensor:
        """The window and the token after it: int16 [B, T + 1]."""
        return self._tokens[self._starts[ids].unsqueeze(1) + self._span]

    def read(self, batches: Sequence[Tensor], *, seed: int, epoch: int, training: bool) -> Batches:
        """(x, y) of each batch of ids; outside training what is hidden is that of seed 0 and epoch 0."""
        if not training:
            seed, epoch = 0, 0
        for ids in batches:
            whole = self._whole(ids).to(torch.int64)
            if self._masked:
                yield mask_tokens(whole[:, :-1], ids, seed=seed, epoch=epoch, size=self._size)
            else:
                yield whole[:, :-1].contiguous(), whole[:, 1:].contiguous()

    def hashes(self, ids: Tensor) -> Tensor:
        """64-bit hashes of the windows (and the token after each) `ids` [B], whatever the objective: int64 [B]."""
        return content.row_hashes(self._whole(ids), torch.zeros_like(ids))

    def to(self, device: torch.device) -> WindowSource:
        """The same windows with the tokens kept on `device`."""
        return WindowSource(
            self._tokens.to(device),
            self._starts.to(device),
            length=self.input_shape[0],
            masked=self._masked,
            size=self._size,
        )
