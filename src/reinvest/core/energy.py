"""What a run uses besides time: energy where the device tells it, and whose peak memory was read.

A GPU tells through NVML (the optional package `pynvml`): joules since the driver was loaded, or on older devices the power
of the moment, which is integrated. It is that of the whole device, so other programs on it count too. Without a meter a run
has no energy, which is not 0.
"""

from __future__ import annotations

import importlib
import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .hardware import forget_peak, peak_memory

if TYPE_CHECKING:
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
    import torch

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


class Used:
    """What a chain uses while its block runs, evaluations between its steps among it: energy, and the peak of memory.

    device: that of the model; None measures nothing. alone: False where other processes take part on devices of their own,
    so that the energy of this one is a part.
    """

    def __init__(self, device: torch.device | None, *, alone: bool = True) -> None:
        self._device, self._alone = device, alone
        self._measured = Measured(None)

    def __enter__(self) -> Used:
        if self._device is not None:
            forget_peak(self._device)
            self._measured = Measured(meter_of(self._device) if self._alone else None)
        self._measured.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._measured.__exit__()

    def plain(self, continued: bool) -> dict[str, Any]:
        """Once the block has ended: peak_memory (bytes), peak_memory_of, and energy_joules over energy_seconds if known.

        continued: the steps are those of a run that began earlier, of whose energy a part is missing, so that none is kept.
        """
        if self._device is None:
            return {}
        size, whose = peak_memory(self._device)
        found: dict[str, Any] = {"peak_memory": size, "peak_memory_of": whose}
        if self._measured.joules is not None and not continued:
            found |= {"energy_joules": self._measured.joules, "energy_seconds": self._measured.seconds}
        return found


def together(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    """What two chains of one run used, each as `Used.plain` has it ({}: nothing known): energy only if both have it.

    Of the peaks the larger, and that of a device before that of a process.
    """
    if not one or not two:
        return dict(one or two)
    peak = min(one, two, key=lambda part: (part["peak_memory_of"], -part["peak_memory"]))
    found = {name: peak[name] for name in ("peak_memory", "peak_memory_of")}
    both = [name for name in ("energy_joules", "energy_seconds") if name in one and name in two]
    return found | {name: one[name] + two[name] for name in both}
