"""The error tree: every message is one sentence that states the rule, the value received and what to do.

ReinvestError
|- InvalidValue      a value outside its range, or of the wrong kind      (also a ValueError)
|- UnknownName       a name that no catalogue knows                       (also a ValueError)
|- MissingIds        work that needs example ids was given none
|- LoopError         the three calls used in a way that cannot be right
|- Conflict          methods, or settings, that exclude each other
|- NotComparable     a comparison that would not mean anything
|- DataError         a data set that is absent, incomplete or altered
`- StoreError
   |- CorruptFile        bytes on disk are not what was written
   |- SchemaTooNew       an index written by a later version
   |- RunBusy            another process holds the run
   |- AlreadyFinished    what was to be recorded once is there; `.run` is it
   `- StoreUnwritable    read-only or full disk
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ReinvestError(Exception):
    """Base of everything this package raises on purpose."""


class InvalidValue(ReinvestError, ValueError):
    """A value breaks a stated rule."""


class UnknownName(ReinvestError, ValueError):
    """A name is in no catalogue."""


class MissingIds(ReinvestError):
    """Example ids are needed and the loader yields none."""


class LoopError(ReinvestError):
    """attach, batches, loss and step were used in a way that cannot be right."""


class Conflict(ReinvestError):
    """Two settings exclude each other."""


class NotComparable(ReinvestError):
    """A comparison was refused."""


class DataError(ReinvestError):
    """A data set is absent, incomplete or altered."""


class StoreError(ReinvestError):
    """The store cannot do what was asked."""


class CorruptFile(StoreError):
    """A file's content is not what was written, or is not of the expected format."""


class SchemaTooNew(StoreError):
    """The index was written by a later version of this package."""


class RunBusy(StoreError):
    """Another process is writing this run."""


class AlreadyFinished(StoreError):
    """A run that was to be recorded once has been recorded, by another process perhaps: `run` (a store's Run)."""

    def __init__(self, message: str, run: Any = None):
        super().__init__(message)
        self.run = run


class StoreUnwritable(StoreError):
    """The store's disk is full or read-only."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UnknownName:
    """An `UnknownName` that lists the known names and suggests the nearest one."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    nearest = next((n for n in names if near and n.lower() == near[0]), None)
    hint = f"; did you mean {nearest!r}?" if nearest else ""
    return UnknownName(
        f"unknown {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}."
        if hint
        else f"unknown {kind} {name!r}. Known: {', '.join(names) or 'none'}."
    )
