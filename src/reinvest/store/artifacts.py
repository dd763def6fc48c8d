"""Files that are either whole or absent: written to a temporary name, hashed, fsynced, renamed. Never pickle."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CorruptFile, InvalidValue, StoreUnwritable

if TYPE_CHECKING:
    from torch import Tensor

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})
PARTIAL = ".partial"
"""The ending of a file that is still being written; whatever has it after a crash is rubbish."""
OVERLAP_BEYOND = 1 << 20
"""Bytes from which hashing runs beside writing; a thread costs more than it saves below."""

# Names of the safetensors format; the letters are its own.
_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "C64",
}
_STATE_TYPES = frozenset(
    {
        "dict",
        "OrderedDict",
        "list",
        "tuple",
        "set",
        "int",
        "float",
        "bool",
        "complex",
        "str",
        "bytes",
        "NoneType",
        "Tensor",
        "Parameter",
        "Size",
        "dtype",
        "device",
    }
)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the system's "disk full" and "read-only" into StoreUnwritable, one sentence with the place."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise StoreUnwritable(
            f"the store must be writable, but {str(error.strerror).lower()} at {path}; "
            "free some space or choose another folder, then run again (what is finished stays)"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put(path: Path, parts: Sequence[Any]) -> dict[str, Any]:
    """Write the buffers `parts` one after the other as the file `path`; {"sha256": hex, "bytes": size}.

    The file appears whole, with its bytes on the disk, or not at all. Raises StoreUnwritable.
    """
    digest = hashlib.sha256()
    size = sum(memoryview(part).nbytes for part in parts)

    def hash_all() -> None:
        for part in parts:
            digest.update(part)

    beside = threading.Thread(target=hash_all, name="sha256") if size > OVERLAP_BEYOND else None
    temporary = path.with_name(path.name + PARTIAL)
    with writing(path):
        try:
            with open(temporary, "wb", buffering=0) as file:
                if beside:
                    beside.start()
                for part in parts:
                    _write_all(file, part)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            if beside and beside.ident is not None:
                beside.join()
    if beside is None:
        hash_all()
    return {"sha256": digest.hexdigest(), "bytes": size}


def _write_all(file: io.FileIO, part: Any) -> None:
    # One system call may write less than it was given (2 GiB at most on Linux, and whatever fits on a full disk).
    view = memoryview(part).cast("B")
    while view.nbytes:
        view = view[file.write(view) :]


def put_json(path: Path, value: Any) -> dict[str, Any]:
    """Write plain values as a JSON file, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return put(path, [(text + "\n").encode("utf8")])


def digest_of(path: Path) -> dict[str, Any]:
    """{"sha256": hex, "bytes": size} of a file on disk."""
    with open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": os.fstat(file.fileno()).st_size}


def check_file(path: Path, expected: Mapping[str, Any] | None) -> str:
    """What is wrong with a file ("" if nothing): absent, another size, another hash than when it was written."""
    try:
        size = path.stat().st_size
        if expected is None:
            return ""
        if size != expected["bytes"]:
            return f"has {size} bytes and had {expected['bytes']} when it was written"
        if digest_of(path)["sha256"] != expected["sha256"]:
            return "has another sha256 than when it was written"
    except FileNotFoundError:
        return "is missing"
    return ""


def put_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write named tensors as one safetensors file; {"sha256", "bytes"}.

    Tensors may live on any device, share memory (each is written in full) and have any layout in memory.
    Raises InvalidValue for what is no dense tensor, StoreUnwritable.
    """
    import torch

    dense: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
            raise InvalidValue(
                f"weights are dense tensors by name, got {type(tensor).__name__} for {name!r}; "
                "pass model.state_dict(), and keep other values with save_state(...) or note(...)"
            )
        if str(tensor.dtype).removeprefix("torch.") not in _NAMES:
            raise InvalidValue(f"the type {tensor.dtype} of {name!r} is not in the file format; convert it first")
        dense[name] = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
    order = sorted(dense, key=lambda name: (-dense[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(about)} if about else {}
    offset = 0
    for name in order:
        tensor = dense[name]
        size = tensor.numel() * tensor.element_size()
        kind = _NAMES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf8")
    text += b" " * (-len(text) % 8)
    parts: list[Any] = [len(text).to_bytes(8, "little") + text]
    parts += [dense[n].reshape(-1).view(torch.uint8).numpy() for n in order if dense[n].numel()]
    return put(path, parts)


def get_tensors(path: Path, expected: Mapping[str, Any] | None, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file, after its size and sha256 were compared with `expected`.

    Raises CorruptFile, naming the file and the remedy. Nothing in the file is executed.
    """
    problem = check_file(path, expected)
    if not problem:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            loaded: dict[str, Tensor] = load_file(path, device=device)
            return loaded
        except (SafetensorError, OSError, ValueError) as error:
            problem = f"is not a whole safetensors file ({error})"
    raise CorruptFile(f"{path} {problem}; restore it from a copy, or remove its run and train it again")


def put_state(path: Path, state: Any) -> dict[str, Any]:
    """Write tensors and plain values for a resume, in torch's zip format.

    Raises InvalidValue for values that the safe reader would refuse later (when it is too late), StoreUnwritable.
    """
    import torch

    _refuse_objects(state, "state")
    # Through memory: torch turns a full disk into an error without a number, and may abort in its destructor.
    memory = io.BytesIO()
    torch.save(state, memory)
    return put(path, [memory.getbuffer()])


def _refuse_objects(value: Any, where: str) -> None:
    kind = type(value).__name__
    if kind not in _STATE_TYPES or not type(value).__module__.startswith(("torch", "builtins", "collections")):
        raise InvalidValue(
            f"{where} must be made of tensors and plain values, got {type(value).__module__}.{kind}; "
            "save its state_dict(), or convert it (numbers with .item(), arrays with torch.from_numpy)"
        )
    if isinstance(value, dict):
        for key, v in value.items():
            _refuse_objects(key, f"a key of {where}")
            _refuse_objects(v, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple | set):
        for i, v in enumerate(value):
            _refuse_objects(v, f"{where}[{i}]")


def get_state(path: Path) -> Any:
    """What `put_state` wrote, on the CPU. Raises CorruptFile for anything else, without executing any of it."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} does not hold")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    # The zip reader and the safe unpickler raise a dozen unrelated kinds for damaged bytes, and some advise to load the
    # file without protection: their words are not passed on.
    except Exception as error:
        raise CorruptFile(
            f"{path} is damaged or is no saved state, so nothing in it was executed "
            f"({type(error).__name__}); "
            "restore it from a copy, or delete it to start the run over"
        ) from error
