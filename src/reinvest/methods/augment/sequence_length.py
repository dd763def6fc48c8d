"""SequenceLengthWarmup: short sequences first, whole ones after the first part of the run."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from ...core.batch import Batch, map_container
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from .._check import number, switch, whole

STAGES = 6  # every length costs a compilation and a choice of kernels


def length_share(progress: float, start: float = 0.125, until: float = 0.3) -> float:
    """The share of a sequence that is kept at a progress in [0, 1]: six steps from `start` to 1 at `until`.

    The steps are those nearest to the straight line, so that the mean share up to `until` is (1 + start) / 2.
    """
    if progress >= until or start == 1.0:
        return 1.0
    stage = math.floor(progress / until * (STAGES - 1) + 0.5)
    return start + (1.0 - start) * stage / (STAGES - 1) if stage < STAGES - 1 else 1.0


def tokens_kept(length: int, share: float, multiple: int = 8) -> int:
    """`share` of `length` tokens to the nearest multiple of `multiple`, at least one multiple and at most all."""
    if share == 1.0:
        return length
    return min(length, max(1, math.floor(length * share / multiple + 0.5)) * multiple)


def truncate(values: Any, length: int, size: tuple[int, int]) -> Any:
    """The first `length` places of a tensor [B, T, ...] with (B, T) = size; anything else is returned as it is."""
    if isinstance(values, Tensor) and tuple(values.shape[:2]) == size:
        return values[:, :length].contiguous()
    return values


class SequenceLengthWarmup(Method):
    """Trains on the beginnings of sequences first: `start` of their tokens, growing to all of them at `until`.

    start: share of the tokens at the beginning of the run, in (0, 1]; 1 keeps all throughout. until: share of the run
    in (0, 1] after which sequences are whole. multiple: lengths are rounded to multiples of it (1 rounds to tokens). At
    most six lengths are used. Everything in the batch that is [B, T, ...] loses the same places: tokens, targets, an
    attention mask. The tokens cut off are not shown later in the same step, so a run of equally many steps sees fewer
    tokens. one_label: True admits one target a sequence [B], which then is learnt from the sequence's beginning; texts
    must be filled up on their right, or nothing but filling may be left.
    Raises InvalidValue for values outside these ranges, for inputs that are no whole numbers [B, T], for targets [B]
    unless admitted and for targets of another length, and
    where even the first sequences would be whole, the longest so far; batches of shorter ones may be.
    """

    card = Card(
        title="Sequence length warm-up",
        paper="Li, Zhang, He: The Stability-Efficiency Dilemma: Investigating Sequence Length Warmup for Training GPT "
        "Models",
        year=2021,
        arxiv="2108.06084",
        phase="augment",
        cost="steps cost their share of the tokens, attention its square; up to `until` (1 + start) / 2 on average",
        breaks="fewer tokens are seen in equally many steps, where the paper trains on equally many tokens; sentences "
        "whose meaning is at their end; masked models: beginnings with no hidden token count as loss 0; inputs with a "
        "mask for each pair of tokens",
        domains=("language",),
        found="better, 1.13 times as fast to equal quality (1.01 to 1.27): books by bytes, gpt of width 64, 200 "
        "to 1,600 steps (claims/sequence_length.json); the paper's gain, up to 3.7 times the time for "
        "GPT-2, is on equally many tokens at larger batches and rates",
    )
    horizon = True
    neutral: ClassVar = {"start": 1.0}
    example: ClassVar = {"start": 0.25, "until": 0.8, "multiple": 2, "one_label": True}

    def __init__(self, start: float = 0.125, until: float = 0.3, *, multiple: int = 8, one_label: bool = False) -> None:
        self.start_share = number(
            start, "start is a share of the tokens above 0, up to 1 (all)", "0.125 is usual", 0, 1, above=True
        )
        self.until = number(until, "until is a share of the run above 0, up to 1", "0.3 is usual", 0, 1, above=True)
        self.multiple = whole(multiple, "multiple is a whole number of tokens from 1 up", "8 is usual", 1)
        self.one_label = switch(one_label, "one_label")
        self._longest = 0

    def start(self, context: Context) -> None:
        """No sequence has been seen."""
        self._longest = 0

    def augment(self, batch: Batch, context: Context) -> Batch:
        """The beginnings of the same sequences."""
        if self.start_share == 1.0:
            return batch
        share = length_share(context.progress, self.start_share, self.until)
        if share == 1.0:
            return batch
        size = self._size(batch)
        self._longest = max(self._longest, size[1])
        length = tokens_kept(size[1], share, self.multiple)
        if length == size[1]:
            if tokens_kept(self._longest, self.start_share, self.multiple) == self._longest:
                raise InvalidValue(
                    f"the first sequences are shorter than {self._longest} tokens, got start={self.start_share:g} "
                    f"rounded to a multiple of {self.multiple}; take a smaller start or multiple"
                )
            return batch

        def cut(values: Any) -> Any:
            return truncate(values, length, size)

        return replace(
            batch, inputs=cut(batch.inputs), targets=cut(batch.targets), container=map_container(batch.container, cut)
        )

    def _size(self, batch: Batch) -> tuple[int, int]:
        """(B, T); refuses what is no batch of token sequences."""
        x, targets = batch.inputs, batch.targets
        if not isinstance(x, Tensor) or x.ndim != 2 or x.is_floating_point() or x.dtype.itemsize < 2:
            got = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InvalidValue(
                f"SequenceLengthWarmup cuts token numbers, whole numbers of 16 bits or more [B, T], got {got}; leave it "
                "out for other inputs"
            )
        size = (int(x.shape[0]), int(x.shape[1]))
        if isinstance(targets, Tensor) and targets.ndim == 1:
            if not self.one_label:
                raise InvalidValue(
                    "SequenceLengthWarmup cuts targets [B, T] along with the tokens, got one target a sequence "
                    f"({list(targets.shape)}), which speaks of the whole; pass one_label=True to learn it from the "
                    "beginning of texts that are filled up on their right"
                )
        elif isinstance(targets, Tensor) and tuple(targets.shape[:2]) != size:
            raise InvalidValue(
                f"targets have a place for each token ({list(size)}), got {list(targets.shape)}; yield targets [B, T]"
            )
        return size

    def kind(self, context: Context) -> Hashable:
        """The length of the step's sequences as a share of the whole, known before the first batch; None if constant."""
        if self.start_share == 1.0:
            return None
        return f"{length_share(context.progress, self.start_share, self.until):.3g} of the tokens"

    def state_dict(self) -> dict[str, Any]:
        """The length of the longest sequences so far."""
        return {"longest": self._longest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        self._longest = state.get("longest", 0)  # states of before it was kept have none

    def finish(self, context: Context) -> None:
        """Forget the sequences."""
        self._longest = 0
