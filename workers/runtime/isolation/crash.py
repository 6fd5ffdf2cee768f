"""How a child died, in words, and whether the system had run out of memory."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from config.quantities import format_bytes

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_ROOT = Path("/sys/fs/cgroup")


#: Exit codes of a child (sysexits.h): the module could not be opened; it can't say how its job ended; its connection
#: to the host is gone.
EXIT_UNABLE, EXIT_SPEECHLESS, EXIT_BROKEN = 69, 70, 71
_EXITS = {
    EXIT_SPEECHLESS: "it could not tell how the job had ended, for want of memory perhaps; its output in the log says "
    "more",
    EXIT_BROKEN: "its connection to its host was gone; a job that closes descriptors which are not its own closes this "
    "one too",
}


@dataclass(frozen=True, slots=True)
class End:
    """How a child has ended."""

    reason: str
    """In words, as the reason of a failure."""
    label: str
    """See events.ChildDied."""


def judged(code: int, kills: MemoryKills, *, wrong: str = "", killed: bool = False) -> End:
    """Judge an end.

    Args:
        code: the exit code; negative: the signal.
        kills: asked whether it was killed for want of memory.
        wrong: what it had sent that is no frame, in words, for which it was killed.
        killed: its host has killed it.
    """
    by_force = code == -signal.SIGKILL
    out_of_memory = by_force and kills.more()
    if wrong:
        return End(wrong, "protocol")
    reason = death(code, out_of_memory=out_of_memory)
    if killed and by_force:
        return End(reason, "killed")
    if code >= 0:
        return End(reason, "exit")
    return End(reason, "out_of_memory" if out_of_memory else signal_name(-code))


def death(code: int, *, out_of_memory: bool = False) -> str:
    """An exit code, negative for a signal, as the reason of a failure."""
    if code >= 0:
        why = f": {_EXITS[code]}" if code in _EXITS else ""
        return f"its process ended with exit code {code} before the job did{why}"
    why = ""
    if out_of_memory and code == -signal.SIGKILL:
        why = ": out of memory, the limit of its control group was reached"
    return f"its process was killed by {signal_name(-code)}{why}"


def signal_name(number: int) -> str:
    """`SIGKILL`, or `signal 35`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def beyond_limit(reason: str, memory_limit: int | None) -> str:
    """The reason of a MemoryError in a child, with the setting that has brought it about, where one has."""
    if memory_limit is None:
        return reason
    allowed = format_bytes(memory_limit)
    return f"{reason}: its child process may use {allowed} of address space (task.children.memory_limit)"


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
