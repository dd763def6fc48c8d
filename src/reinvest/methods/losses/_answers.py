"""A teacher's answer and the student's output brought into one layout: classes second, the same positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...core.criterion import IGNORE, classes_second
from ...core.errors import InvalidValue


class Answer(NamedTuple):
    """logits [B, C, ...] shaped as the student's; known [B] or [B, ...], None for all; centred: log-probabilities."""

    logits: Tensor
    known: Tensor | None
    centred: bool


def student_in_layout(output: Tensor, targets: Any) -> Tensor:
    """[B, C, ...]. A loop may have cut positions off (a language model's out[:, :-1] against labels[:, 1:])."""
    if output.ndim == 3 and isinstance(targets, Tensor) and targets.ndim == 2 and not targets.is_floating_point():
        whole, second, last = targets.shape[1], output.shape[1], output.shape[2]
        # Of the two dimensions the positions are the one that is as long as the targets, or falls just short of them.
        if last != whole and (second == whole or 0 < whole - second < abs(whole - last)):
            return output.movedim(-1, 1)
        return output
    return classes_second(output, targets)


def thinned(values: Tensor, stride: int) -> Tensor:
    """Every stride-th pixel in both directions."""
    return values[..., ::stride, ::stride] if stride > 1 else values


def as_student(answer: Tensor, student: Tensor, targets: Any, *, looks: bool, turned: bool) -> Tensor:
    """A teacher's logits in the student's layout, positions and device; its shape is checked with the loss.

    A table answers with classes second and its positions in one row; a model in its own layout, perhaps with positions
    that the loop cut off at the end. turned: the student's classes were last. Raises InvalidValue for a teacher whose
    layout cannot be told, because it answers at more positions than there are targets.
    """
    whole = targets.shape[1] if looks and turned and answer.ndim == 3 and targets.ndim == 2 else None
    if whole is not None and whole not in answer.shape[1:] and answer.shape[1] > whole:
        raise InvalidValue(
            f"a teacher answers where the targets are, got answers at {answer.shape[1]} positions for targets at "
            f"{whole}; let the loader yield inputs and targets, such as (x[:, :-1], x[:, 1:])"
        )
    answer = student_in_layout(answer, targets) if looks else answer
    answer = answer.to(student.device)
    if not looks and answer.ndim < student.ndim and answer.shape[2:].numel() == student.shape[2:].numel():
        return answer.reshape(*answer.shape[:2], *student.shape[2:])
    if answer.ndim == student.ndim == 3 and answer.shape[2] > student.shape[2]:
        return answer[..., : student.shape[2]]
    return answer


def average(answers: Sequence[Answer]) -> Answer:
    """The mean of several answers; known where all know. Raises InvalidValue for answers of unlike shapes."""
    shapes = sorted({tuple(a.logits.shape) for a in answers})
    if len(shapes) > 1:
        raise InvalidValue(
            f"teachers that are averaged answer alike, got logits of {' and '.join(map(str, shapes))}; "
            "take teachers with the same classes, or pool='random'"
        )
    centred = any(a.centred for a in answers)
    logits = [a.logits.float() for a in answers]
    if centred:
        logits = [one - one.mean(1, keepdim=True) for one in logits]
    known = all_know([a.known if a.known is None else a.known.to(logits[0].device) for a in answers])
    mean = torch.stack(logits).mean(0)
    return Answer(mean.log_softmax(1) if centred else mean, known, centred)


def all_know(masks: Sequence[Tensor | None]) -> Tensor | None:
    """What every teacher knows: [B] or [B, ...], None for everything."""
    known: Tensor | None = None
    for mask in masks:
        if mask is not None:
            known = mask if known is None else _both(known, mask.to(known.device))
    return known


def _both(a: Tensor, b: Tensor) -> Tensor:
    """Masks [B] and [B, ...] taken together."""
    if a.ndim == b.ndim:
        return a & b
    small, large = (a, b) if a.ndim < b.ndim else (b, a)
    return large & small.view(-1, *[1] * (large.ndim - 1))


def mean_over_positions(
    taught: Tensor, known: Tensor | None, targets: Any, stride: int
) -> tuple[Tensor, Tensor | None]:
    """([B, ...], [B] or [B, ...]) -> mean over positions that have a label and are known [B], and which have any [B]."""
    shape = taught.shape[1:]
    taught = taught.flatten(1)
    valid = torch.ones_like(taught, dtype=torch.bool)
    if isinstance(targets, Tensor) and not targets.is_floating_point():
        at = thinned(targets, stride)
        if at.ndim == 2 and at.shape[1] > shape[0]:
            at = at[:, -shape[0] :]  # the loop cut the first labels off
        valid &= (at != IGNORE).to(taught.device).flatten(1)
    if known is not None:
        known = known.to(taught.device)
        valid &= known.flatten(1)[:, : valid.shape[1]] if known.ndim > 1 else known.unsqueeze(1)
    counts = valid.sum(1)
    return (taught * valid).sum(1) / counts.clamp(min=1), counts > 0
