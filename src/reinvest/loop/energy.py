"""What a run uses besides time: energy where the device tells it, and whose peak memory was read.

A GPU tells through NVML (the optional package `pynvml`): joules since the driver was loaded, or on older devices the power
of the moment, which is integrated. It is that of the whole device, so other programs on it count too. Without a meter a run
has no energy, which is not 0.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

EVERY = 0.1
"""Seconds between looks at the power of a device that counts no joules."""


class Meter(Protocol):
    """Energy of a device: `joules`, a counter that only rises, None where there is none; `watts`, the power now."""

    def joules(self) -> float | None: ...

    def watts(self) -> float: ...


class _Nvml:
    """One GPU, by its UUID, so that the order in which a process sees the devices does not matter."""

    def __init__(self, library: Any, uuid: str) -> None:
        library.nvmlInit()
        self._library, self._handle = library, library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")

    def joules(self) -> float | None:
        try:
            return float(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except self._library.NVMLError:
            return None

    def watts(self) -> float:
        return float(self._library.nvmlDeviceGetPowerUsage(self._handle)) / 1000


def meter_of(device: torch.device) -> Meter | None:
    """The meter of a device; None for a CPU, without `pynvml`, and where the driver refuses."""
    if device.type != "cuda":
        return None
    try:
        library = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        return _Nvml(library, str(torch.cuda.get_device_properties(device).uuid))
    except (library.NVMLError, AttributeError, RuntimeError):
        return None


def integrated(samples: Sequence[tuple[float, float]]) -> float | None:
    """Joules of samples (second, watts) in their order, by trapezoids; None of fewer than two."""
    if len(samples) < 2:
        return None
    return sum((t - s) * (a + b) / 2 for (s, a), (t, b) in itertools.pairwise(samples))


class Measured:
    """Measures while its block runs: `joules` (None: not known) over `seconds` of wall time."""

    def __init__(self, meter: Meter | None, every: float = EVERY) -> None:
        self._meter, self._every = meter, every
        self._done, self._samples, self._broken = threading.Event(), list[tuple[float, float]](), False
        self._thread: threading.Thread | None = None
        self.joules: float | None = None
        self.seconds = 0.0

    def __enter__(self) -> Measured:
        self._begun = time.monotonic()
        self._before = None if self._meter is None else self._counted()
        if self._meter is not None and self._before is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._look()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._begun
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            self._look()
            self.joules = None if self._broken else integrated(self._samples)
        elif self._before is not None:
            after = self._counted()
            self.joules = None if after is None else after - self._before

    def _counted(self) -> float | None:
        assert self._meter is not None
        return self._meter.joules()

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            self._look()

    def _look(self) -> None:
        assert self._meter is not None
        try:
            self._samples.append((time.monotonic(), self._meter.watts()))
        except Exception:  # a driver's own error types are not known here, and a gap cannot be filled
            self._broken = True


@contextlib.contextmanager
def metered(run: Any, device: torch.device, *, whole: bool) -> Iterator[None]:
    """Charge a run with the energy of this block, evaluations among it, and say whose peak memory it has.

    whole: False for a run that was continued, of whose energy a part is missing, so that none is kept.
    """
    # What an earlier run of this process needed is not its own; only Linux can forget a process's peak.
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    with Measured(meter_of(device) if whole else None) as measured:
        yield
    if not run.ended:
        more = {} if measured.joules is None else {"energy_joules": measured.joules, "energy_seconds": measured.seconds}
        cuda: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        run.charge(peak_memory_of="device" if cuda else "process", **more)
