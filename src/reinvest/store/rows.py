"""A table of full rows by example id that several processes fill at once: the clean pass of a model, kept for others.

One safetensors file, memory-mapped by all who write it: `codes` uint8 [N, C] (or [N, P, C]), `known` uint8 [N] (or
[N, P]), `labels` int32 [N]. A row is marked as known after it was written, so a reader never sees half of one.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CorruptFile, InvalidValue, StoreError
from .artifacts import PARTIAL, sync_folder, writing
from .codec import checked_ids, decode_rows, encode

if TYPE_CHECKING:
    from torch import Tensor


class RowTable:
    """Log-probabilities by example id in one file. Made by `create` (to be written) or `open` (to be read)."""

    def __init__(self, path: Path, file: Any, header: Mapping[str, Any], start: int, writable: bool):
        import torch

        self.path = path
        self.about: dict[str, str] = dict(header["__metadata__"])
        self._file, self._writable = file, writable
        weakref.finalize(self, file.close)
        # By its handle: another process may rename the file at any moment.
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_COPY
        whole = torch.frombuffer(mmap.mmap(file.fileno(), 0, access=access), dtype=torch.uint8)

        def part(name: str) -> Tensor:
            begin, end = header[name]["data_offsets"]
            return whole[start + begin : start + end].view(_KINDS[header[name]["dtype"]]()).view(header[name]["shape"])

        self._labels, self._known, self._codes = part("labels"), part("known"), part("codes")

    @classmethod
    def create(
        cls,
        path: str | Path,
        examples: int,
        classes: int,
        about: Mapping[str, str] | None = None,
        *,
        positions: int | None = None,
    ) -> RowTable:
        """Begin a table for ids 0 ... `examples` - 1, or join a process that is writing the same one right now.

        It gets its name at `seal`. What a process that ended without sealing left behind is started over.
        positions: rows per example, None for one. Raises InvalidValue, StoreUnwritable, and StoreError where another
        table (other sizes, other `about`) is being written under that name.
        """
        sizes = {"examples": examples, "classes": classes} | ({} if positions is None else {"positions": positions})
        for name, value in sizes.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidValue(f"{name} is a whole number from 1, got {value!r}; pass such a number")
        path = Path(path)
        head, header, size = _layout(examples, positions, classes, dict(about or {}))
        with writing(path):
            file = _claim(path, head, header["labels"]["data_offsets"][1], size)
        return cls(path, file, header, len(head), writable=True)

    @classmethod
    def open(cls, path: str | Path) -> RowTable:
        """A sealed table, read-only; nothing but its header is read. Raises CorruptFile."""
        path = Path(path)
        try:
            with open(path, "rb") as file:
                header, start, size = _read_header(file)
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise ValueError(f"it has {found} bytes and needs {size}")
                return cls(path, file, header, start, writable=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{path} is no table of rows ({error}); remove it, and it will be made again") from error

    @property
    def examples(self) -> int:
        """N: ids are 0 ... N - 1."""
        return len(self._labels)

    @property
    def classes(self) -> int:
        """Classes of a row."""
        return self._codes.shape[-1]

    @property
    def positions(self) -> int | None:
        """Rows per example, None for one."""
        return self._known.shape[1] if self._known.ndim == 2 else None

    @property
    def known(self) -> Tensor:
        """bool [N] or [N, P]: which rows have been written so far."""
        return self._known != 0

    @property
    def labels(self) -> Tensor:
        """int64 [N]: the label of each example, -1 where none was set."""
        return self._labels.long()

    def set_labels(self, ids: Any, labels: Tensor) -> None:
        """Keep the class labels [B] of examples `ids` [B] (whole numbers, -1 for none)."""
        import torch

        ids = self._ready(ids)
        if labels.shape != ids.shape or labels.is_floating_point():
            raise InvalidValue(
                f"labels are one class number an id, got {labels.dtype} of shape {list(labels.shape)} for {len(ids)} ids; "
                "pass targets [B]"
            )
        self._labels[ids] = labels.to("cpu", torch.int32)

    def write(self, ids: Any, logits: Tensor, known: Tensor | None = None) -> None:
        """Keep the rows of examples `ids` [B]: logits (or log-probabilities) [B, C] or [B, P, C].

        known: bool [B] or [B, P], False for rows that mean nothing; rows that are not finite mean nothing either.
        Raises InvalidValue for other shapes or ids, StoreError once the table is sealed or was opened to be read.
        """
        import torch

        ids = self._ready(ids)
        if logits.shape != (len(ids), *self._codes.shape[1:]) or not logits.is_floating_point():
            raise InvalidValue(
                f"rows are floating point {[len(ids), *self._codes.shape[1:]]}, got {logits.dtype} {list(logits.shape)}; "
                "write the model's output for these ids"
            )
        with torch.no_grad():
            rows = logits.detach().float().log_softmax(-1)
            good = ~rows.isnan().any(-1)
            if known is not None:
                good &= known.to(good.device)
            self._codes[ids] = encode(rows.nan_to_num(0.0)).cpu()
            self._known[ids] = good.to("cpu", torch.uint8)

    def rows(self, ids: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities float32 [B, C] or [B, P, C] and known bool [B] or [B, P]; unknown rows are all 0.0.

        Only these rows are read; the result is on the device of `ids`. Raises InvalidValue for ids that are out of
        range or no whole numbers.
        """
        import torch

        found = checked_ids(ids, self.examples)
        device = ids.device if isinstance(ids, torch.Tensor) else None
        known = (self._known[found] != 0).to(device)
        rows = decode_rows(self._codes[found].to(device))
        return rows.masked_fill_(~known.unsqueeze(-1), 0.0), known

    def seal(self) -> None:
        """Give the file its name, with what this process wrote on the disk; then it is read-only here.

        Rows that other processes are still writing appear in it as they come. Raises StoreUnwritable.
        """
        if not self._writable:
            return
        with writing(self.path):
            os.fsync(self._file.fileno())
            with _alone(self._file):
                # Whoever sealed first has renamed the file already; the temporary name may belong to a later table.
                if _is_at(self._file, _temporary(self.path)):
                    os.replace(_temporary(self.path), self.path)
            sync_folder(self.path.parent)
        self._writable = False

    def discard(self) -> None:
        """Give up a table that is not sealed; other processes that are writing it keep it."""
        if self._writable:
            if _lock(self._file, exclusive=True) is not False and _is_at(self._file, _temporary(self.path)):
                _temporary(self.path).unlink()
            self._writable = False

    def _ready(self, ids: Any) -> Tensor:
        if not self._writable:
            raise StoreError(
                f"a table takes rows until it is sealed, and {self.path} is read-only; create(...) makes a new one"
            )
        return checked_ids(ids, self.examples)


