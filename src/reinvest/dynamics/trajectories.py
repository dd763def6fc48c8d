"""Every example's history in one run: what it cost, whether it was right, what was said in its place, epoch by epoch.

Tables are example-major [N, E], so that one example is one read and all of them are read block by block. Those of the
training pass are mapped from the run's file, in bounded memory; those of a clean pass are in memory, five bytes an example
and look.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InvalidValue, StoreError, unknown
from ..store.codec import checked_ids
from ..store.described import PROBE_COLUMNS
from ..store.history import NOT_SEEN, TABLES
from ..store.records import Records
from .probes import Probes

__all__ = ["Trajectories"]

TRAINING = "training pass"
CLEAN = "clean pass"
WHATS = ("loss", "correct", "predicted", "margin", "confidence")
METHOD = "CleanLosses"
"""The method whose findings are clean trajectories."""


@dataclass(frozen=True)
class Trajectories:
    """What one run saw of its examples. Made by `Trajectories.of(run)`, or by hand from tables.

    loss: float16 or float32 [R, E], cross-entropy with the label, NaN where not seen. correct: [R, E] 1 / 0 or a share,
    NaN or -1 where not seen or without a label. predicted: uint8 [R, E], the class that the model said, 255 where not seen. margin: float
    [R, E], the label's logit less the largest other one. Tables have a row an example, R = N, unless `places` int32 [N]
    tells each example's row (-1: none). labels: int64 [N], -1 for none. hashes: int64 [N] of label and content. roles: uint8
    [N], each id's split (`core.view`), None where it is not known. source:
    "training pass" (augmented views in train mode, at the weights of that moment; free) or "clean pass" (plain views in
    evaluation mode after each epoch). Two sources are never mixed.
    """

    loss: Tensor
    correct: Tensor | None = None
    predicted: Tensor | None = None
    margin: Tensor | None = None
    labels: Tensor | None = None
    places: Tensor | None = None
    hashes: Tensor | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    namespace: str = ""
    fingerprint: str = ""
    source: str = TRAINING
    probes: Probes | None = None
    roles: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.loss, Tensor) or self.loss.ndim != 2:
            got = list(self.loss.shape) if isinstance(self.loss, Tensor) else type(self.loss).__name__
            raise InvalidValue(f"trajectories are losses [N, E], an example a row, got {got}; pass records.loss.T")
        for name in ("correct", "predicted", "margin"):
            table = getattr(self, name)
            if table is not None and table.shape != self.loss.shape:
                raise InvalidValue(
                    f"tables of one run have one shape, got {name} {list(table.shape)} for losses "
                    f"{list(self.loss.shape)}; take them from the same records"
                )
        if self.labels is not None and len(self.labels) != self.examples:
            raise InvalidValue(
                f"labels are one an example, int64 [{self.examples}], got {len(self.labels)}; pass records.labels"
            )

    @classmethod
    def of(cls, run: Any, *, source: str | None = None) -> Trajectories:
        """The trajectories of a Run or of Records; of the training pass nothing but labels is read beforehand.

        source: "training pass" or "clean pass"; None takes the clean pass where the run has one. Raises StoreError for a
        run without records (or without a clean pass, if that was asked for), UnknownName for another source.
        """
        if source not in (None, TRAINING, CLEAN):
            raise unknown("source of trajectories", str(source), (TRAINING, CLEAN))
        records = run if isinstance(run, Records) else run.records()
        found = {} if source == TRAINING or records is run else run.findings().get(METHOD, {})
        clean = found.get("tables", {})
        if source == CLEAN and not clean:
            raise StoreError(
                f"clean trajectories are read where a run made a clean pass after each epoch, got a run without; train it "
                f"with the method {METHOD}, or use source='training pass'"
            )
        if clean:
            tables = {name: clean.get(name) for name in TABLES}
        else:
            tables = {name: records.history(name) if name in records.tables else None for name in TABLES}
        return cls(
            **tables,
            # Records know labels of what was seen as it is: with blended batches of none.
            labels=found["labels"].long() if "labels" in found else records.labels,
            # A clean pass has a row for every id.
            places=None if clean else records.places,
            hashes=records.hashes,
            classes=records.classes,
            class_names=records.class_names,
            namespace=records.namespace,
            fingerprint=records.fingerprint,
            source=CLEAN if clean else TRAINING,
            probes=probes_of(records),
            roles=records.roles,
        )

    @property
    def examples(self) -> int:
        """N: ids are 0 ... N - 1."""
        return len(self.loss) if self.places is None else len(self.places)

    @property
    def epochs(self) -> int:
        """E."""
        return self.loss.shape[1]

    @property
    def ids(self) -> Tensor:
        """Examples with at least one loss, int64, ascending."""
        found = [block.isnan().all(1).logical_not().nonzero()[:, 0] + start for start, block in self.blocks()]
        return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)

    def rows(self, ids: Tensor, what: str = "loss") -> Tensor:
        """float32 [B, E] of examples `ids` [B], NaN where not seen; only these rows are read.

        what: "loss", "correct" (1, 0 or a share, NaN without a label), "predicted" (a class number), "margin", or "confidence", the
        probability of the label, exp(-loss). Raises UnknownName for another, StoreError for what the run did not keep,
        InvalidValue for ids out of range.
        """
        if what not in WHATS:
            raise unknown("table of trajectories", what, WHATS)
        ids = checked_ids(ids, self.examples)
        at = ids if self.places is None else self.places[ids].long()
        found = self._values(at.clamp(min=0), what, ids)
        return found if self.places is None else found.masked_fill((at < 0).unsqueeze(1), math.nan)

    def blocks(self, size: int = 65536, what: str = "loss") -> Iterator[tuple[int, Tensor]]:
        """(first id, float32 [n, E]) over all examples in order, n = `size` but for the last; see `rows`."""
        for start in range(0, self.examples, size):
            yield start, self.rows(torch.arange(start, min(start + size, self.examples)), what)

    def _values(self, at: Tensor, what: str, ids: Tensor) -> Tensor:
        if what in ("loss", "confidence"):
            loss = _take(self.loss, at).float()
            return loss if what == "loss" else loss.neg().exp()
        if what == "margin":
            return _take(self._table("margin"), at).float()
        if what == "predicted" or self.correct is None:
            said = _take(self._table("predicted"), at)
            gaps = said == NOT_SEEN
            if what == "predicted":
                return said.float().masked_fill_(gaps, math.nan)
            if self.labels is None:
                raise StoreError("whether an answer was right is told by labels, got trajectories without; pass labels")
            labels = self.labels[ids].unsqueeze(1)
            return (said == labels).float().masked_fill_(gaps | (labels < 0), math.nan)
        right = _take(self.correct, at).float()
        return right.masked_fill(right < 0, math.nan)

    def _table(self, name: str) -> Tensor:
        found: Tensor | None = getattr(self, name)
        if found is None:
            remedy = "train with records={'margins': True}" if name == "margin" else "use the losses"
            raise StoreError(f"{name} of each epoch is read where a run kept it, got one without; {remedy}")
        return found


def probes_of(records: Records) -> Probes | None:
    """The probes that the run's task had planted, None for none."""
    if "probes" not in records.about:
        return None
    ids, kinds, reference, labels = (records.tables[f"probe_{name}"] for name in PROBE_COLUMNS)
    return Probes(tuple(json.loads(records.about["probes"])), ids.long(), kinds.long(), reference.bool(), labels.long())


def _take(table: Tensor, at: Tensor) -> Tensor:
    """Rows `at` of a table; a run of neighbours is a slice, which reads a mapped file in one piece."""
    if len(at) and int(at[-1]) - int(at[0]) == len(at) - 1 and bool((at.diff() == 1).all()):
        return table[int(at[0]) : int(at[-1]) + 1]
    return table[at]
