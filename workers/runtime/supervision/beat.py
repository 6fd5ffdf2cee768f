"""What a child process tells its supervisor, once a second, as one JSON line on a pipe.

Neither end trusts the other: what is sent is bounded, so that it fits a line;
what is heard is checked and bounded again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from workers.broker.numbers import is_number, whole
from workers.runtime.process import State

log = logging.getLogger(__name__)

#: Seconds between two beats.
BEAT_S = 1.0
#: Bytes of a line that are accepted.
MAX_LINE = 65_536
#: Running jobs that are named, those that run longest; and characters of a name or text.
MAX_RUNNING, MAX_TEXT = 20, 120
#: Other values that a report may carry.
MAX_EXTRA = 16

Extra: TypeAlias = Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that runs now."""

    queue: str
    task_type: str
    job_id: str
    seconds: float
    """Since it was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a process is."""

    pid: int = 0
    uptime_s: float = 0.0
    rss: int = 0
    """Resident bytes of the process itself."""
    children: int = 0
    children_rss: int = 0
    """Resident bytes of its children together; what they share counts for each."""
    lag_s: float = 0.0
    """The worst lag of its event loop lately."""
    jobs: int = 0
    """Runs of jobs that have ended in it, in whatever way."""
    active: int = 0
    """Jobs that run now."""
    running: tuple[RunningJob, ...] = ()
    """MAX_RUNNING of them."""
    extra: Extra = field(default_factory=dict)
    """What else the process has to say, by name."""


#: Of a process that has said nothing yet.
NO_REPORT = Report()


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat."""

    started: bool
    ready: bool
    states: tuple[State, ...]
    report: Report = NO_REPORT

    def line(self) -> bytes:
        """The wire form."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"


def read(line: bytes) -> Beat | None:
    """A beat from its wire form; None where it is none."""
    try:
        fields = json.loads(line)
        states = tuple(State(str(s["name"]), s["ok"] is True, str(s["detail"])) for s in fields["states"])
        return Beat(fields["started"] is True, fields["ready"] is True, states, _report(fields.get("report")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _report(fields: Any) -> Report:
    """Whatever of it makes sense."""
    if not isinstance(fields, dict):
        return NO_REPORT
    running = fields.get("running")
    return Report(
        **{name: _whole(fields.get(name)) for name in ("pid", "rss", "children", "children_rss", "jobs", "active")},
        uptime_s=_number(fields.get("uptime_s")),
        lag_s=_number(fields.get("lag_s")),
        running=tuple(_running(running if isinstance(running, list) else ())),
        extra=extra(fields.get("extra")),
    )


def _running(found: Iterable[Any]) -> Iterable[RunningJob]:
    for job in list(found)[:MAX_RUNNING]:
        if isinstance(job, dict):
            names = {name: short(job.get(name)) for name in ("queue", "task_type", "job_id")}
            yield RunningJob(**names, seconds=_number(job.get("seconds")))


def extra(found: Any) -> Extra:
    """The names and values of a mapping that are fit for a report: texts and finite numbers."""
    if not isinstance(found, Mapping):
        return {}
    fit: dict[str, float | str] = {}
    for name, value in list(found.items())[:MAX_EXTRA]:
        if isinstance(value, str):
            fit[short(name)] = short(value)
        elif is_number(value):
            fit[short(name)] = value
    return fit


def short(value: Any) -> str:
    """A text for a report; empty for what is none."""
    text = value if isinstance(value, str) else ""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _number(value: Any) -> float:
    return float(value) if is_number(value) and value > 0 else 0.0


def _whole(value: Any) -> int:
    return whole(value) if is_number(value) else 0


async def send(fd: int, beat: Callable[[], Beat]) -> None:
    """Beat on this file descriptor until it is closed at the other end; the owner cancels it."""
    os.set_blocking(fd, False)
    said, rest = False, b""
    while True:
        try:
            # What the pipe took only in part is completed first, or the next beat would be no line of its own.
            rest = rest[_write(fd, rest) :]
            if not rest:
                line = beat().line()
                written = _write(fd, line)
                rest = line[written:] if written else b""
        except OSError:
            return
        except Exception:
            if not said:
                log.exception("what this process has to tell its supervisor can't be told")
            said = True  # once; a process that does not beat is ended by its supervisor
        await asyncio.sleep(BEAT_S)


def _write(fd: int, data: bytes) -> int:
    """Write as much as the pipe takes; returns the number of bytes."""
    try:
        return os.write(fd, data) if data else 0
    except BlockingIOError:
        return 0  # the supervisor is busy; the next beat says the same
