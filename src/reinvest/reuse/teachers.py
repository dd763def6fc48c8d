"""Choosing a teacher: an earlier run by its records, by one clean pass or by its weights, or any model at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..core import names
from ..core.batch import Batch
from ..core.errors import CorruptFile, DataError, InvalidValue, ReinvestError, StoreError
from ..core.forward import logits_of
from ..core.method import Context
from ..core.protocols import Teacher, find_run
from ..core.streams import key
from ..core.view import TRAIN
from .clean import CleanPass, clean_pass, clean_pass_of_view, evaluating, open_clean
from .fit import Source, check_ancestors, check_data, class_map, source_of, warn_about_weight
from .models import model_of
from .replay import EpochRows, ViewTeacher, check_augmentation

__all__ = ["CleanPass", "ForwardTeacher", "TableTeacher", "catalog", "clean_pass", "model_of"]

FLOOR = -12.0
"""Log-probability of a class that the teacher does not have."""
HELD = 1 << 28
"""Bytes of log-probabilities that are kept decoded on the device; larger tables are read row by row."""


class Rows(Protocol):
    """Log-probabilities by example id: a run's records, or a clean pass."""

    @property
    def examples(self) -> int | None:
        """N: ids are 0 ... N - 1."""
        ...

    @property
    def classes(self) -> int | None:
        """Classes of a row."""
        ...

    def known(self, ids: Tensor) -> Tensor:
        """Which have a row: bool [B] or [B, P]."""
        ...

    def rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probabilities [B, C] or [B, P, C], known [B] or [B, P])."""
        ...


class TableTeacher:
    """Answers by looking up what was kept of each example: no forward pass."""

    looks, centred = False, True
    draws: Sequence[tuple[int, int]] = ()

    def __init__(
        self, rows: Rows, source: Source, run: Any, how: str, context: Context, begun: float, held: int = HELD
    ) -> None:
        self.run, self.how = ("" if run is None else str(run.id)), how
        self.stride = int(getattr(rows, "stride", 1) or 1)
        self._rows, self._name = rows, source.name
        view = context.task
        self._map = class_map(source, view, None)
        self._classes = view.classes or rows.classes
        self._dense = getattr(rows, "positions", None) is not None
        if self._dense and view.moves:
            raise InvalidValue(
                "what was kept of each pixel or token belongs to the stored example, got training views that move them; "
                "leave the augmentation out, or use source='forward'"
            )
        self._table: Tensor | None = None
        self._all_known = False
        labels = getattr(rows, "labels", None)
        self._labels = labels if source.hashes is None or view.hashes is None else None
        self._check_overlap(context)
        self._hold(context, held)
        self.seconds = time.perf_counter() - begun

    def _check_overlap(self, context: Context) -> None:
        """Refuse a table that knows none of the examples that will be trained on."""
        roles = context.task.roles() if context.task.roles is not None else None
        count = self._rows.examples or 0
        ids = torch.arange(count) if roles is None else (roles == TRAIN).nonzero().flatten()
        ids = ids[ids < count]
        found = self._rows.known(ids)
        known = int(found.sum())
        if not known:
            raise InvalidValue(
                f"a teacher's records know some of the training examples, got none in common with {self._name}; "
                "take a run on the same data, or source='clean pass'"
            )
        self._all_known = roles is not None and not self._dense and known == int((roles == TRAIN).sum())

    def _hold(self, context: Context, most: int) -> None:
        """Keep a small table decoded where the student is, so that a step costs one look-up."""
        own = context.task.examples or self._rows.examples or 0
        count = self._rows.examples or 0
        if self._dense or not own or own * (self._classes or 0) * 4 > most:
            return
        found = [self._read(part) for part in torch.split(torch.arange(min(own, count)), 65536)]
        table, known = torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])
        if own > len(table):
            table = torch.cat([table, table.new_zeros(own - len(table), table.shape[1])])
            known = torch.cat([known, known.new_zeros(own - len(known))])
        self._table, self._known = table.to(context.device), known.to(context.device)

    def _read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows with the student's classes; examples that came later are unknown."""
        count = self._rows.examples or 0
        inside = (ids >= 0) & (ids < count)
        found, known = self._rows.rows(torch.where(inside, ids, 0))
        known = known & (inside if known.ndim == 1 else inside.unsqueeze(1))
        if self._map is not None:
            wider = found.new_full((*found.shape[:-1], self._classes or 0), FLOOR)
            wider[..., self._map] = found
            found = wider
        return (found.movedim(-1, 1) if found.ndim > 2 else found), known

    def _lookup(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        if self._table is None:
            return self._read(ids.cpu())
        ids = ids.to(self._table.device)
        return self._table[ids], self._known[ids]

    def __call__(self, batch: Batch, context: Context) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities [B, C] or [B, C, P] of the batch's examples; blends are blended likewise."""
        if batch.moved:
            raise InvalidValue(
                "records of pixels lie on the pictures as they are stored, got label maps that were cut or shifted; "
                "leave that method out, or use source='forward'"
            )
        ids = batch.need_ids("Distill from records")
        if self._labels is not None and context.step < context.steps_per_epoch:
            self._compare_labels(ids, batch.targets)
        own, known = self._lookup(ids)
        if self._map is not None:
            known = taught_classes(known, self._map, batch)
        if batch.mix is None:
            return own, None if self._all_known and self._map is None else known
        if batch.mix.ids is None:
            raise InvalidValue(
                "records are blended by the ids of both examples, got a blend without partners' ids; "
                "let the blending method fill Mix.ids, or use source='forward'"
            )
        other, known_too = self._lookup(batch.mix.ids)
        c = batch.mix.coefficients.to(own.device, own.dtype).view(-1, *[1] * (own.ndim - 1))
        blended = (c * own.softmax(1) + (1.0 - c) * other.softmax(1)).clamp_min(1e-30).log()
        return blended, None if self._all_known and self._map is None else known & known_too

    def _compare_labels(self, ids: Tensor, targets: Any) -> None:
        """Without content hashes, the labels of the first epoch tell whether ids still mean the same examples."""
        assert self._labels is not None
        if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
            return
        ids, targets = ids.cpu(), targets.cpu()
        inside = ids < len(self._labels)
        then = self._labels[torch.where(inside, ids, 0)].long()
        if self._map is not None:
            then = torch.where(then >= 0, torch.tensor(self._map)[then.clamp(min=0)], then)
        differ = inside & (then >= 0) & (then != targets)
        if bool(differ.any()):
            first = int(ids[differ][0])
            raise DataError(
                f"an id stands for one example, got another label for {int(differ.sum())} ids of a batch than "
                f"{self._name} saw, the first {first}; do not re-order or relabel rows, append new ones"
            )

    def close(self) -> None:
        """Let the table go."""
        self._table = None


class ForwardTeacher:
    """Answers by looking at the student's own view of each batch."""

    looks, stride = True, 1
    draws: Sequence[tuple[int, int]] = ()

    def __init__(self, model: Callable[..., Any], source: Source, run: Any, context: Context, begun: float) -> None:
        self.run, self.how = ("" if run is None else str(run.id)), "forward"
        self._model, self._map = model, class_map(source, context.task, None)
        self.centred = self._map is not None
        self._classes = context.task.classes
        self.seconds = time.perf_counter() - begun

    def __call__(self, batch: Batch, context: Context) -> tuple[Tensor, Tensor | None]:
        """Logits [B, C, ...] of the batch as the student sees it."""
        device = context.device
        # At every call: a loop may put everything it holds into training mode, and a model may draw in any mode.
        with evaluating(self._model), torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(key(context.seed, "Distill.forward", 0, context.step) >> 1)
            found = logits_of(self._model, batch, device, "Distill")
        if self._map is not None:
            wider = found.new_full((len(found), self._classes or 0, *found.shape[2:]), FLOOR)
            wider[:, self._map] = found.log_softmax(1)
            everything = torch.ones(len(found), dtype=torch.bool, device=found.device)
            return wider, taught_classes(everything, self._map, batch)
        return found, None

    def close(self) -> None:
        """Nothing is left behind between calls."""


def taught_classes(known: Tensor, classes: list[int], batch: Batch) -> Tensor:
    """known [B] or [B, P] without the examples of classes that the teacher never met: it would deny them."""
    met = torch.tensor(classes, device=known.device)
    for targets in (batch.targets, None if batch.mix is None else batch.mix.partners):
        if isinstance(targets, Tensor) and not targets.is_floating_point():
            right = torch.isin(targets.to(known.device), met)
            right = right.flatten(1) if right.ndim > 1 else right
            known = (known if known.ndim == right.ndim else known.unsqueeze(1)) & right
    return known


# ---- opening -------------------------------------------------------------------------------------------------------


def open_auto(reference: Any, context: Context, *, constant: bool) -> Teacher:
    """Records where the run has rows, else one clean pass; a model or callable is asked at every step."""
    if isinstance(reference, CleanPass):
        return open_clean_pass(reference, context, constant=constant)
    if _is_model(reference):
        return open_forward(reference, context, constant=constant)
    run = _run(reference)
    if context.task.moves and _dense(run):
        return open_forward(run, context, constant=constant)
    if _has_rows(run):
        return open_records(run, context, constant=constant)
    return open_clean_pass(run, context, constant=constant)


def open_records(reference: Any, context: Context, *, constant: bool) -> Teacher:
    """A teacher that is a run with records. Raises StoreError if it has none."""
    begun = time.perf_counter()
    if _is_model(reference):
        raise InvalidValue(
            f"records belong to a run, got {_named(reference)}; use source='forward', or make a clean_pass(...)"
        )
    run = _run(reference)
    records = run.records()
    if not _has_rows(run):
        records.rows(torch.zeros(1, dtype=torch.int64))  # its refusal says why there are none
    source = source_of(run)
    check_data(source, context.task, by_id=True)
    check_ancestors(run, context.task)
    if constant:
        warn_about_weight(source, run, context)
    return TableTeacher(records, source, run, "records", context, begun)


def open_views(reference: Any, context: Context, *, constant: bool) -> Teacher:
    """A teacher that is a run with the rows of single views. Raises StoreError if it kept none."""
    begun = time.perf_counter()
    if isinstance(reference, CleanPass) or _is_model(reference):
        raise InvalidValue(f"replayed views belong to a run, got {_named(reference)}; use source='auto'")
    run = _run(reference)
    records = run.records()
    draws = [(records.view_seed, epoch) for epoch in records.view_epochs]
    source = source_of(run)
    check_data(source, context.task, by_id=True)
    check_ancestors(run, context.task)
    check_augmentation(run, context.task)
    if constant:
        warn_about_weight(source, run, context)
    most = HELD // len(draws)
    rows = [EpochRows(records, k) for k in range(len(draws))]
    return ViewTeacher([TableTeacher(r, source, run, "views", context, begun, most) for r in rows], draws)


def open_clean_pass(reference: Any, context: Context, *, constant: bool) -> Teacher:
    """A teacher by one evaluation pass: made before, found in the store, or made now."""
    begun = time.perf_counter()
    if isinstance(reference, CleanPass):
        view = reference.view
        class_names = view.class_names if view.classes == reference.classes else None
        source = Source(
            "the clean pass",
            view.namespace,
            "",
            reference.classes,
            class_names,
            view.preprocessing,
            hashes=None if view.hashes is None else view.hashes(),
            foreign=True,
        )
        check_data(source, context.task, by_id=True)
        return TableTeacher(reference, source, None, "clean pass", context, begun - reference.seconds)
    if _is_model(reference):
        model = _model(reference)
        made = _pass_now(model, context, None, _named(reference), begun)
        source = Source(_named(reference), classes=made.classes)
        return TableTeacher(made, source, None, "clean pass", context, begun)
    run = _run(reference)
    source = source_of(run)
    check_data(source, context.task, by_id=False)
    check_ancestors(run, context.task)
    if constant:
        warn_about_weight(source, run, context)
    path = run.path.parent.parent / "cache" / f"{run.id}-{context.task.fingerprint or 'data'}.rows"
    known = open_clean(path, context.task) if context.task.fingerprint else None
    if known is not None:
        # Charged in full although it was made for somebody else: each comparison pays for what it uses.
        return TableTeacher(known, source, run, "clean pass", context, begun - known.seconds)
    made = _pass_now(model_of(run, context), context, path if context.task.fingerprint else None, source.name, begun)
    return TableTeacher(made, source, run, "clean pass", context, begun)


def open_forward(reference: Any, context: Context, *, constant: bool) -> Teacher:
    """A teacher that looks at every batch: a run's weights in its own model, or any model or callable."""
    begun = time.perf_counter()
    if isinstance(reference, CleanPass):
        raise InvalidValue("a clean pass answers by id, got one with source='forward'; leave source at 'auto'")
    if _is_model(reference):
        return ForwardTeacher(_model(reference), Source(_named(reference)), None, context, begun)
    run = _run(reference)
    source = source_of(run)
    check_data(source, context.task, by_id=False)
    check_ancestors(run, context.task)
    if constant:
        warn_about_weight(source, run, context)
    return ForwardTeacher(model_of(run, context), source, run, context, begun)


catalog = {
    "auto": open_auto,
    "records": open_records,
    "views": open_views,
    "clean pass": open_clean_pass,
    "forward": open_forward,
}
"""Source of a teacher's answers -> how it is opened: (reference, context, constant=...) -> Teacher."""


def _pass_now(model: Any, context: Context, path: Path | None, name: str, begun: float) -> CleanPass:
    view = context.task
    if view.clean is None or view.examples is None:
        raise InvalidValue(
            f"a clean pass needs the training examples without augmentation, got a loader that does not offer them for {name}; "
            "make it yourself: ri.Distill(clean_pass(model, loader))"
        )
    if path is None:
        import tempfile

        path = Path(tempfile.mkdtemp(prefix="reinvest-")) / "clean.rows"
    path.parent.mkdir(parents=True, exist_ok=True)
    return clean_pass_of_view(model, view, path, context.device, begun)


def _run(reference: Any) -> Any:
    run = find_run(reference, "Distill")
    if run.status != "finished":
        raise InvalidValue(
            f"a teacher is a finished run, got run {run.id!r} ({run.status}); finish it or take another one"
        )
    return run


def _dense(run: Any) -> bool:
    """Whether it had many labels an example: then what it recorded is per position."""
    try:
        return run.records().labels is None
    except CorruptFile:
        raise
    except StoreError:
        return False


def _has_rows(run: Any) -> bool:
    try:
        records = run.records()
        return records.rows(torch.zeros(1, dtype=torch.int64)) is not None
    except CorruptFile:
        raise
    except ReinvestError:
        return False


def _is_model(reference: Any) -> bool:
    if isinstance(reference, str):
        return ":" in reference
    return callable(reference) and not hasattr(reference, "records")


def _model(reference: Any) -> Callable[..., Any]:
    """The model or callable; "package.module:factory" is called without arguments."""
    made = names.load(reference)() if isinstance(reference, str) else reference
    if not callable(made):
        raise InvalidValue(f"a teacher's factory returns a model or callable, got {made!r} from {reference!r}")
    found: Callable[..., Any] = made
    return found


def _named(reference: Any) -> str:
    return repr(reference) if isinstance(reference, str) else f"a model ({type(reference).__name__})"
