"""Contracts to inherit in your own tests: what every method and every task of this package keeps."""

from __future__ import annotations

from ._testing.loops import HandLoop, Setup
from ._testing.method import MethodContract
from ._testing.task import TaskContract

__all__ = ["HandLoop", "MethodContract", "Setup", "TaskContract"]
