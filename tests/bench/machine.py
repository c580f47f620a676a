"""The machine of a run, described by what decides its speed and by nothing that names it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import psutil


def machine(postgres_version: str) -> dict[str, str]:
    """Returns what to say of the machine and of what runs on it."""
    return {
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        "postgres": f"Postgres {postgres_version}, fsync=on, synchronous_commit=on, on the same machine",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return match[1] if match else platform.processor() or "unknown"
