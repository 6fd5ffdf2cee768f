"""What a child process tells its supervisor, once a second, as one JSON line on a pipe."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from workers.runtime.process import State

#: Seconds between two beats.
BEAT_S = 1.0
#: Bytes of a line that are accepted.
MAX_LINE = 65_536


@dataclass(frozen=True, slots=True)
class Beat:
    """One report."""

    started: bool
    ready: bool
    states: tuple[State, ...]

    def line(self) -> bytes:
        """The wire form."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"


def read(line: bytes) -> Beat | None:
    """A beat from its wire form; None where it is none."""
    try:
        fields = json.loads(line)
        states = tuple(State(str(s["name"]), s["ok"] is True, str(s["detail"])) for s in fields["states"])
        return Beat(fields["started"] is True, fields["ready"] is True, states)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


async def send(
    fd: int, started: Callable[[], bool], ready: Callable[[], bool], states: Callable[[], Sequence[State]]
) -> None:
    """Beat on this file descriptor until it is closed at the other end; the owner cancels it."""
    os.set_blocking(fd, False)
    while True:
        try:
            os.write(fd, Beat(started(), ready(), tuple(states())).line())
        except BlockingIOError:
            pass  # the supervisor is busy; the next beat says the same
        except OSError:
            return
        await asyncio.sleep(BEAT_S)
