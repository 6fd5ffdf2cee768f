"""How much memory a process keeps in the machine's RAM."""

from __future__ import annotations

import psutil


def resident(pid: int | None = None) -> int | None:
    """Resident memory in bytes, shared pages included; None where the process is gone or the system does not tell.

    Args:
        pid: the process. Defaults to this one.
    """
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return None
