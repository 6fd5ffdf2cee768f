"""What the model test drives: one queue on a real server, workers that each have a proxy, and a ledger outside Redis of
what was added, what ran and what was told.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
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
from workers.broker.events import Event, JobActive, JobCompleted, JobEvent, JobFailed, JobHandedBack
from workers.broker.hold import Hold

T = TypeVar("T")

#: How long a "long" job runs.
LONG_S = 0.5
#: How long the queue may need to come to rest once nothing disturbs it: a wait on a dead connection, expired locks.
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


@dataclass(eq=False)
class Running:
    """A worker, its proxy, and what it has told."""

    proxy: FaultProxy
    events: list[Event] = field(default_factory=list)
    served: Served | None = None
    drained: bool = True

    def told(self, job: str, *kinds: type[Event]) -> int:
        return sum(isinstance(event, kinds) and getattr(event, "job_id", "") == job for event in self.events)

    def kept_to_itself(self, job: str) -> bool:
        """It was stopped before it could tell how the job that it ran had ended."""
        if self.drained:
            return False
        mine = [event for event in self.events if isinstance(event, JobEvent) and event.job_id == job]
        return bool(mine) and isinstance(mine[-1], JobActive)


class Rig:
    """One example's world. Everything runs in one event loop, and only while the machine lets it.

    Args:
        patient: locks outlive every disturbance, so that none of them may interrupt a job.
    """

    def __init__(self, server: Server, *, patient: bool) -> None:
        self.server = server
        self.patient = patient
        self.prefix = f"m{uuid.uuid4().hex[:10]}"
        self.planned: dict[str, Planned] = {}
        self.runs: Counter[str] = Counter()
        self.snoozed: Counter[str] = Counter()
        self.workers: list[Running] = []
        """Those that run."""
        self.all: list[Running] = []
        self._direct = Redis.from_url(server.url, decode_responses=True, protocol=2)
        self._queue = Queue("q", {"connection": self._direct, "prefix": self.prefix})

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
        running = Running(FaultProxy(self.server.port))
        await running.proxy.start()
        running.served = Served(
            self._execute,
            endpoint=Endpoint(url=running.proxy.url, prefix=self.prefix, command_timeout_s=0.5, connect_timeout_s=0.5),
            emit=running.events.append,
            name=f"w{len(self.all)}",
            slots=slots,
            lock_ms=6000 if self.patient else 1000,
            stalled_interval_ms=300,
            max_stalls=100,
            drain_delay_s=0.3,
        )
        self.workers.append(running)
        self.all.append(running)
        await running.served.worker.start()

    async def stop_worker(self, index: int, within_s: float) -> None:
        running = self.workers.pop(index % len(self.workers))
        if running.served is not None:
            await running.served.stop(within_s)
            running.drained = running.served.worker.drained
        await running.proxy.stop()

    def proxy(self, index: int) -> FaultProxy:
        """The proxy of one of the workers that run."""
        return self.workers[index % len(self.workers)].proxy

    async def _execute(self, job: Activation, hold: Hold) -> Ending:
        planned = self.planned[job.id]
        self.runs[job.id] += 1
        if planned.kind == "cancelled":
            raise asyncio.CancelledError
        if planned.kind == "snoozes" and not self.snoozed[job.id]:
            self.snoozed[job.id] += 1
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

    def calm(self) -> None:
        """End every standing fault; what was late arrives."""
        for running in self.workers:
            running.proxy.heal()
            for planned in running.proxy.breaks:
                planned.release()

    async def look(self) -> QueueView:
        return await self.surely(lambda: look(self._direct, self.prefix, "q"))

    async def rest(self) -> QueueView:
        """Let everything come to its end; what the queue looks like then."""
        self.calm()
        await self.resume()
        if not self.workers:
            await self.start_worker(2)

        async def at_rest() -> bool:
            return (await self.look()).count("completed", "failed") == len(self.planned)

        condition: Callable[[], bool | Awaitable[bool]] = at_rest
        with suppress(AssertionError):  # what is missing is told in detail
            await wait_until(condition, timeout_s=REST_S, every_s=0.05)
        while self.workers:
            self.calm()
            await self.stop_worker(0, 5.0)
        return await self.look()

    async def problems(self) -> list[str]:
        """What does not agree between the ledger, the events and Redis; empty when all is well."""
        view = await self.rest()
        found = view.problems(self.planned)
        found += [problem for running in self.all for problem in running.proxy.problems]
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
        return found + self._judge_starts(job, planned, row) + self._judge_words(job, planned)

    def _judge_starts(self, job: str, planned: Planned, row: dict[str, str]) -> list[str]:
        starts, stalls = int(row.get("ats", 0)), int(row.get("stc", 0))
        found = []
        if starts > self.runs[job] + stalls:
            found.append(f"was started {starts} times, ran {self.runs[job]} times and stalled {stalls} times")
        if self.patient and all(running.drained for running in self.all):
            wanted = planned.attempts_made + self.snoozed[job]
            if stalls or starts != wanted:
                found.append(f"was started {starts} times instead of {wanted}, and stalled {stalls} times")
        return found

    def _judge_words(self, job: str, planned: Planned) -> list[str]:
        done, other = (JobCompleted, JobFailed) if planned.state == "completed" else (JobFailed, JobCompleted)
        times = sum(running.told(job, done) for running in self.all)
        if times == 1 or (times == 0 and any(running.kept_to_itself(job) for running in self.all)):
            found = []
        else:
            found = [f"was told of {times} times as {planned.state}"]
        if any(running.told(job, other) for running in self.all):
            found.append(f"was told of as {other.__name__}")
        handed_back = sum(running.told(job, JobHandedBack) for running in self.all)
        if handed_back > self.runs[job]:
            found.append(f"was handed back {handed_back} times and ran {self.runs[job]} times")
        return found

    def story(self) -> list[str]:
        """What every worker has told."""
        return [f"w{number}: {event}" for number, running in enumerate(self.all) for event in running.events]

    async def close(self) -> None:
        """Leave the server as it was."""
        while self.workers:
            await self.stop_worker(0, 1.0)
        keys = [key async for key in self._direct.scan_iter(match=f"{self.prefix}:*", count=1000)]
        if keys:
            await self._direct.delete(*keys)
        await self._direct.aclose()
