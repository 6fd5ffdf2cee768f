"""How a child died, in words, and whether the system had run out of memory."""

from __future__ import annotations

import re
import signal
from pathlib import Path

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_ROOT = Path("/sys/fs/cgroup")


def death(code: int, *, out_of_memory: bool = False) -> str:
    """An exit code, negative for a signal, as the reason of a failure."""
    if code >= 0:
        return f"its process ended with exit code {code} before the job did"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    why = (
        ": out of memory, the limit of its control group was reached"
        if out_of_memory and code == -signal.SIGKILL
        else ""
    )
    return f"its process was killed by {name}{why}"


class MemoryKills:
    """Counts the processes that the kernel has killed in our control group for want of memory. Linux; elsewhere, and
    where the group's files can't be read, none is known.

    Args:
        file: `memory.events` (cgroup v2) or `memory.oom_control` (v1). None: that of this process.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or _own_file()
        self._last = self._count()

    def more(self) -> bool:
        """Whether it has killed any since this was asked last."""
        last, self._last = self._last, self._count()
        return self._last > last

    def _count(self) -> int:
        if self._file is None:
            return 0
        try:
            found = _COUNT.search(self._file.read_text())
        except OSError:
            return 0
        return int(found[1]) if found else 0


def _own_file() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = _ROOT, "memory.events"
        elif "memory" in controllers.split(","):
            root, name = _ROOT / "memory", "memory.oom_control"
        else:
            continue
        # In a container the path may be the host's, and the group's own files are at the root.
        for file in (root / path.lstrip("/") / name, root / name):
            if file.is_file():
                return file
    return None
