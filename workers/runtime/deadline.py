"""Drives one run: lets it end by itself, cancels it at its time-out, takes the slot back when the host asks.

The ladder has one rung so far: `timeout: 30s` means cancel after 30 s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from workers.broker.hold import Hold, Interrupt
from workers.runtime import containment
from workers.runtime.containment import EscapedError

log = logging.getLogger(__name__)

#: How long a run that was cancelled at its time-out may take to clean up before its slot goes on without it, seconds.
#: An interrupt of its host leaves it less.
CLEANUP_S = 5.0
#: What it gets at least: enough for a run that has nothing to clean up, seconds.
MIN_CLEANUP_S = 0.05


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
    """The run reached its time-out and was cancelled."""

    after_s: float
    abandoned: bool
    """It ignored the cancellation; it may still be running, without a slot."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The host took the slot back."""

    by: Interrupt
    abandoned: bool


RunEnd: TypeAlias = Returned | Raised | TimedOut | Interrupted


#: Runs that were left behind; kept from the garbage collector, which would only complain about them.
_abandoned: set[asyncio.Task[Any]] = set()


async def drive(work: Callable[[], Awaitable[Any]], hold: Hold, timeout_s: float) -> RunEnd:
    """Run `work` to its end, its time-out or an interrupt's `by`, whichever is first. Raises nothing of the run's.

    Work that is interrupted before its first step is never called.
    """
    deadline = time.monotonic() + timeout_s
    task = asyncio.create_task(_contained(work))
    try:
        while not task.done():
            interrupt, now = hold.interrupt, time.monotonic()
            if interrupt is not None and interrupt.by <= min(now, deadline):
                await _cancel(task, hold, now + CLEANUP_S)
                return _cut(task, hold, Interrupted(interrupt, not task.done()))
            if now >= deadline:
                await _cancel(task, hold, now + CLEANUP_S)
                return _cut(task, hold, TimedOut(timeout_s, not task.done()))
            await _wait(task, hold, min(deadline, interrupt.by) if interrupt else deadline)
        return _end(task)
    finally:
        _let_go(task)


async def _wait(task: asyncio.Task[Any], hold: Hold, until: float) -> None:
    timeout = max(0.0, until - time.monotonic())
    await asyncio.wait({task, hold.next_interrupt()}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


async def _cancel(task: asyncio.Task[Any], hold: Hold, end: float) -> None:
    """Cancel the run and let it clean up until `end`, or as long as an interrupt, present or to come, allows."""
    task.cancel()
    least = time.monotonic() + MIN_CLEANUP_S
    while not task.done():
        if hold.interrupt is not None:
            end = min(end, hold.interrupt.by + hold.interrupt.cleanup_s)
        if time.monotonic() >= max(end, least):
            log.error("a processor ignores its cancellation; its slot goes on without it")
            return
        await _wait(task, hold, max(end, least))


def _cut(task: asyncio.Task[Any], hold: Hold, cause: TimedOut | Interrupted) -> RunEnd:
    """How a cancelled run ended: a lost lock outranks everything, a result that it still returned its cancellation."""
    if hold.interrupt is not None and hold.interrupt.kind == "lock_lost":
        return Interrupted(hold.interrupt, not task.done())
    if task.done() and not task.cancelled() and task.exception() is None:
        return Returned(task.result())
    return cause


def _end(task: asyncio.Task[Any]) -> RunEnd:
    if task.cancelled():  # nobody here asked for it: a cancel scope of a library leaked
        return Raised(EscapedError(asyncio.CancelledError()))
    error = task.exception()
    if error is None:
        return Returned(task.result())
    return Raised(error if isinstance(error, Exception) else EscapedError(error))


async def _contained(work: Callable[[], Awaitable[Any]]) -> Any:
    containment.enter()
    try:
        return await work()
    except (SystemExit, KeyboardInterrupt) as error:  # of all exceptions, these two would leave the task and the loop
        raise EscapedError(error) from error


def _let_go(task: asyncio.Task[Any]) -> None:
    """Leave nothing behind that asyncio would complain about: a run goes on alone, or its error was never asked for."""
    if task.done():
        _forget(task)
        return
    task.cancel()  # the first time where the slot is torn down; else once more, which some loops need
    _abandoned.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()
