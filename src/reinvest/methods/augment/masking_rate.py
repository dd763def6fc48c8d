"""MaskingRate: how many tokens a masked language model has to predict, many at first and fewer later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.criterion import IGNORE
from ...core.errors import InvalidValue
from ...core.method import Card, Context, Method
from ...core.streams import example_integers, stream
from .._check import number, whole

RATE = "start and end are shares of the tokens above 0 and below 1, or both 0 (the task's own masks)"
RANKS = 1 << 31
ENOUGH = 50
"""Targets after which a task is judged: one of ten is another token by chance, but of so many never half."""


def masking_rate(progress: float, start: float = 0.3, end: float = 0.15) -> float:
    """The share of tokens to predict at a progress in [0, 1]: on a straight line from `start` to `end`."""
    return start + (end - start) * progress


def original_tokens(x: Tensor, targets: Tensor) -> Tensor:
    """The text behind a masked batch, int64 [B, T]: the target where there is one, the token itself elsewhere (-100)."""
    return torch.where(targets == IGNORE, x, targets)


def hide_tokens(
    tokens: Tensor,
    rate: float,
    draw: Callable[[str, int], Tensor],
    *,
    vocabulary: int,
    mask: int,
    specials: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a masked model for original tokens int64 [B, T]; both int64 [B, T], -100 in the targets
    where nothing is to be predicted.

    Of each row's tokens that are not in `specials` the share `rate` is chosen, rounded half to even, at least one if
    there is any. Of ten chosen ones eight become `mask`, one becomes any token of the vocabulary but the special ones,
    one stays. draw(name, high) returns integers in [0, high), [B, T], for the names "order", "kind" and "other".
    """
    eligible = torch.ones_like(tokens, dtype=torch.bool)
    for special in specials:
        eligible &= tokens != special
    available = eligible.sum(1, keepdim=True)
    count = torch.minimum(torch.round(available.double() * rate).long().clamp(min=1), available)
    order = draw("order", RANKS).to(tokens.device).masked_fill(~eligible, RANKS).argsort(dim=1, stable=True)
    ranks = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    chosen = torch.empty_like(order).scatter_(1, order, ranks) < count
    kind, other = draw("kind", 10).to(tokens.device), draw("other", vocabulary - len(set(specials))).to(tokens.device)
    for special in sorted(set(specials)):
        other = other + (other >= special)
    shown = torch.where(kind < 8, mask, torch.where(kind == 8, other, tokens))
    return torch.where(chosen, shown, tokens), torch.where(chosen, tokens, IGNORE)


