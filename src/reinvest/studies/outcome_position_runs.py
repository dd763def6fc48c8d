"""Finished runs asked about every pixel or token of a split: one model at a time, answers in files, read by the example."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.criterion import IGNORE, classes_second
from ..core.errors import DataError, InvalidValue, unknown
from ..core.recipe import Recipe
from ..loop.session import DTYPES, build_task
from ..loop.train import device_named
from .outcome_files import Groups, group_names
from .outcome_positions import PositionFigures
from .outcome_runs import SPLITS, Progress, Repeat, batch_of, model_for, tell

PART = 1 << 20
LABELS = "labels"


@dataclass(frozen=True)
class _Kept:
    """A pass whose answers are in `file`, of type `dtype`, an example after another: ids and positions of each, how many
    classes, and hashes of ids with labels, and of all logits."""

    file: Path
    dtype: np.dtype[Any]
    ids: list[int]
    sizes: list[int]
    classes: int
    asked: str
    bits: str

    def read(self, start: int, stop: int) -> Tensor:
        """Answers from one position to another, int64."""
        return _read(self.file, self.dtype, start, stop)


def on_positions(run: Any, split: str) -> bool:
    """Whether the examples of a run's task have a label a position, and not one label each."""
    for _, _, y in build_task(Recipe.from_dict(run.config)).loader(split, 1):
        return isinstance(y, Tensor) and y.ndim > 1 and not y.is_floating_point()
    return False


def ask_positions(
    runs: Sequence[Any],
    split: str,
    *,
    groups: Groups | None = None,
    store: Any = None,
    device: str | None = None,
    batch_size: int | None = None,
    repeat: bool = False,
    progress: Progress | None = None,
) -> tuple[PositionFigures, Repeat | None]:
    """What finished runs of recipes say of every position of a split, counted; see `outcome_runs.ask` for arguments.

    Answers of all runs are in a temporary folder meanwhile, one byte a position and run up to 256 classes. Raises
    UnknownName for another split, InvalidValue for outputs without a class for each label and for logits that are not
    finite, DataError where runs are asked about different examples.
    """
    if split not in SPLITS:
        raise unknown("split (training examples are seen in random views)", split, SPLITS)
    where, width = device_named(device, "runs vote"), 0.5 if repeat else 1.0
    same = changed = 0
    with (
        contextlib.nullcontext() if store is None else store.lending(),
        tempfile.TemporaryDirectory(prefix="reinvest-") as folder,
    ):
        kept: list[_Kept] = []
        for place, run in enumerate(runs):
            say = functools.partial(tell, progress, len(runs), run, width)
            file = Path(folder) / str(place)
            kept.append(_pass(run, split, where, batch_size, file, functools.partial(say, place)))
            if repeat:
                again = _pass(
                    run, split, where, batch_size, file.with_name("again"), functools.partial(say, place + width)
                )
                same += again.bits == kept[-1].bits
                changed += _changed(kept[-1], again)
            if kept[-1].asked != kept[0].asked:
                raise DataError(
                    f"votes are about the same examples, got another {split} split or other labels for run {run.id!r} than for "
                    f"run {runs[0].id!r}; leave it out"
                )
        figures = _counted(runs, kept, groups)
    return figures, Repeat(len(runs), same, changed) if repeat else None


def _counted(runs: Sequence[Any], kept: Sequence[_Kept], groups: Groups | None) -> PositionFigures:
    first = kept[0]
    names = group_names(groups, torch.tensor(first.ids))
    figures = PositionFigures(
        [run.id for run in runs],
        max(one.classes for one in kept),
        class_names=(runs[0].training.get("data") or {}).get("class_names"),
        groups=None if names is None else dict(zip(first.ids, names, strict=True)),
    )
    start = 0
    for number, size in zip(first.ids, first.sizes, strict=True):
        labels = _labels(first, start, start + size)
        figures.add(number, labels, torch.stack([one.read(start, start + size) for one in kept]))
        start += size
    return figures


def _pass(
    run: Any, split: str, device: torch.device, batch_size: int | None, file: Path, tick: Callable[[float], None]
) -> _Kept:
    recipe = Recipe.from_dict(run.config)
    task = build_task(recipe)
    model = model_for(run, task, split, device)
    dtype, bits, asked = DTYPES.get(recipe.precision), hashlib.sha256(), hashlib.sha256()
    ids: list[int] = []
    sizes: list[int] = []
    kind, classes = np.dtype(np.uint8), 0
    loader = task.loader(split, batch_of(task, batch_size))
    with torch.no_grad(), file.open("wb") as answers, file.with_name(LABELS).open("wb") as labels:
        for done, (batch_ids, x, y) in enumerate(loader):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                output = classes_second(model(x.to(device)), y)
            logits = _logits(run, task, output, y)
            if classes not in (0, logits.shape[1]):
                raise InvalidValue(
                    f"a model has equally many classes for every example, got {classes} and {logits.shape[1]} from run "
                    f"{run.id!r}; leave it out"
                )
            classes, kind = logits.shape[1], np.min_scalar_type(logits.shape[1] - 1)
            bits.update(logits.numpy().tobytes())
            answers.write(logits.argmax(1).numpy().astype(kind).tobytes())
            shown = y.cpu().numpy().astype(np.int32)
            labels.write(shown.tobytes())
            asked.update(f"{batch_ids.tolist()} {list(shown.shape[1:])}".encode() + shown.tobytes())
            ids += batch_ids.tolist()
            sizes += [shown[0].size] * len(shown)
            tick((done + 1) / len(loader))
    return _Kept(file, kind, ids, sizes, classes, asked.hexdigest(), bits.hexdigest())


def _logits(run: Any, task: Any, output: Tensor, y: Tensor) -> Tensor:
    if output.ndim != y.ndim + 1 or output.shape[:1] + output.shape[2:] != y.shape:
        raise InvalidValue(
            f"votes are a class for each label, got {task.name!r} with labels {list(y.shape)} and outputs "
            f"{list(output.shape)}; take a task whose model gives logits [B, classes, ...]"
        )
    logits = output.float().cpu()
    if not bool(logits.isfinite().all()):
        raise InvalidValue(f"a vote is the largest of finite logits, got others from run {run.id!r}; leave it out")
    return logits


def _changed(one: _Kept, other: _Kept) -> int:
    """Labelled positions whose answer is another one."""
    total = sum(one.sizes)
    found = 0
    for start in range(0, total, PART):
        part = start, min(start + PART, total)
        found += int(((one.read(*part) != other.read(*part)) & (_labels(one, *part) != IGNORE)).sum())
    return found


def _labels(kept: _Kept, start: int, stop: int) -> Tensor:
    """Labels of the split; every pass writes them, and is refused where they are others."""
    return _read(kept.file.with_name(LABELS), np.dtype(np.int32), start, stop)


def _read(file: Path, dtype: np.dtype[Any], start: int, stop: int) -> Tensor:
    found = np.fromfile(file, dtype, stop - start, offset=start * dtype.itemsize)
    return torch.from_numpy(found.astype(np.int64))
