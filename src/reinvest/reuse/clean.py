"""One evaluation pass of any model over the training examples, kept by id: records for teachers that left none."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.batch import find_ids, unpack
from ..core.criterion import classes_second
from ..core.errors import InvalidValue, MissingIds
from ..core.forward import logits_of
from ..core.view import TaskView, view_of
from ..store.artifacts import put_json
from ..store.rows import RowTable

BATCH = 512


class CleanPass:
    """What a model says of each training example, as it is evaluated: log-probabilities by id.

    seconds: what the pass took. view: the data it was made on. Made by `clean_pass`; pass it to `Distill`.
    """

    def __init__(self, table: RowTable, seconds: float, view: TaskView) -> None:
        self.table, self.seconds, self.view = table, seconds, view
        self.examples, self.classes, self.positions = table.examples, table.classes, table.positions

    @property
    def labels(self) -> Tensor | None:
        """[N] int64: the label of each example that was seen, -1 for none; None where an example has no single one."""
        return None if self.positions is not None else self.table.labels

    def known(self, ids: Tensor) -> Tensor:
        """Which of the examples `ids` [B] were seen: bool [B] or [B, P]."""
        return self.table.known[ids]

    def rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probabilities float32 [B, C] or [B, P, C], known [B] or [B, P]) of examples `ids` [B]; unknown rows are 0."""
        return self.table.rows(ids)


def clean_pass(
    model: Callable[..., Any],
    loader: Any,
    *,
    path: str | Path | None = None,
    device: str | torch.device | None = None,
) -> CleanPass:
    """Evaluate `model` once on every example of `loader` and keep its log-probabilities (8 bits each) by id.

    model: a module, or any callable that returns logits [B, C, ...] or an object with a field `logits`. loader: yields ids
    (wrap the data set in Indexed) and, for a clean pass, views without augmentation. path: where the table is kept
    (default: a temporary file). The model's mode is put back; no gradient is built. Raises MissingIds for a loader
    without ids, InvalidValue for an empty loader.
    """
    indexed, examples = find_ids(loader)
    if not indexed or examples is None:
        raise MissingIds(
            "a clean pass is kept by example id and the loader yields none; wrap the data set: DataLoader(ri.Indexed(dataset), ...)"
        )
    view = view_of(loader)
    target = Path(tempfile.mkdtemp(prefix="reinvest-")) / "clean.rows" if path is None else Path(path)
    batches = ((b.ids, b) for b in (unpack(item, indexed) for item in loader))
    return _pass(model, batches, examples, target, view, device)


def clean_pass_of_view(
    model: Callable[..., Any], view: TaskView, path: Path, device: torch.device, begun: float
) -> CleanPass:
    """`clean_pass` over the training examples that a task's own loader offers (`TaskView.clean`).

    begun: when (by `time.perf_counter`) the model began to be built, which is part of what the pass costs.
    """
    assert view.clean is not None and view.examples is not None
    batches = ((ids, unpack((ids, x, y), True)) for ids, x, y in view.clean(BATCH))
    return _pass(model, batches, view.examples, path, view, device, begun)


def open_clean(path: Path, view: TaskView) -> CleanPass | None:
    """The pass kept at `path`, or None."""
    if not path.exists() or not _note(path).exists():
        return None
    return CleanPass(RowTable.open(path), float(json.loads(_note(path).read_text())["seconds"]), view)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _pass(
    model: Callable[..., Any],
    batches: Iterable[tuple[Tensor | None, Any]],
    examples: int,
    path: Path,
    view: TaskView,
    device: str | torch.device | None,
    begun: float | None = None,
) -> CleanPass:
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    where = torch.device(device) if device is not None else first.device if first is not None else torch.device("cpu")
    table: RowTable | None = None
    begun = time.perf_counter() if begun is None else begun
    with evaluating(model), torch.no_grad():
        for ids, batch in batches:
            output = logits_of(model, batch, where, "a clean pass")
            output = classes_second(output, batch.targets).float().cpu()
            rows = output if output.ndim == 2 else output.flatten(2).movedim(1, -1)
            if table is None:
                positions = None if rows.ndim == 2 else rows.shape[1]
                table = RowTable.create(path, examples, rows.shape[-1], positions=positions)
            table.write(ids.cpu(), rows)  # type: ignore[union-attr]
            if isinstance(batch.targets, Tensor) and batch.targets.ndim == 1 and not batch.targets.is_floating_point():
                table.set_labels(ids.cpu(), batch.targets.cpu())  # type: ignore[union-attr]
    if table is None:
        raise InvalidValue("a clean pass needs at least one example, got an empty loader; pass the training data")
    seconds = time.perf_counter() - begun
    table.seal()
    put_json(_note(path), {"seconds": seconds})
    return CleanPass(table, seconds, view)


class evaluating:
    """The model in eval mode while the block lasts, module by module put back afterwards; callables stay as they are."""

    def __init__(self, model: Any) -> None:
        self._modules = list(model.modules()) if isinstance(model, nn.Module) else []

    def __enter__(self) -> None:
        self._modes = [module.training for module in self._modules]
        for module in self._modules:
            module.training = False

    def __exit__(self, *_: object) -> None:
        for module, training in zip(self._modules, self._modes, strict=True):
            module.training = training
