"""Drives one run: lets it end by itself, cancels it at its time-out, takes the slot back when the host asks.

The ladder has one rung so far: `timeout: 30s` means cancel after 30 s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeAlias

from workers.broker.hold import Hold, Interrupt

log = logging.getLogger(__name__)

#: How long a cancelled run may take to clean up before its slot goes on without it, seconds.
CLEANUP_S = 5.0


@dataclass(frozen=True, slots=True)
class Returned:
    """The run ended by itself; after a cancellation too, if it had just finished its work."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The run failed by itself."""

    error: BaseException


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


class EscapedError(Exception):
    """A processor let something escape that would have ended the process or its loop."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the processor raised {type(error).__name__}: {error}".rstrip(": "))


#: Runs that ignored their cancellation; kept from the garbage collector, which would only complain about them.
_abandoned: set[asyncio.Future[Any]] = set()


async def drive(work: Awaitable[Any], hold: Hold, timeout_s: float) -> RunEnd:
    """Run `work` to its end, its time-out or an interrupt's `by`, whichever is first. Raises nothing of the run's."""
    started = time.monotonic()
    deadline = started + timeout_s
    task = asyncio.ensure_future(_contained(work))
    try:
        while not task.done():
            interrupt = hold.interrupt
            now = time.monotonic()
            if interrupt is not None and interrupt.by <= min(now, deadline):
                return await _interrupted(task, interrupt)
            if now >= deadline:
                done = await _cancel(task, CLEANUP_S)
                return _returned(task) or TimedOut(timeout_s, not done)
            await _wait(task, hold, (interrupt.by if interrupt else deadline, deadline))
    except asyncio.CancelledError:
        task.cancel()
        raise
    return _end(task)


async def _wait(task: asyncio.Future[Any], hold: Hold, ends: tuple[float, float]) -> None:
    hold.interrupted.clear()
    asked = asyncio.ensure_future(hold.interrupted.wait())
    try:
        timeout = max(0.0, min(ends) - time.monotonic())
        await asyncio.wait({task, asked}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()


async def _interrupted(task: asyncio.Future[Any], interrupt: Interrupt) -> RunEnd:
    # On a drain the hand-back must still be written in time; the run gets a moment, not the full clean-up time.
    done = await _cancel(task, 1.0)
    if interrupt.kind == "drain" and (end := _returned(task)) is not None:
        return end
    return Interrupted(interrupt, not done)


async def _cancel(task: asyncio.Future[Any], within_s: float) -> bool:
    task.cancel()
    await asyncio.wait({task}, timeout=within_s)
    if task.done():
        return True
    log.error("a processor ignores its cancellation; its slot goes on without it")
    _abandoned.add(task)
    task.add_done_callback(_forget)
    return False


def _forget(task: asyncio.Future[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # seen, so that the loop does not report it as never retrieved


async def _contained(work: Awaitable[Any]) -> Any:
    """SystemExit and KeyboardInterrupt would leave the task and end the loop; here they only end the job."""
    try:
        return await work
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise EscapedError(error) from error


def _returned(task: asyncio.Future[Any]) -> Returned | None:
    if not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return Returned(task.result())


def _end(task: asyncio.Future[Any]) -> RunEnd:
    if task.cancelled():  # nobody here asked for it: a cancel scope of a library leaked
        return Raised(EscapedError(asyncio.CancelledError()))
    error = task.exception()
    return Raised(error) if error is not None else Returned(task.result())
