"""What the figures of every report depend on: the version of its fields, and the machine it was made on."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any, Final

from ehlo._core import build_info

__all__ = ["SCHEMA", "machine"]

SCHEMA: Final = 1  # of every report; it grows when a field changes its meaning


def machine() -> dict[str, Any]:
    """What the figures of a report depend on: the build, the interpreter, the processor and the system.

    Example::

        machine()["cpus"]  # 2
    """
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "build": build_info(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": model,
        "cpus": cpus,
    }
