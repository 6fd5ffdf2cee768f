"""What the model test drives: one queue on a real server, workers behind a proxy, and a ledger outside Redis of what
was added, what ran and what was told.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from bullmq import Queue
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.conftest import Server, wait_until
from tests.faults import FaultProxy
from tests.fleet_worker import Served
from tests.queue_view import QueueView, look
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.endpoint import Endpoint
from workers.broker.events import Event, JobCompleted, JobFailed, JobLost
from workers.broker.hold import Hold

T = TypeVar("T")

LOCK_MS = 1000
#: How long a "long" job runs: longer than most of what happens to it, shorter than its lock needs without renewal.
LONG_S = 0.5
#: How long the queue may need to come to rest once nothing disturbs it: back-offs, expired locks, stalled checks.
REST_S = 40.0


@dataclass(frozen=True)
class Planned:
    """A job as the model knows it."""

    kind: str
    fails: int = 0
    """Attempts that fail before one works."""
    attempts: int = 1

    @property
    def state(self) -> str:
        """Where it must end."""
        return "failed" if self.kind == "cancelled" or self.fails >= self.attempts else "completed"

    @property
    def attempts_made(self) -> int:
        return min(self.fails + 1, self.attempts)


class Rig:
    """One example's world. Everything runs in one event loop, and only while the machine lets it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.prefix = f"m{uuid.uuid4().hex[:10]}"
        self.proxy = FaultProxy(server.port)
        self.planned: dict[str, Planned] = {}
        self.runs: Counter[str] = Counter()
        self.snoozed: set[str] = set()
        self.events: list[Event] = []
        self.workers: list[Served] = []
        self.cut_short = 0
        """Workers that could not write every ending before they had to stop."""
        self._direct = Redis.from_url(server.url, decode_responses=True, protocol=2)
        self._queue = Queue("q", {"connection": self._direct, "prefix": self.prefix})
        self._names = 0

    # ------------------------------------------------------------ the producer

    async def surely(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A call that may be repeated, until the server is there to answer it."""
        end = time.monotonic() + 10
        while True:
            try:
                return await ask()
            except (RedisError, OSError):
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)

    async def add(self, planned: Planned, options: dict[str, Any]) -> None:
        job = f"j{len(self.planned)}"
        self.planned[job] = planned
        opts = {"jobId": job, "attempts": planned.attempts, **options}
        await self.surely(lambda: self._queue.add(planned.kind, {}, opts))

    async def pause(self) -> None:
        await self.surely(self._queue.pause)

    async def resume(self) -> None:
        await self.surely(self._queue.resume)

    async def kill_connections(self) -> None:
        await self.surely(lambda: self._direct.client_kill_filter(_type="normal", skipme=True))

    async def restart_server(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await asyncio.to_thread(self.server.start)

    # ------------------------------------------------------------- the workers

    async def start_worker(self, slots: int) -> None:
        self._names += 1
        served = Served(
            self._execute,
            endpoint=Endpoint(url=self.proxy.url, prefix=self.prefix, command_timeout_s=0.5, connect_timeout_s=0.5),
            emit=self.events.append,
            name=f"w{self._names}",
            slots=slots,
            lock_ms=LOCK_MS,
            stalled_interval_ms=300,
            max_stalls=100,
            drain_delay_s=0.3,
        )
        self.workers.append(served)
        await served.worker.start()

    async def stop_worker(self, index: int, within_s: float) -> None:
        served = self.workers.pop(index % len(self.workers))
        await served.stop(within_s)
        self.cut_short += not served.worker.drained

    async def _execute(self, job: Activation, hold: Hold) -> Ending:
        planned = self.planned[job.id]
        self.runs[job.id] += 1
        if planned.kind == "cancelled":
            raise asyncio.CancelledError
        if planned.kind == "snoozes" and job.id not in self.snoozed:
            self.snoozed.add(job.id)
            return Delayed(delay_ms=50, reason="later")
        if planned.kind == "long" and (ending := await self._long(hold)):
            return ending
        if job.attempts_made >= planned.fails:
            return Completed(result=job.id)
        if job.attempts_made + 1 < planned.attempts:
            return Retry(reason="not yet", error="E", delay_ms=0 if planned.fails % 2 else 30)
        return Failed(reason="never", error="E")

    async def _long(self, hold: Hold) -> Ending | None:
        try:
            await asyncio.wait_for(hold.interrupted.wait(), LONG_S)
        except TimeoutError:
            return None
        if hold.interrupt is not None and hold.interrupt.kind == "lock_lost":
            return Lost(reason=hold.interrupt.reason)
        return HandedBack(reason="drain")

    # ---------------------------------------------------------------- the end

    async def look(self) -> QueueView:
        return await self.surely(lambda: look(self._direct, self.prefix, "q"))

    async def rest(self) -> QueueView:
        """Let everything come to its end; what the queue looks like then."""
        self.proxy.heal()
        await self.resume()
        if not self.workers:
            await self.start_worker(2)

        async def at_rest() -> bool:
            return (await self.look()).count("completed", "failed") == len(self.planned)

        condition: Callable[[], bool | Awaitable[bool]] = at_rest
        with suppress(AssertionError):  # what is missing is told in detail
            await wait_until(condition, timeout_s=REST_S, every_s=0.05)
        while self.workers:
            await self.stop_worker(0, 5.0)
        return await self.look()

    async def problems(self) -> list[str]:
        """What does not agree between the ledger, the events and Redis; empty when all is well."""
        view = await self.rest()
        found = view.problems(self.planned) + self.proxy.problems
        for job, planned in self.planned.items():
            row: Any = await self._direct.hgetall(f"{self.prefix}:q:{job}")
            found += [f"{job}: {said} ({planned})" for said in self._judge(job, planned, view, row)]
        return found

    def _judge(self, job: str, planned: Planned, view: QueueView, row: dict[str, str]) -> list[str]:
        found = []
        if view.places.get(job) != [planned.state]:
            found.append(f"is in {view.places.get(job)}, not in {planned.state}")
        if int(row.get("atm", 0)) != planned.attempts_made:
            found.append(f"made {row.get('atm')} attempts")
        if planned.state == "completed" and row.get("returnvalue") != f'"{job}"':
            found.append(f"has the result {row.get('returnvalue')}")
        if int(row.get("ats", 0)) > self.runs[job] + int(row.get("stc", 0)):
            found.append(f"was started {row.get('ats')} times and ran {self.runs[job]} times")
        done = JobCompleted if planned.state == "completed" else JobFailed
        times = self._told(job, JobCompleted, JobFailed)
        if times != self._told(job, done) or times > 1:
            found.append(f"was told of as ended {times} times")
        if not times and not self._told(job, JobLost) and not self.cut_short:
            found.append("ended and was never told of")
        return found

    def _told(self, job: str, *kinds: type[Event]) -> int:
        return sum(isinstance(event, kinds) and getattr(event, "job_id", None) == job for event in self.events)

    async def close(self) -> None:
        """Leave the server as it was."""
        for served in self.workers:
            await served.stop(1.0)
        await self.proxy.stop()
        keys = [key async for key in self._direct.scan_iter(match=f"{self.prefix}:*", count=1000)]
        if keys:
            await self._direct.delete(*keys)
        await self._direct.aclose()