class MaskingRate(Method):
    """Masks every batch of a masked language model anew, at a rate that goes linearly from `start` to `end`.

    start, end: shares of the tokens to predict at the beginning and end of the run, above 0 and below 1; both 0 leaves
    the task's own masks. The text is read off the batch: the targets tell what was hidden or replaced. mask: number of
    the token that hides. specials: tokens that are never chosen nor put in. vocabulary: number of all tokens; None
    takes the task's number of classes. The defaults of mask and specials are those of this package's vocabularies. With
    example ids the draws belong to (epoch, id); without ids to the place in the batch.
    Raises InvalidValue for values outside these ranges, for an unknown vocabulary, and for batches that are none of a
    masked model: whole numbers [B, T] with targets [B, T] that hold every hidden token and -100 elsewhere (looked at in
    a run's first batches, until there were enough targets to tell).
    """

    card = Card(
        title="Dynamic masking rate",
        paper="Ankner, Saphra, Blalock, Frankle, Leavitt: Dynamic Masking Rate Schedules for MLM Pretraining",
        year=2023,
        arxiv="2305.15096",
        phase="augment",
        cost="a sort of the batch's tokens; a head that is computed at hidden places alone costs more at higher rates",
        breaks="training losses at different rates cannot be compared (evaluation keeps the task's rate); a tuned "
        "constant rate of 0.2 to 0.3 is the baseline to beat; a schedule belongs to a duration and cannot be extended",
        domains=("language",),
        references=("2202.08005",),
    )
    horizon = True
    neutral: ClassVar = {"start": 0.0, "end": 0.0}
    example: ClassVar = {"start": 0.6, "end": 0.3, "vocabulary": 12}

    def __init__(
        self,
        start: float = 0.3,
        end: float = 0.15,
        *,
        mask: int = 1,
        specials: Sequence[int] = (0, 1),
        vocabulary: int | None = None,
    ) -> None:
        usual = "0.3 and 0.15 are usual"
        self.start_rate, self.end_rate = (number(rate, RATE, usual, 0, 1, below=True) for rate in (start, end))
        if (self.start_rate == 0.0) != (self.end_rate == 0.0):
            raise InvalidValue(f"{RATE}, got {start!r} and {end!r}; {usual}")
        self.mask = whole(mask, "mask is the number of a token, from 0 up", "1 in this package's vocabularies", 0)
        if not isinstance(specials, (list, tuple)):
            raise InvalidValue(f"specials is a list of token numbers, got {specials!r}; write specials=[0, 1]")
        rule = "specials are numbers of tokens, from 0 up"
        self.specials = tuple(whole(s, rule, "0 and 1 in this package's vocabularies", 0) for s in specials)
        self.vocabulary = vocabulary
        if vocabulary is not None:
            least = max((self.mask, *self.specials)) + 1
            self.vocabulary = whole(
                vocabulary,
                f"vocabulary is a number of tokens from {least} up",
                "pass the size of the vocabulary",
                least,
            )
        self._size = self._targets = self._odd = 0

    def start(self, context: Context) -> None:
        """Find the size of the vocabulary."""
        self._targets = self._odd = 0
        if self.start_rate == 0.0:
            return
        size = self.vocabulary or context.task.classes
        if size is None or size <= len(set(self.specials)):
            raise InvalidValue(
                f"MaskingRate needs the number of tokens, got vocabulary={self.vocabulary!r} and a task of "
                f"{context.task.classes} classes; pass vocabulary="
            )
        self._size = size

    def augment(self, batch: Batch, context: Context) -> Batch:
        """The same texts under new masks."""
        if self.start_rate == 0.0:
            return batch
        x, targets = self._masked(batch)
        place = None
        if batch.ids is None:
            place = stream(context.seed, "MaskingRate", context.epoch, context.step, node=context.world[0])

        def draw(name: str, high: int) -> Tensor:
            if place is not None:
                return place.integers(high, x.numel()).view(x.shape)
            ids = batch.need_ids("MaskingRate")
            return example_integers(context.seed, f"MaskingRate.{name}", context.epoch, ids, high, x.shape[1])

        shown, wanted = hide_tokens(
            original_tokens(x, targets).long(),
            masking_rate(context.progress, self.start_rate, self.end_rate),
            draw,
            vocabulary=self._size,
            mask=self.mask,
            specials=self.specials,
        )
        return replace(batch, inputs=shown.to(x.dtype), targets=wanted.to(targets.dtype))

    def _masked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Inputs and targets, if they are those of a masked model; what the first ones hold is looked at."""
        x, targets = batch.inputs, batch.targets
        both = isinstance(x, Tensor) and isinstance(targets, Tensor) and x.ndim == 2 and x.shape == targets.shape
        if not both or x.is_floating_point() or targets.is_floating_point():
            got = [f"{v.dtype} {list(v.shape)}" if isinstance(v, Tensor) else type(v).__name__ for v in (x, targets)]
            raise InvalidValue(
                f"MaskingRate works on tokens and targets, whole numbers [B, T] both, got {got[0]} and {got[1]}; use a "
                "masked language task such as books with objective='masked'"
            )
        if self._targets < ENOUGH:
            hidden, predicted = x == self.mask, targets != IGNORE
            lost = int((hidden & ~predicted).sum())
            self._odd += int((predicted & ~hidden & (x != targets)).sum())
            self._targets += int(predicted.sum())
            if lost or (self._targets >= ENOUGH and 2 * self._odd >= self._targets):
                raise InvalidValue(
                    "the targets of a masked model tell each hidden token at its own place, got "
                    f"{lost} hidden tokens without target and {self._odd} of {self._targets} targets that are neither "
                    f"hidden (token {self.mask}) nor shown; use a masked language task, or pass its mask="
                )
        return x, targets

    def finish(self, context: Context) -> None:
        """Forget what was found out."""
        self._size = self._targets = self._odd = 0
