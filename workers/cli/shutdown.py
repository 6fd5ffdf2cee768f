"""A service from its start to its exit code. SIGTERM and Ctrl-C drain it within the grace; the next one hurries."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from typing import Protocol

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


class Stoppable(Service, Protocol):
    """A Service with a drain: `stop` drains, and again with a nearer `by` (monotonic seconds) it hurries."""

    @property
    def drained(self) -> bool:
        """After `stop`: every job was finished or handed back."""


class Signals:
    """SIGTERM and SIGINT of this process, as calls.

    Args:
        on_first: called with the number of the first signal.
        on_next: called with each later one, until closed.
    """

    def __init__(self, on_first: Callable[[signal.Signals], None], on_next: Callable[[], None]) -> None:
        self._on_first = on_first
        self._on_next = on_next
        self._seen = False
        loop = asyncio.get_running_loop()
        for number in NUMBERS:
            loop.add_signal_handler(number, self._take, number)

    def _take(self, number: signal.Signals) -> None:
        if self._seen:
            self._on_next()
        else:
            self._seen = True
            self._on_first(number)

    def close(self) -> None:
        """Ignore them from now on: a late one must not change the exit code of a drain that is over."""
        loop = asyncio.get_running_loop()
        for number in NUMBERS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


async def run_until_signal(service: Stoppable, grace_s: float) -> None:
    """Start the service, wait for a signal or for its own end, drain it. Raises what ended it."""
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

    signals = Signals(first, hurry)
    try:
        await _until(asked, service)
    finally:
        await service.stop(by=time.monotonic() + (grace_s if asked.is_set() else HURRY_S))
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


async def serve(service: Stoppable, grace_s: float) -> int:
    """Run the service until a signal or its own end, and tell the exit code. What ended it goes to the log, which
    redacts it, and not to the interpreter, which would print it as it is.

    Raises:
        OpsServerError: the address for health and metrics can't be listened on.
    """
    try:
        await run_until_signal(service, grace_s)
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
