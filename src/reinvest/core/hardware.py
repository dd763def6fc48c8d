"""Facts about the machine and the libraries, and whether two sets of facts may stand in one comparison."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

MUST_AGREE = ("device", "devices", "threads", "precision")
"""Hardware facts that decide the speed of a step; a difference in any one makes seconds incomparable."""


@lru_cache(maxsize=1)
def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def facts(device: Any = "cpu", precision: str = "fp32") -> dict[str, Any]:
    """Plain values: {"hardware": device model and count, threads, precision, memory, ...; "software": versions}."""
    import numpy
    import torch

    from .. import __version__
    from .wrappers import ranks

    device = torch.device(device)
    if device.type == "cuda":
        # Those that train, one a process; a machine may hold more, which are neither waited for nor paid.
        name, count = torch.cuda.get_device_name(device), ranks()[1]
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        name, count = _processor(), 1
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    hardware = {
        "device": name,
        "devices": count,
        "kind": device.type,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "cores": os.cpu_count() or 0,
        "memory_gb": round(memory / 2**30, 1),
    }
    software = {
        "reinvest": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.version.cuda and device.type == "cuda":
        software["cuda"] = torch.version.cuda
    return {"hardware": hardware, "software": software}


def _minor(version: object) -> str:
    return ".".join(str(version).split("+")[0].split(".")[:2])


def comparable(a: dict[str, Any], b: dict[str, Any]) -> tuple[bool, str]:
    """Whether seconds under facts `a` and `b` may be compared, and if not the reason as one sentence ("" if they may).

    Device model and count, threads, precision and the minor version of torch must agree; everything else is shown.
    """
    for facts_of in (a, b):
        if facts_of.get("mixed"):
            return False, f"a comparison needs runs made on one machine, got one {facts_of['mixed']}; train it again"
    one, two = a.get("hardware", {}), b.get("hardware", {})
    for name in MUST_AGREE:
        if one.get(name) != two.get(name):
            return False, (
                f"a comparison needs equal {name}, got {one.get(name)!r} and {two.get(name)!r}; "
                "run both arms on the same machine with the same settings"
            )
    versions = _minor(a.get("software", {}).get("torch")), _minor(b.get("software", {}).get("torch"))
    if versions[0] != versions[1]:
        return False, (
            f"a comparison needs one minor version of torch, got {versions[0]} and {versions[1]}; "
            "run both arms under the same version"
        )
    return True, ""


def peak_memory(device: Any = None) -> tuple[int, str]:
    """(bytes, whose): the most allocated on a CUDA device ("device"), else the largest resident size of this "process".

    device: that of the run; None, where nobody knows it, is the GPU of which this process used most, and the process
    where it used none. 0 bytes: not known.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        if device is None:
            most = max(int(torch.cuda.max_memory_allocated(k)) for k in range(torch.cuda.device_count()))
            if most:
                return most, "device"
        elif torch.device(device).type == "cuda":
            return int(torch.cuda.max_memory_allocated(device)), "device"
    if sys.platform == "win32":
        return 0, "process"
    with contextlib.suppress(OSError, StopIteration):
        # What getrusage says of a process begins with the peak of the one that started it, and nothing forgets that.
        lines = Path("/proc/self/status").read_text(encoding="utf8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]), "process"
    import resource

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(size if sys.platform == "darwin" else size * 1024), "process"


def forget_peak(device: Any) -> None:
    """Count the peak memory afresh, so that what an earlier run of this process needed is not the next one's.

    Only Linux can forget a process's peak.
    """
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
