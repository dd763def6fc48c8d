"""Where runs live: folders are the truth, the database is an index. Imports core only, and torch only when needed."""

from __future__ import annotations

from .codec import decode
from .records import Records
from .run import Run
from .store import Store
from .upkeep import Garbage, Problem
from .writer import RunWriter

__all__ = ["Garbage", "Problem", "Records", "Run", "RunWriter", "Store", "decode"]
