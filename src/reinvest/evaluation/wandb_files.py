"""W&B's own run files (run-*.wandb), which offline runs leave behind: what was configured and what was logged last.

Such a file is a log of records in the framing of LevelDB: after seven bytes of header, blocks of 32 KiB with chunks
(checksum 4 bytes, length 2, kind 1: whole, first, middle or last part), each record a message in the protocol buffers'
wire format (https://protobuf.dev/programming-guides/encoding). Of W&B's messages only the fields that say configuration,
history, summary, name and exit are read, by their published numbers. Written by W&B 0.31 and before.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import CorruptFile

BLOCK = 32768
HEADER = b":W&B"
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
# Field numbers: of a record, of the lists of items in it, and of an item.
HISTORY, SUMMARY, CONFIG, RUN, EXIT = 2, 3, 5, 17, 18
RUN_CONFIG, RUN_NAME, EXIT_CODE, EXIT_SECONDS = 4, 8, 1, 2
ITEM, KEY, NESTED, VALUE = 1, 1, 2, 16

Fields = list[tuple[int, int | bytes]]


def read_run_file(path: Path) -> dict[str, Any]:
    """One run: "Name", "State" ("finished", "failed", or "running" where no end was written), "_runtime" (seconds from
    start to end, where known), and "config.*" and "summary.*", the last value of everything that was logged.

    Raises CorruptFile for bytes that are no such file.
    """
    run: dict[str, Any] = {"Name": path.stem, "State": "running"}
    try:
        for record in _records(path.read_bytes()):
            _take(run, dict(_fields(record)))
    except (ValueError, IndexError, struct.error, TypeError):
        raise CorruptFile(
            f"a run file of W&B is a log of records, got other bytes in {path}; copy it again from where the run was made"
        ) from None
    return run


def flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in nested mappings."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from flat(inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", inner


def _take(run: dict[str, Any], record: dict[int, int | bytes]) -> None:
    for number, value in record.items():
        if number == RUN:
            told = dict(_fields(_bytes(value)))
            run["Name"] = _bytes(told[RUN_NAME]).decode() if RUN_NAME in told else run["Name"]
            if RUN_CONFIG in told:
                _items(run, "config", _bytes(told[RUN_CONFIG]))
        elif number == CONFIG:
            _items(run, "config", _bytes(value))
        elif number in (HISTORY, SUMMARY):
            _items(run, "summary", _bytes(value))
        elif number == EXIT:
            told = dict(_fields(_bytes(value)))
            run["State"] = "failed" if told.get(EXIT_CODE) else "finished"
            if told.get(EXIT_SECONDS):
                run["_runtime"] = told[EXIT_SECONDS]


def _items(run: dict[str, Any], part: str, message: bytes) -> None:
    for number, item in _fields(message):
        if number != ITEM:
            continue
        fields = _fields(_bytes(item))
        keys = [_bytes(value).decode() for field, value in fields if field in (KEY, NESTED)]
        texts = [_bytes(value) for field, value in fields if field == VALUE]
        if keys and texts:
            run |= {f"{part}.{key}": value for key, value in flat({".".join(keys): json.loads(texts[0])})}


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a message is expected")
    return value


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a log; a last one that was cut off (a run that was killed) ends it."""
    if not data.startswith(HEADER):
        raise ValueError("no header")
    place, parts = 7, b""
    while place + 7 <= len(data):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        chunk = data[place + 7 : place + 7 + length]
        if kind == 0 or len(chunk) < length:
            return
        if kind not in (WHOLE, FIRST, MIDDLE, LAST) or length > left - 7:
            raise ValueError("no chunk")
        place += 7 + length
        parts = chunk if kind in (WHOLE, FIRST) else parts + chunk
        if kind in (WHOLE, LAST):
            yield parts


def _fields(message: bytes) -> Fields:
    """(number, value) of every field: an integer, or bytes for text and messages."""
    found: Fields = []
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(message, place)
            found.append((number, value))
            continue
        length = {1: 8, 5: 4}.get(wire)
        if length is None:
            if wire != 2:
                raise ValueError("no field")
            length, place = _varint(message, place)
        if place + length > len(message):
            raise ValueError("cut off")
        found.append((number, message[place : place + length]))
        place += length
    return found


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
