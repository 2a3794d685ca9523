"""Describes the machine that a time was measured on."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Returns the processor's name, as the system has it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def cores() -> int:
    """Counts the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """Returns how many processes wanted a processor in the last minute, on average; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def busy(before: float) -> str:
    """Warns where other work took the processor, a :func:`load` before times were taken; empty where none did."""
    return f"load {before:.1f} on {cores()} cores before the start: times may be too long" if before > 0.5 else ""
