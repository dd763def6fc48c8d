"""Per-example records: what a chain saw of every example in every epoch, read by id without reading the rest.

    loss       [N, E] float16 (float32 if asked for), cross-entropy against the original label, NaN where the example was
               not seen in that epoch, or has no label
    predicted  [N, E] uint8, the class that the model said, 255 where not seen; for one label an example of up to 255
               classes, else
    correct    [N, E] int8, 1 / 0, and -1 where it was not seen or has no label; with many labels an example float16, the share of valid
               positions that are right, NaN where not seen
    margin     [N, E] float16, the label's logit less the largest other one; only if asked for, for one label an example
    labels     [N] int32, the label seen in training, -1 for none; only for one label an example
    seen       [N] int32, how many passes over an example went into its rows
    known      [N, P] uint8, only for many labels an example: which positions have a row
    codes      [N, C] or [N, P, C] uint8, full rows of log-probabilities in [-12, 0]
    top, top_codes, rest   sparse rows: classes [..., k], their codes, mass of all others (see `codec`)
    views      [K, N, C] uint8, rows as above of single epochs, the last planned ones, only if they were asked for; with
    views_known [K, N] uint8, which of them there are
    hashes     [N] int64 of label and content;  roles [N] uint8, the split of each example
    probe_ids, probe_kinds, probe_reference, probe_labels   [P], examples planted to be found again; kinds are numbers into the
               names of about["probes"]

Tables of runs from before this layout are [E, N] and have no about["order"]; they are read alike. N counts the examples
of the data set, E the planned epochs, C the classes, P the positions of a row table: tokens, or
pixels at every `stride`-th row and column. Rows of one label an example and up to 1,000 classes are mean logits over
the last 3 planned epochs; all others belong to the last pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CorruptFile, InvalidValue, StoreError
from .artifacts import check_file
from .codec import checked_ids, decode, decode_rows, spread
from .history import NOT_SEEN
from .places import spread_out

if TYPE_CHECKING:
    from torch import Tensor

REMEDY = "restore it from a copy, or train the run again"


class MappedTables(Mapping[str, "Tensor"]):
    """The tensors of a safetensors file by name: each is a view of the file, read page by page as it is used."""

    def __init__(self, file: Any):
        self._file = file
        self._names = frozenset(file.keys())
        self._found: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._found:
            self._found[name] = self._file.get_tensor(name)
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Records:
    """The per-example tables of one run, and what they are about. An example's key is (`namespace`, id)."""

    tables: Mapping[str, Tensor]
    about: Mapping[str, str]

    @classmethod
    def load(cls, path: Path, expected: Mapping[str, Any] | None = None, *, verify: bool = False) -> Records:
        """Open a records file: its size (against `expected`) and header are checked, tables are read when asked for.

        verify: re-hash the whole file first, as `store verify` does. Raises CorruptFile.
        """
        from safetensors import SafetensorError, safe_open

        problem = check_file(path, expected) if verify else _check_size(path, expected)
        if problem:
            raise CorruptFile(f"{path} {problem}; {REMEDY}")
        try:
            file: Any = safe_open(path, framework="pt")
            tables, about = MappedTables(file), file.metadata() or {}
        except (SafetensorError, OSError, ValueError) as error:
            raise CorruptFile(f"{path} is not a whole safetensors file ({error}); {REMEDY}") from error
        if "loss" not in tables or not ("correct" in tables or "predicted" in tables):
            raise CorruptFile(f"{path} holds no per-example records; {REMEDY}")
        return cls(tables, about)

    # ---- what they are about -----------------------------------------------------------------------------------

    @property
    def namespace(self) -> str:
        """Name of the data set that the ids belong to; "" if the loader did not say."""
        return self.about.get("namespace", "")

    @property
    def fingerprint(self) -> str:
        """Of data and split; "" if unknown."""
        return self.about.get("fingerprint", "")

    @property
    def preprocessing(self) -> str:
        """What the model saw of an example, as text; "" if unknown."""
        return self.about.get("preprocessing", "")

    @property
    def moves(self) -> bool:
        """Whether the training views moved pixels or tokens against the stored example."""
        return self.about.get("moves") == "true"

    @property
    def examples(self) -> int:
        """N: ids are 0 ... N - 1."""
        return len(self.tables["places"]) if "places" in self.tables else len(self.history("loss"))

    @property
    def epochs(self) -> int:
        """E: planned epochs, or those that were trained if they are more."""
        return self.history("loss").shape[1]

    @property
    def classes(self) -> int | None:
        """Width of the rows; without rows what the loader said, None if unknown."""
        if "classes" in self.about:
            return int(self.about["classes"])
        return self.tables["codes"].shape[-1] if "codes" in self.tables else None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes in order, None if unknown (or more than 10,000)."""
        return tuple(json.loads(self.about["class_names"])) if "class_names" in self.about else None

    @property
    def positions(self) -> int | None:
        """P: rows per example (tokens, or pixels of the stride grid), None for one label an example."""
        return int(self.about["positions"]) if "positions" in self.about else None

    @property
    def stride(self) -> int:
        """Rows are those of every `stride`-th pixel in each direction, output[..., ::stride, ::stride]; else 1."""
        return int(self.about.get("stride", 1))

    @property
    def top(self) -> int | None:
        """k: classes that sparse rows store, None for full rows (or none)."""
        return self.tables["top"].shape[-1] if "top" in self.tables else None

    @property
    def kept_mass(self) -> float | None:
        """Mean probability mass of the stored classes, as measured (1.0 for full rows, None without rows)."""
        return float(self.about.get("kept_mass", 1.0)) if self.has_rows else None

    @property
    def has_rows(self) -> bool:
        """Whether log-probabilities were kept; if not, `rows` says why."""
        return "codes" in self.tables or "top" in self.tables

    # ---- tables ------------------------------------------------------------------------------------------------

    def history(self, name: str) -> Tensor:
        """The table "loss", "predicted", "correct" or "margin" as it lies in the file: a row for each row of the tables
        (see `places`), a column an epoch. Raises StoreError where it was not kept.
        """
        if name not in self.tables:
            kept = f"{self.about.get('margins', 'was not asked for')}" if name == "margin" else "another kind of data"
            raise StoreError(
                f"{name} by epoch is read where a run kept it, got one without ({kept}); "
                + ("train with records={'margins': True}" if name == "margin" else "use losses or whether it was right")
            )
        return self.tables[name] if "order" in self.about else self.tables[name].T

    @property
    def places(self) -> Tensor | None:
        """[N] int32: the row of each id in the tables, -1 for ids outside the training split; None where row = id."""
        return self.tables.get("places")

    @property
    def loss(self) -> Tensor:
        """[E, N] float32; NaN where an example was not seen."""
        return self._whole(self.history("loss"), math.nan).float().T

    @property
    def correct(self) -> Tensor:
        """[E, N] float32: 1 or 0, or the share of an example's positions that are right; NaN where not seen, or no label."""
        import torch

        if "predicted" in self.tables:
            said = self.history("predicted")
            labels = self.tables["labels"].unsqueeze(1)
            right = (said == labels).float().masked_fill_((said == NOT_SEEN) | (labels < 0), math.nan)
            return self._whole(right, math.nan).T
        raw = self._whole(self.history("correct"), -1)
        return torch.where(raw < 0, math.nan, raw.to(torch.float32)).T

    @property
    def predicted(self) -> Tensor:
        """[E, N] int64: the class that the model said, -1 where not seen. Raises StoreError where it was not kept."""
        said = self._whole(self.history("predicted"), NOT_SEEN).long()
        return said.masked_fill_(said == NOT_SEEN, -1).T

    @property
    def margin(self) -> Tensor:
        """[E, N] float32: the label's logit less the largest other one, above 0 where it is right; NaN where not seen.

        Raises StoreError where it was not kept.
        """
        return self._whole(self.history("margin"), math.nan).float().T

    @property
    def labels(self) -> Tensor | None:
        """[N] int64: the class label seen in training, -1 for none; None where an example has no single label."""
        return self._whole(self.tables["labels"], -1).long() if "labels" in self.tables else None

    @property
    def hashes(self) -> Tensor | None:
        """[N] int64 of label and content, None if the loader has none."""
        return self.tables.get("hashes")

    @property
    def roles(self) -> Tensor | None:
        """[N] uint8: 0 in no split, 1 train, 2 validation, 3 test; None if the loader does not say."""
        return self.tables.get("roles")

    @property
    def codes(self) -> Tensor:
        """[N, C] or [N, P, C] uint8, see `decode`. Raises StoreError if there are no full rows, saying why."""
        self._need_rows()
        if "codes" not in self.tables:
            raise StoreError(
                f"full rows were asked for, and this run kept the {self.top} largest of {self.classes} classes; "
                "use rows(ids)"
            )
        return self._whole(self.tables["codes"], 0)

    @property
    def log_probabilities(self) -> Tensor:
        """[N, C] or [N, P, C] float32, decoded and not renormalised (full rows only); NaN where there is no row."""
        known = self._whole(self._known(), False)
        return decode(self.codes).masked_fill_(~known.unsqueeze(-1), math.nan)

    @property
    def seen(self) -> Tensor:
        """[N] int32: how many passes went into an example's rows. Raises StoreError without rows."""
        self._need_rows()
        return self._whole(self.tables["seen"], 0)

    def known(self, ids: Any) -> Tensor:
        """Which of the examples `ids` [B] have rows: bool [B] or [B, P]. Raises like `rows`."""
        self._need_rows()
        found = checked_ids(ids, self.examples)
        if "places" not in self.tables:
            return self._known(found)
        places = self.tables["places"][found]
        at = self._known(places.clamp(min=0).long())
        return at & (places >= 0).view(-1, *[1] * (at.ndim - 1))

    def rows(self, ids: Any) -> tuple[Tensor, Tensor]:
        """(log-probabilities float32 [B, C] or [B, P, C], known bool [B] or [B, P]) of examples `ids` [B].

        Only these rows are read. Each known row sums to 1; unknown rows are all 0.0. The result is on the device of
        `ids`. Raises InvalidValue for ids that are out of range or no whole numbers, StoreError without rows.
        """
        import torch

        self._need_rows()
        found = checked_ids(ids, self.examples)
        device = ids.device if isinstance(ids, torch.Tensor) else None
        known = self.known(found).to(device)
        if "places" in self.tables:
            found = self.tables["places"][found].clamp(min=0).long()
        if "codes" in self.tables:
            rows = decode_rows(self.tables["codes"][found].to(device))
        else:
            # Bytes are taken by id on the CPU, where the file is mapped, and decoded where they are needed.
            index, codes, rest = (self.tables[name][found].to(device) for name in ("top", "top_codes", "rest"))
            rows = spread(index, codes, rest, int(self.about["classes"]))
        return rows.masked_fill_(~known.unsqueeze(-1), 0.0), known

    # ---- rows of single epochs -----------------------------------------------------------------------------------

    @property
    def views(self) -> int:
        """K: epochs of which every row was kept for replay, 0 for none."""
        return len(self.tables["views"]) if "views" in self.tables else 0

    @property
    def view_seed(self) -> int:
        """Seed of the draws behind the views of those epochs. Raises StoreError without views."""
        self._need_views()
        return int(self.about["view_seed"])

    @property
    def view_epochs(self) -> tuple[int, ...]:
        """Epochs [K] of the draws behind the views: the run's own, unless it replayed another run's views itself."""
        self._need_views()
        return tuple(json.loads(self.about["view_epochs"]))

    def view_rows(self, k: int, ids: Any) -> tuple[Tensor, Tensor]:
        """(log-probabilities float32 [B, C], known bool [B]) of examples `ids` [B] as seen in the k-th kept epoch.

        Like `rows` otherwise. Raises InvalidValue for k outside 0 ... K - 1 and ids out of range, StoreError without.
        """
        import torch

        self._need_views()
        if not isinstance(k, int) or isinstance(k, bool) or not 0 <= k < self.views:
            raise InvalidValue(f"kept epochs are numbered 0 ... {self.views - 1}, got {k!r}; ask for one of those")
        found = checked_ids(ids, self.examples)
        device = ids.device if isinstance(ids, torch.Tensor) else None
        inside = torch.ones(len(found), dtype=torch.bool)
        if "places" in self.tables:
            places = self.tables["places"][found]
            inside, found = places >= 0, places.clamp(min=0).long()
        known = ((self.tables["views_known"][k][found] > 0) & inside).to(device)
        rows = decode_rows(self.tables["views"][k][found].to(device))
        return rows.masked_fill_(~known.unsqueeze(-1), 0.0), known

    def _need_views(self) -> None:
        if "views" not in self.tables:
            raise StoreError(
                f"rows of every view are kept on demand, got a run without ({self.about.get('views', 'not asked for')}); "
                "use a run that was trained with records={'views': 3}"
            )

    def _whole(self, rows: Tensor, fill: float, *, dimension: int = 0) -> Tensor:
        """A table of the training examples as one of all ids."""
        if "places" not in self.tables:
            return rows
        return spread_out(rows, self.tables["places"], fill, dimension=dimension)

    def _known(self, ids: Tensor | slice = slice(None)) -> Tensor:
        name = "known" if "known" in self.tables else "seen"
        return self.tables[name][ids] > 0

    def _need_rows(self) -> None:
        if not self.has_rows:
            raise StoreError(
                f"this run kept no log-probabilities: {self.about.get('log_probabilities', 'unknown reason')}; "
                "use a run that did, or its weights"
            )


def _check_size(path: Path, expected: Mapping[str, Any] | None) -> str:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    if expected is not None and size != expected["bytes"]:
        return f"has {size} bytes and had {expected['bytes']} when it was written"
    return ""
