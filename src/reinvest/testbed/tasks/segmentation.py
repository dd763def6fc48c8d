"""Tasks with one label a pixel: maps beside the pictures, flipped together, measured by mean IoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from ...core.criterion import IGNORE
from ...core.errors import DataError, InvalidValue, unknown
from . import content, views
from .held import Rows
from .measures import MeanIoU
from .sources import Batches
from .splits import by_fraction, checked
from .task import Task


class MapSource:
    """Pictures and label maps in memory; with `flip` half of the training views are mirrored, map and picture alike."""

    in_memory = True

    def __init__(self, held: Rows, *, shift: Tensor, factor: Tensor, flip: bool) -> None:
        self.rows, self.input_shape, self.device = len(held), tuple(held.x.shape[1:]), held.x.device
        self.moves, self.augmentation = flip, "flip" if flip else "none"
        self._x, self._y, self._shift, self._factor = held.x, held.y, shift, factor

    def read(self, batches: Sequence[Tensor], *, seed: int, epoch: int, training: bool) -> Batches:
        """(x float32 [B, C, H, W], y int64 [B, H, W]) of each batch of ids."""
        for ids in batches:
            x, y = self._x.index_select(0, ids), self._y.index_select(0, ids)
            if training and self.moves:
                mirrored = views.draw_views(seed, epoch, ids, 0)[2].nonzero().flatten()
                x[mirrored], y[mirrored] = x[mirrored].flip(-1), y[mirrored].flip(-1)
            yield x.to(torch.float32).sub_(self._shift).mul_(self._factor), y.to(torch.int64)

    def hashes(self, ids: Tensor) -> Tensor:
        """64-bit hashes of rows `ids` [B]: int64 [B]."""
        return content.row_hashes(self._x[ids], self._y[ids])

    def to(self, device: torch.device) -> MapSource:
        """The same rows on another device."""
        moved = MapSource.__new__(MapSource)
        moved.rows, moved.input_shape, moved.device, moved.moves = self.rows, self.input_shape, device, self.moves
        moved.augmentation = self.augmentation
        moved._x, moved._y, moved._shift, moved._factor = (
            t.to(device) for t in (self._x, self._y, self._shift, self._factor)
        )
        return moved


class SegmentationTask(Task):
    """One of `classes` labels for each pixel, -100 where there is none. Made by `from_maps`; metric "miou"."""

    evaluation_batch = 32

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Share of right pixels of each picture, float32 [B]; 0 for a picture without a labelled pixel."""
        valid = (target != IGNORE).flatten(1)
        right = (output.argmax(1) == target).flatten(1) & valid
        return right.sum(1).to(torch.float32) / valid.sum(1).clamp(min=1)

    def measure(self) -> MeanIoU:
        """Mean IoU over a whole split, with the pixel accuracy beside it."""
        return MeanIoU(self.classes)

    @classmethod
    def from_maps(
        cls,
        name: str,
        x: Tensor,
        y: Tensor,
        *,
        classes: int,
        splits: Mapping[str, Sequence[int] | Tensor] | None = None,
        augment: str | None = None,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        class_names: Sequence[str] | None = None,
        preprocessing: str = "",
    ) -> Self:
        """A task out of pictures and label maps in memory; row numbers are the ids.

        x: pictures [N, C, H, W]; uint8 stands for 0..1 in steps of 1/255, floats for themselves.
        y: labels of whole numbers [N, H, W] in 0..classes-1, or -100 where a pixel has none.
        splits: ids of "train", "validation" and "test"; default 60/20/20 by a permutation keyed by the name.
        augment: "flip" mirrors half of the training views. mean, std: per channel or one for all.
        preprocessing: what was done to x beforehand, in words.
        Raises InvalidValue for shapes, types or settings that break these rules, DataError for labels out of range.
        """
        _check_maps(x, y)
        rows = Rows(x.detach() if x.dtype == torch.uint8 else x.detach().to(torch.float32), y)
        parts = by_fraction(name, len(y)) if splits is None else checked(splits, len(y))
        return cls.from_map_rows(
            name,
            rows,
            classes=classes,
            splits=parts,
            augment=augment,
            mean=mean,
            std=std,
            class_names=class_names,
            preprocessing=preprocessing,
        )

    @classmethod
    def from_map_rows(
        cls,
        name: str,
        rows: Rows,
        *,
        classes: int,
        splits: Mapping[str, Tensor],
        augment: str | None,
        mean: Sequence[float] | float | None,
        std: Sequence[float] | float | None,
        class_names: Sequence[str] | None,
        preprocessing: str,
    ) -> Self:
        """`from_maps` of rows that several tasks share, with splits that are known to be right."""
        if augment not in (None, "flip"):
            raise unknown("augmentation", augment, ["flip"])
        count = views.check_classes(classes)
        _check_range(rows.y, count)
        middle, spread = (views.per_channel(k, v, rows.x.shape[1]) for k, v in (("mean", mean), ("std", std)))
        shift, factor = views.scaling(rows.x, middle, spread)
        hashes = rows.hashes
        return cls(
            name,
            MapSource(rows, shift=shift, factor=factor, flip=augment is not None),
            splits=splits,
            classes=count,
            fingerprint=content.fingerprint(len(rows), count, hashes, splits),
            metric="miou",
            class_names=class_names,
            hashes=content.of_all(hashes, len(rows)),
            preprocessing=views.described(rows.x, middle, spread, preprocessing),
        )


def _check_maps(x: Tensor, y: Tensor) -> None:
    right = isinstance(x, Tensor) and x.dim() == 4 and (x.dtype == torch.uint8 or x.is_floating_point())
    if not right or not isinstance(y, Tensor) or y.is_floating_point() or y.dtype in (torch.bool, torch.uint8):
        got = [f"{v.dtype} {list(v.shape)}" if isinstance(v, Tensor) else type(v).__name__ for v in (x, y)]
        raise InvalidValue(
            "SegmentationTask.from_maps takes pictures uint8 or floating point [N, C, H, W] and labels of a signed whole "
            f"type [N, H, W], got {got[0]} and {got[1]}; convert them"
        )
    if y.shape != (x.shape[0], *x.shape[2:]) or len(y) == 0:
        raise InvalidValue(
            f"labels have one number a pixel, {[x.shape[0], *x.shape[2:]]}, got {list(y.shape)}; resize them alike"
        )


def _check_range(labels: Tensor, classes: int) -> None:
    wrong = labels[(labels != IGNORE) & ((labels < 0) | (labels >= classes))]
    if len(wrong):
        raise DataError(
            f"labels are whole numbers from 0 to classes - 1 = {classes - 1}, or {IGNORE} for none, "
            f"got {int(wrong[0])}; renumber them or pass the right classes"
        )
