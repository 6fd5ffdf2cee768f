"""One `make run`: starts its parts in order, waits for the person, and drains them in the opposite order.

Valkey, mail catcher, fleet, producer; on Ctrl-C the producer ends first, then the fleet drains, and only then do
the servers that it needs go away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from config.redaction import mask_url
from workers.contract import Service
from workers.dev.board import Board
from workers.dev.catcher import MailCatcher
from workers.dev.embedded import EmbeddedValkey
from workers.dev.producer import Producer

log = logging.getLogger(__name__)

HURRY_S = 3.0  # for each part, once the person has asked twice or a part has died
PART_S = 10.0  # for each part but the fleet


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the local servers are; None: there is none, the configuration's own stand."""

    redis: str | None
    smtp: str | None


class FleetPart(Service, Protocol):
    """The fleet as `make run` sees it."""

    @property
    def url(self) -> str:
        """Of health and metrics."""

    @property
    def served(self) -> tuple[str, ...]:
        """Queues."""

    @property
    def skipped(self) -> Mapping[str, str]:
        """Queue → why it is not served."""

    @property
    def drained(self) -> bool:
        """After `stop`: every job was finished or handed back."""


class LocalRun:
    """Runs the parts until it is asked to end, `run_for_s` is over, or a part dies.

    Args:
        board: shows what happens; started first, stopped last.
        make_fleet: builds the fleet once the servers are there.
        redis: the URL shown where there is no Valkey of ours; its password is masked.
        valkey: the embedded server. None: the configured one is joined.
        catcher: takes the mails. None: they go where the configuration says.
        make_producer: builds the producer for Redis and the queues served. None: nobody adds jobs here.
        grace_s: seconds for running jobs when it ends.
        run_for_s: ends by itself after so many seconds. Defaults to None, never.
    """

    def __init__(
        self,
        *,
        board: Board,
        make_fleet: Callable[[Addresses], FleetPart],
        redis: str = "",
        valkey: EmbeddedValkey | None = None,
        catcher: MailCatcher | None = None,
        make_producer: Callable[[str, tuple[str, ...]], Producer] | None = None,
        grace_s: float = 30.0,
        run_for_s: float | None = None,
    ) -> None:
        self._board = board
        self._make_fleet = make_fleet
        self._redis = redis
        self._valkey = valkey
        self._catcher = catcher
        self._make_producer = make_producer
        self._grace_s = grace_s
        self._run_for_s = run_for_s
        self._fleet: FleetPart | None = None
        self._parts: list[Service] = []
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()

    def end(self) -> None:
        """Ask it to drain; asked again, it hurries."""
        if self._asked.is_set():
            self._hurry.set()
            self._board.say("asked again: running jobs are handed back now")
        else:
            self._asked.set()
            self._board.say(f"draining, at most {self._grace_s:g} s")
            self._board.hint("draining; Ctrl-C again hands running jobs back now")

    async def run(self) -> bool:
        """Run to the end; true if every job was finished or handed back.

        Raises:
            DevError: Valkey or the mail catcher could not start, or died.
            Exception: what ended the fleet. Everything is stopped then, too.
        """
        try:
            await self._start_all()
            await self._until_over()
        except BaseException:
            self._hurry.set()
            raise
        finally:
            stopped = await self._stop_all()
        return stopped and (self._fleet is None or self._fleet.drained)

    async def _start_all(self) -> None:
        """In order; leave off where the run is asked to end."""
        for server in (self._board, self._valkey, self._catcher):
            if server is not None and not await self._start(server):
                return
        redis = self._valkey.url if self._valkey else None
        smtp = self._catcher.url if self._catcher else None
        self._fleet = fleet = self._make_fleet(Addresses(redis=redis, smtp=smtp))
        self._tell(redis or mask_url(self._redis))
        if not await self._start(fleet):
            return
        self._board.fact("health", lambda: f"{fleet.url}/readyz")
        self._board.fact("metrics", lambda: f"{fleet.url}/metrics")
        if self._make_producer is not None and redis is not None:
            producer = self._make_producer(redis, fleet.served)
            if not await self._start(producer):
                return
            self._board.fact("jobs from", lambda: f"{producer.kind}, {producer.added} added")
        self._board.hint("Ctrl-C drains and stops")

    async def _start(self, part: Service) -> bool:
        """Start a part; false if the run was asked to end before that was done."""
        self._parts.append(part)
        return not self._asked.is_set() and await self._unless(self._asked, part.start())

    def _tell(self, redis: str) -> None:
        joined = self._valkey is not None and self._valkey.joined
        self._board.fact("redis", lambda: f"{redis}{' (of another run here)' if joined else ''}")
        if catcher := self._catcher:
            self._board.fact("mails", lambda: f"{catcher.count} in {_shown(catcher.directory)}")
        if self._fleet is not None and self._fleet.skipped:
            skipped = ", ".join(self._fleet.skipped)
            self._board.fact("not served yet", lambda: skipped)

    async def _until_over(self) -> None:
        lives = [asyncio.create_task(part.wait()) for part in self._parts]
        asked = asyncio.create_task(self._asked.wait())
        try:
            done, _ = await asyncio.wait({asked, *lives}, timeout=self._run_for_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self.end()
            for life in done - {asked}:
                life.result()
        finally:
            for task in (asked, *lives):
                task.cancel()
            await asyncio.gather(asked, *lives, return_exceptions=True)

    async def _stop_all(self) -> bool:
        clean = True
        for part in reversed(self._parts):
            try:
                await self._stop(part)
            except Exception:
                log.exception("%s could not be stopped", part.name)
                clean = False
        return clean

    async def _stop(self, part: Service) -> None:
        if not self._hurry.is_set():
            grace_s = self._grace_s if part is self._fleet else PART_S
            stopping = asyncio.create_task(part.stop(by=time.monotonic() + grace_s))
            if await self._unless(self._hurry, asyncio.shield(stopping)):
                return
        await part.stop(by=time.monotonic() + HURRY_S)

    @staticmethod
    async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None] | asyncio.Future[None]) -> bool:
        """True when the work is done; false if the event came first, the work is cancelled then."""
        working, told = asyncio.ensure_future(work), asyncio.create_task(event.wait())
        try:
            await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            working.cancel()
            await asyncio.wait({working})
        if working.cancelled():
            return False
        working.result()
        return True


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
