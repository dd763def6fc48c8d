"""A task: data with ids and fixed splits, a loss and a metric."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from ...core.criterion import cross_entropy
from ...core.errors import InvalidValue, unknown
from ...core.view import NO_SPLIT, TEST, TRAIN, VALIDATION, TaskView
from . import content, views
from .held import Rows
from .loader import EpochLoader
from .sources import Collate, DatasetSource, Source, TensorSource, check_labels
from .splits import SPLITS, by_fraction, checked

if TYPE_CHECKING:
    from .planted import Planted


class Task:
    """Classification of examples that have ids. Made by `from_tensors` or `from_datasets`.

    For another loss or metric make a subclass that overrides `criterion` and `score` (and `higher_is_better`) and give
    its metric a name. A metric that is no mean over examples comes from a method `measure()` of the subclass, which
    returns an object with update(output, target) and compute() -> {name: value}.
    """

    higher_is_better: bool = True
    evaluation_batch: int = 512
    """Examples that `evaluate` shows the model at once unless told; fewer where outputs are large."""
    planted: Planted | None = None
    """What was changed on purpose, in a task made by `planted`."""

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        splits: Mapping[str, Tensor],
        classes: int,
        fingerprint: str,
        metric: str = "accuracy",
        class_names: Sequence[str] | None = None,
        hashes: Tensor | None = None,
        preprocessing: str = "",
    ) -> None:
        """For factories of tasks; users call `from_tensors` or `from_datasets`.

        hashes: int64 [rows], if the fingerprint has read all rows anyway. preprocessing: what the model sees, in words.
        """
        if not isinstance(name, str) or not name.strip():
            raise InvalidValue(
                f"a task's name is text that is not empty, got {name!r}; give it one, its splits are keyed by it"
            )
        if metric != "accuracy" and type(self).score is Task.score and not hasattr(self, "measure"):
            raise InvalidValue(
                f"Task measures 'accuracy', got metric {metric!r}; "
                "for another metric override score(output, target), or define measure(), in a subclass of Task"
            )
        if class_names is not None and len(class_names) != classes:
            raise InvalidValue(
                f"class_names has one name a class ({classes}), got {len(class_names)}; give all or none"
            )
        self.name, self.metric, self.classes, self.fingerprint = name, metric, classes, fingerprint
        self.class_names = None if class_names is None else tuple(class_names)
        self.splits = dict(splits)
        """Ids of "train", "validation" and "test": int64 [n] each."""
        self.input_shape = source.input_shape
        self.test_examples = len(self.splits["test"])
        self._source, self._hashes, self._preprocessing = source, hashes, preprocessing
        self._view: TaskView | None = None

    @classmethod
    def from_tensors(
        cls,
        name: str,
        x: Tensor,
        y: Tensor,
        *,
        splits: Mapping[str, Sequence[int] | Tensor] | None = None,
        classes: int | None = None,
        metric: str = "accuracy",
        augment: str | None = None,
        pad: int | None = None,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        fingerprint: str | None = None,
        class_names: Sequence[str] | None = None,
        preprocessing: str = "",
    ) -> Self:
        """A task out of tensors in memory; row numbers are the ids.

        x: pictures [N, C, H, W] or features [N, F]; uint8 stands for 0..1 in steps of 1/255, floats for themselves.
        y: labels int64 [N], of rows in a split in 0..classes-1 (default: the largest label + 1).
        splits: ids of "train", "validation" and "test"; default 60/20/20 by a permutation keyed by the name.
        augment: "crop-flip" shows training pictures shifted by up to `pad` pixels (default: an eighth of the shorter side, at
        least 1) and half of them mirrored.
        mean, std: per channel or one for all, in units of 0..1 for uint8; applied to every split.
        fingerprint: your own word for the content, instead of hashing it.
        preprocessing: what was done to x beforehand, in words; runs on inputs made in another way are not mixed up.
        Raises InvalidValue for shapes, types or settings that break these rules, DataError for labels out of range.
        """
        _check_tensors(x, y)
        return cls.from_rows(
            name,
            Rows(x.detach() if x.dtype == torch.uint8 else x.detach().to(torch.float32), y),
            splits=by_fraction(name, len(y)) if splits is None else checked(splits, len(y)),
            classes=int(y.max()) + 1 if classes is None else classes,
            metric=metric,
            augment=augment,
            pad=pad,
            mean=mean,
            std=std,
            fingerprint=fingerprint,
            class_names=class_names,
            preprocessing=preprocessing,
        )

    @classmethod
    def from_rows(
        cls,
        name: str,
        rows: Rows,
        *,
        splits: Mapping[str, Tensor],
        classes: int,
        metric: str = "accuracy",
        augment: str | None = None,
        pad: int | None = None,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        fingerprint: str | None = None,
        class_names: Sequence[str] | None = None,
        preprocessing: str = "",
    ) -> Self:
        """`from_tensors` of rows that several tasks share, with splits that are known to be right."""
        pad = max(1, min(rows.x.shape[2:], default=0) // 8) if pad is None else pad
        crop = _check_augment(augment, pad, rows.x)
        count = views.check_classes(classes)
        check_labels(rows.y[torch.cat(list(splits.values()))], count)
        hashes = rows.hashes if fingerprint is None else content.stated(fingerprint)
        middle, spread = (views.per_channel(k, v, rows.x.shape[1]) for k, v in (("mean", mean), ("std", std)))
        shift, factor = views.scaling(rows.x, middle, spread)
        return cls(
            name,
            TensorSource(rows, shift=shift, factor=factor, augment=crop, pad=pad),
            splits=splits,
            classes=count,
            fingerprint=content.fingerprint(len(rows), count, hashes, splits),
            metric=metric,
            class_names=class_names,
            hashes=content.of_all(hashes, len(rows)),
            preprocessing=views.described(rows.x, middle, spread, preprocessing),
        )

    @classmethod
    def from_datasets(
        cls,
        name: str,
        train: Any,
        validation: Any,
        test: Any,
        *,
        classes: int,
        metric: str = "accuracy",
        fingerprint: str | None = None,
        workers: int = 0,
        collate: Collate | None = None,
        preprocessing: str = "",
    ) -> Self:
        """A task out of three map-style data sets (`len` and `[i]`) whose items are (x, y).

        Ids number the training rows first, then validation, then test. Each item is read with the global generators of
        torch, numpy and random seeded by (seed, epoch, id) and put back afterwards, so random transforms that draw from
        them do not depend on workers, batch size or where an epoch starts.
        fingerprint: your own word for the content. Without it every row (a sample beyond 10^6) is read once here and
        hashed, with its label checked.
        workers: processes that read items. collate: list of (x, y) -> (x [B, ...], y [B]); default torch's.
        preprocessing: what the data sets do to an example, in words; runs on inputs made in another way are not mixed
        up.
        Raises InvalidValue for data sets or settings that break these rules, DataError for labels out of range.
        """
        parts = dict(zip(SPLITS, (train, validation, test), strict=True))
        for split, data in parts.items():
            if not hasattr(data, "__getitem__") or not hasattr(data, "__len__") or len(data) == 0:
                raise InvalidValue(
                    f"each split is a data set with len() of at least 1 and [i], "
                    f"got {type(data).__name__} for {split!r}; pass a map-style data set"
                )
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 0:
            raise InvalidValue(f"workers is a whole number of at least 0, got {workers!r}; pass a number of processes")
        count = views.check_classes(classes)
        source = DatasetSource(list(parts.values()), workers=workers, collate=collate)
        ids = torch.arange(source.rows)
        splits = dict(zip(SPLITS, torch.split(ids, [len(data) for data in parts.values()]), strict=True))
        hashes: Tensor | str
        if fingerprint is None:
            hashes = source.checked_hashes(content.hashed_rows(source.rows), count)
        else:
            hashes = content.stated(fingerprint)
        return cls(
            name,
            source,
            splits=splits,
            classes=count,
            fingerprint=content.fingerprint(source.rows, count, hashes, splits),
            metric=metric,
            hashes=content.of_all(hashes, source.rows),
            preprocessing=preprocessing or f"inputs {'x'.join(map(str, source.input_shape))}",
        )

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        views: tuple[int, int] | None = None,
    ) -> EpochLoader:
        """One epoch from batch `start` on: "train" (drawn from seed and epoch), "validation" or "test" (fixed order).

        views: (seed, epoch) from which random views of training examples are drawn instead; the order stays.
        Raises UnknownName for another split, InvalidValue for a size, epoch or start out of range.
        """
        if split not in self.splits:
            raise unknown("split", split, self.splits)
        training = split == "train"
        return EpochLoader(
            self._source,
            self.splits[split],
            batch_size,
            training=training,
            seed=seed,
            epoch=epoch,
            start=start,
            view=self.view,
            views=views,
        )

    def clean(self, batch_size: int, ids: Tensor | None = None) -> EpochLoader:
        """Batches of examples `ids` (default: the training split) once, in that order, as evaluation sees them.

        Raises InvalidValue for ids that are no row numbers of the task and for a batch size below 1.
        """
        chosen = self.splits["train"] if ids is None else _check_ids(ids, self._source.rows)
        return EpochLoader(self._source, chosen, batch_size, training=False, view=self.view)

    @property
    def view(self) -> TaskView:
        """What the task's loaders tell a chain and the records of a run; built once."""
        if self._view is None:
            known = self._hashes is not None or self._source.in_memory
            self._view = TaskView(
                criterion=self.criterion,
                namespace=self.name,
                fingerprint=self.fingerprint,
                examples=self._source.rows,
                classes=self.classes,
                class_names=self.class_names,
                preprocessing=self._preprocessing,
                moves=self._source.moves,
                augmentation=self._source.augmentation,
                hashes=self._all_hashes if known else None,
                roles=self._roles,
                clean=self.clean,
                probes=None if self.planted is None else self.planted.probes,
            )
        return self._view

    def _all_hashes(self) -> Tensor:
        if self._hashes is None:
            rows = torch.split(torch.arange(self._source.rows), 10_000)
            self._hashes = torch.cat([self.hashes(ids).cpu() for ids in rows])
        return self._hashes

    def _roles(self) -> Tensor:
        roles = torch.full((self._source.rows,), NO_SPLIT, dtype=torch.uint8)
        for split, role in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
            roles[self.splits[split]] = role
        return roles

    # The chain's own default, and the same object, so that the chain knows it and takes its short cut.
    criterion = staticmethod(cross_entropy)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """1 where the largest logit of [B, classes] is the label [B], else 0: float32 [B]."""
        return (output.argmax(1) == target).to(torch.float32)

    def hashes(self, ids: Tensor) -> Tensor:
        """64-bit hashes of label and content of examples `ids` [B]: int64 [B]; altered rows show."""
        return self._source.hashes(ids.to(self._source.device))

    def to(self, device: torch.device | str) -> Self:
        """The same task with tensors in memory kept on `device`, so that its batches are made there.

        A task made from data sets is returned unchanged: its batches come from the host.
        """
        moved = copy.copy(self)
        moved._source, moved._view = self._source.to(torch.device(device)), None
        return moved


