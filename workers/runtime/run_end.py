"""How a run has ended, before it is decided what becomes of its job: what its driver says (`deadline.py`)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypeAlias

from workers.broker.events import RungName
from workers.broker.hold import Interrupt
from workers.runtime.containment import EscapedError


@dataclass(frozen=True, slots=True)
class Returned:
    """The run ended by itself; after a cancellation too, if it had just finished its work."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The run failed by itself."""

    error: Exception


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The run's time was up: it was cancelled, or ended since its ladder had asked it to."""

    after_s: float
    """The planned time of that rung; what the run had really taken, where it came sooner or the loop was late."""
    abandoned: bool
    """It ignored the cancellation; it may still be running, without a slot."""
    rung: RungName = "cancel"
    """The last one that was reached."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The host took the slot back."""

    by: Interrupt
    abandoned: bool


RunEnd: TypeAlias = Returned | Raised | TimedOut | Interrupted


def own_end(task: asyncio.Task[Any]) -> Returned | Raised:
    """The end of a run that has ended by itself: what its task returned or raised."""
    if task.cancelled():  # nobody here asked for it: a cancel scope of a library leaked
        return Raised(EscapedError(asyncio.CancelledError()))
    error = task.exception()
    if error is None:
        return Returned(task.result())
    return Raised(error if isinstance(error, Exception) else EscapedError(error))


def seconds(value: float) -> str:
    """A time for people: `30 s`, `0.02 s`, `3660.5 s`."""
    return f"{round(value, 1 if value >= 1 else 3):.12g} s"