def _kind(name: str) -> Any:
    def kind() -> Any:
        import torch

        return getattr(torch, name)

    return kind


_KINDS = {"I32": _kind("int32"), "U8": _kind("uint8")}


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


def _layout(
    examples: int, positions: int | None, classes: int, about: dict[str, str]
) -> tuple[bytes, dict[str, Any], int]:
    """(the file's head, its header, bytes of the whole file)."""
    rows = [examples] if positions is None else [examples, positions]
    shapes = {"labels": ([examples], "I32", 4), "codes": ([*rows, classes], "U8", 1), "known": (rows, "U8", 1)}
    header: dict[str, Any] = {"__metadata__": about}
    offset = 0
    for name, (shape, kind, width) in shapes.items():
        size = width
        for length in shape:
            size *= length
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, header, 8 + len(text) + offset


def _read_header(file: Any) -> tuple[dict[str, Any], int, int]:
    """(header, where the data begin, bytes that the file must have). Raises ValueError, KeyError, TypeError."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= 1 << 26:
        raise ValueError("it has no header")
    header = json.loads(file.read(length))
    rows = header["known"]["shape"]
    again = _layout(rows[0], rows[1] if len(rows) == 2 else None, header["codes"]["shape"][-1], {})[1]
    if any(header[name] != again[name] for name in ("labels", "codes", "known")) or set(header) != set(again):
        raise ValueError("its tables are not those of rows")
    return header, 8 + length, 8 + length + int(header["known"]["data_offsets"][1])


def _claim(path: Path, head: bytes, labels: int, size: int) -> Any:
    """The temporary file (after its head so many bytes of labels, all -1), set up by the first who has it and joined by others; each holds a lock while it lives."""
    while True:
        file = os.fdopen(os.open(_temporary(path), os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            first = _lock(file, exclusive=True)
            if first is None:
                first = os.fstat(file.fileno()).st_size == 0
            if first and _is_at(file, _temporary(path)):
                file.truncate(0)
                if hasattr(os, "posix_fallocate"):
                    # Claimed now: a disk that fills up later would end the process at a write into the mapping.
                    os.posix_fallocate(file.fileno(), 0, size)
                file.truncate(size)
                file.write(head + b"\xff" * labels)
            _lock(file, exclusive=False)
            if not _is_at(file, _temporary(path)):
                file.close()
                continue
            file.seek(0)
            if file.read(len(head)) != head or os.fstat(file.fileno()).st_size != size:
                raise StoreError(
                    f"a file holds one table, and another one is being written to {path}; "
                    "wait until it is sealed, or choose another name"
                )
        except BaseException:
            file.close()
            raise
        return file


def _lock(file: Any, *, exclusive: bool) -> bool | None:
    """Lock a file until it is closed; exclusively only if nobody has it. None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def _alone(file: Any) -> Iterator[None]:
    """Nobody else who writes this file is inside such a block."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with contextlib.suppress(OSError):
        fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_UN)


def _is_at(file: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
