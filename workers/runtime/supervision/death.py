"""What is said about the end of a process, and how long to wait before the next one. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal, TypeAlias

from workers.runtime.isolation.crash import signal_name

#: Waits before a restart, seconds: the first and the longest; a process that lived for CALM_S starts over at the first.
RESTART_FIRST_S, RESTART_MAX_S, CALM_S = 0.5, 30.0, 60.0

Killed: TypeAlias = Literal["silence", "drain"]
"""Why the supervisor itself killed a process: it was silent for too long, or not gone when its drain was over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A process has ended, for whatever reason."""

    process: str
    pool: str
    pid: int
    notice: str
    """`SIGKILL`, `exit code 3`, `SIGKILL after 75 s of silence`."""
    reason: str
    """The same as a bounded label: a signal's name, `exit`, or `silence`."""
    expected: bool
    """It was asked to end and has done so, or was killed since its drain took too long: its jobs did not kill it."""
    mark: str = ""
    """What its environment bore, see orphans.py."""


def restart_delay_s(deaths: int) -> float:
    """The wait before the restart after so many early deaths in a row: doubling, at most 30 s."""
    return float(min(RESTART_MAX_S, RESTART_FIRST_S * 2.0 ** min(max(deaths - 1, 0), 16)))


def death_notice(code: int) -> str:
    """An exit code in words."""
    return f"exit code {code}" if code >= 0 else signal_name(-code)


def death(
    process: str, pool: str, pid: int, code: int, *, asked: bool, killed: Killed | None, silent_s: float, mark: str = ""
) -> Death:
    """Judge an end.

    Args:
        code: the exit code; negative: the signal.
        asked: it was sent SIGTERM before.
        killed: the supervisor killed it, and why.
        silent_s: how long it had not been heard by then.
        mark: see Death.
    """
    silenced = killed == "silence" and code == -signal.SIGKILL
    by_signal = death_notice(code) if code < 0 else "exit"
    return Death(
        process=process,
        pool=pool,
        pid=pid,
        notice=f"{death_notice(code)} after {silent_s:.0f} s of silence" if silenced else death_notice(code),
        reason="silence" if silenced else by_signal,
        mark=mark,
        expected=killed == "drain" or (asked and (code >= 0 or code == -signal.SIGTERM)),
    )