def _check_tensors(x: Tensor, y: Tensor) -> None:
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise InvalidValue(
            f"Task.from_tensors takes tensors, got {type(x).__name__} and {type(y).__name__}; "
            "convert with torch.as_tensor"
        )
    if x.dim() not in (2, 4) or not (x.dtype == torch.uint8 or x.is_floating_point()):
        raise InvalidValue(
            f"x is uint8 or floating point of shape [N, C, H, W] or [N, F], "
            f"got {x.dtype} {list(x.shape)}; reshape or convert it"
        )
    if y.dtype != torch.int64 or y.dim() != 1 or len(y) != len(x) or len(y) == 0:
        raise InvalidValue(
            f"y is int64 of shape [N] with one label a row of x (N = {len(x)}, at least 1), "
            f"got {y.dtype} {list(y.shape)}; convert it"
        )


def _check_augment(augment: str | None, pad: int, x: Tensor) -> bool:
    if augment not in (None, "crop-flip"):
        raise unknown("augmentation", augment, ["crop-flip"])
    if augment is not None and x.dim() != 4:
        raise InvalidValue(f"crop-flip needs pictures [N, C, H, W], got {list(x.shape)}; leave augment out")
    if not isinstance(pad, int) or isinstance(pad, bool) or not 0 <= pad <= 64:
        raise InvalidValue(f"pad is a whole number of pixels from 0 to 64, got {pad!r}; pass one in that range")
    return augment is not None


def _check_ids(ids: Tensor, rows: int) -> Tensor:
    whole = isinstance(ids, Tensor) and ids.dtype == torch.int64 and ids.dim() == 1 and len(ids) > 0
    if not whole or int(ids.min()) < 0 or int(ids.max()) >= rows:
        got = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        span = f" from {int(ids.min())} to {int(ids.max())}" if whole else ""
        raise InvalidValue(
            f"ids are row numbers from 0 to {rows - 1} as int64 [n], got {got}{span}; pass ids of this task"
        )
    return ids
