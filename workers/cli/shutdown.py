"""A service from its start to its exit code. SIGTERM and Ctrl-C drain it within the grace; the next one hurries."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from workers.broker.preflight import StartRefusedError
from workers.contract import Service
from workers.fleet import OpenError
from workers.ops.server import OpsServerError
from workers.runtime.supervision.supervisor import EXIT_REFUSED, RefusedToStartError

log = logging.getLogger(__name__)

#: The exit code when a job could be neither finished nor handed back, and when the service ended by itself.
EXIT_FAILED = 1
NUMBERS = (signal.SIGTERM, signal.SIGINT)
#: What a second signal still gives for handing jobs back, seconds.
HURRY_S = 3.0
#: How often it is looked whether the handlers are still there, seconds.
LOOK_S = 1.0


class Stoppable(Service, Protocol):
    """A Service with a drain: `stop` drains, and again with a nearer `by` (monotonic seconds) it hurries."""

    @property
    def drained(self) -> bool:
        """After `stop`: every job was finished or handed back."""


class Signals:
    """SIGTERM and SIGINT of this process, as calls. Handlers that a job puts in their place don't stay.

    Args:
        on_first: called with the number of the first signal.
        on_next: called with each later one, until closed.
    """

    def __init__(self, on_first: Callable[[signal.Signals], None], on_next: Callable[[], None]) -> None:
        self._on_first = on_first
        self._on_next = on_next
        self._seen = False
        self._told = False
        self._install()
        self._look = asyncio.get_running_loop().call_later(LOOK_S, self._restore)

    def _install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in NUMBERS:
            loop.add_signal_handler(number, self._take, number)
        self._ours = {number: signal.getsignal(number) for number in NUMBERS}

    def _restore(self) -> None:
        lost = [number.name for number in NUMBERS if signal.getsignal(number) != self._ours[number]]
        if lost:
            self._install()
            if not self._told:
                log.warning("a job has set a handler of its own for %s; ours is back", " and ".join(lost))
            self._told = True
        self._look = asyncio.get_running_loop().call_later(LOOK_S, self._restore)

    def _take(self, number: signal.Signals) -> None:
        if self._seen:
            self._on_next()
        else:
            self._seen = True
            self._on_first(number)

    def close(self) -> None:
        """Ignore them from now on: a late one must not change the exit code of a drain that is over."""
        self._look.cancel()
        loop = asyncio.get_running_loop()
        for number in NUMBERS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


async def run_until_signal(service: Stoppable, grace_s: float, reason: Coroutine[Any, Any, str] | None = None) -> None:
    """Start the service, wait for a signal, for another reason or for its own end, drain it. Raises what ended it."""
    asked = asyncio.Event()
    drains: set[asyncio.Task[None]] = set()

    def first(number: signal.Signals) -> None:
        log.info("%s: draining, at most %.0f s", number.name, grace_s)
        asked.set()

    def hurry() -> None:
        if drains:
            return
        log.warning("asked again: handing running jobs back now")
        drains.add(asyncio.create_task(service.stop(by=time.monotonic() + HURRY_S)))

    async def other() -> None:
        if reason is not None:
            told = await reason
            if not asked.is_set():
                log.warning("%s: draining, at most %.0f s", told, grace_s)
            asked.set()

    signals, waiting = Signals(first, hurry), asyncio.create_task(other())
    try:
        await _until(asked, service)
    finally:
        await service.stop(by=time.monotonic() + (grace_s if asked.is_set() else HURRY_S))
        waiting.cancel()
        for drain in drains:
            await drain
        signals.close()
    await service.wait()


async def _until(asked: asyncio.Event, service: Stoppable) -> None:
    """Start the service; return when asked to drain it, raise what it ended by."""
    await service.start()
    life = asyncio.create_task(service.wait())
    asking = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({life, asking}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
    finally:
        asking.cancel()
        life.cancel()


async def serve(service: Stoppable, grace_s: float, reason: Coroutine[Any, Any, str] | None = None) -> int:
    """Run the service until a signal or its own end, and tell the exit code. What ended it goes to the log, which
    redacts it, and not to the interpreter, which would print it as it is.

    Args:
        reason: another reason to drain: its words when it comes to pass. Defaults to none.

    Raises:
        OpsServerError: the address for health and metrics can't be listened on.
    """
    try:
        await run_until_signal(service, grace_s, reason)
    except OpsServerError:
        raise
    except (StartRefusedError, RefusedToStartError) as error:
        log.error("%s", error)
        return EXIT_REFUSED
    except OpenError as error:
        log.error("%s", error)
        return EXIT_FAILED
    except Exception:
        log.exception("ended by a defect of its own")
        return EXIT_FAILED
    return 0 if service.drained else EXIT_FAILED
