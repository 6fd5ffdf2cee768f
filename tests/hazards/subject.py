"""A worker in a reproduction: the package's and ours behind one face, so that both go through the same."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from bullmq import Queue, QueueEvents, Worker
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.faults import FaultProxy
from tests.fleet_worker import Served
from workers.broker.activation import Activation
from workers.broker.backend import Fetched
from workers.broker.emitter import Emitter
from workers.broker.endings import Ending
from workers.broker.endpoint import Endpoint
from workers.broker.events import Event, JobActive, JobCompleted, JobFailed, WorkerError
from workers.broker.hold import Hold
from workers.contract import JobContext, retry_all
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy

#: Runs the job of this id.
Process = Callable[[str], Awaitable[Any]]
#: Data that both sides can read; what is in it plays no part.
DATA = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a reproduction wants of its worker; short timers unless it says otherwise."""

    slots: int = 1
    lock_ms: int = 1000
    stalled_ms: int = 500
    drain_s: float = 1.0
    keep_completed: Any = None
    retries: bool = True
    """The package's client may send again; ours never does."""
    patient: bool = False
    """The package's client waits longer than it blocks; ours always does."""
    raise_on: Literal["active", "completed", ""] = ""
    """Its listener raises at these events."""


async def returns(job_id: str) -> str:
    """The simplest process."""
    return "fine"


class Subject(ABC):
    """Serves queue `q` of one server, and remembers what it said."""

    def __init__(self, url: str, process: Process = returns, **setting: Any) -> None:
        self.url = url
        self.process = process
        self.setting = Setting(**setting)
        self.started: list[str] = []
        self.completed: list[str] = []
        self.failed: dict[str, str] = {}
        self.errors: list[str] = []
        self.opts_seen: dict[str, dict[str, Any]] = {}
        self.fetched = asyncio.Event()
        """After `slow_fetch`: a job came, and is held up."""

    @abstractmethod
    async def start(self) -> None:
        """Begin to serve; returns at once."""

    @abstractmethod
    async def close(self, within_s: float) -> None:
        """Close as the library is told to; only ours knows a bound."""

    @property
    @abstractmethod
    def client(self) -> Redis:
        """The client that the worker sends its commands with."""

    @abstractmethod
    def slow_fetch(self, seconds: float) -> None:
        """From now on every fetch that gets a job takes so much longer."""

    @abstractmethod
    def listen(self, url: str) -> list[str]:
        """Ids of jobs whose completion a listener hears of, as the library offers it."""

    async def _run(self, job_id: str, opts: dict[str, Any]) -> Any:
        self.started.append(job_id)
        self.opts_seen[job_id] = dict(opts)
        return await self.process(job_id)


class Stock(Subject):
    """`bullmq.Worker` as it is."""

    async def start(self) -> None:
        setting = self.setting
        url = f"{self.url}?protocol=2"  # what the fault proxy reads; what is wrong is wrong in RESP3 too
        connection: Any = f"{url}&socket_timeout=60" if setting.patient else url
        if not setting.retries:
            connection = Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))
        options: dict[str, Any] = {
            "connection": connection,
            "autorun": False,
            "concurrency": setting.slots,
            "lockDuration": setting.lock_ms,
            "stalledInterval": setting.stalled_ms,
            "drainDelay": setting.drain_s,
        }
        if setting.keep_completed is not None:
            options["removeOnComplete"] = setting.keep_completed
        self.worker = Worker("q", lambda job, token: self._run(job.id, job.opts), options)
        self.worker.on("completed", lambda job, result: self.completed.append(job.id))
        self.worker.on("failed", lambda job, error: self.failed.update({job.id: str(error)}))
        self.worker.on("error", lambda error, *job: self.errors.append(str(error)))
        if setting.raise_on:
            self.worker.on(setting.raise_on, _raises)
        self._running = asyncio.ensure_future(self.worker.run())

    async def close(self, within_s: float) -> None:
        await self.worker.close()

    @property
    def client(self) -> Redis:
        client: Redis = self.worker.client
        return client

    def slow_fetch(self, seconds: float) -> None:
        real = self.worker.backend.moveToActive

        async def slow(*args: Any) -> Any:
            reply = await real(*args)
            if reply and reply[0]:
                self.fetched.set()
                await asyncio.sleep(seconds)
            return reply

        self.worker.backend.moveToActive = slow

    def listen(self, url: str) -> list[str]:
        heard: list[str] = []
        self._events = QueueEvents("q", {"connection": url})
        self._events.on("completed", lambda event, *id_: heard.append(str(event["jobId"])))
        return heard


class Fleet(Subject):
    """FleetWorker with its executor, wired as `workers/fleet/queues.py` does."""

    async def start(self) -> None:
        setting = self.setting
        plan = Plan(
            isolation=Inline(self._process),
            classify=retry_all,
            ladder=Ladder.timeout(3600),
            retry=RetryPolicy(attempts=1),
        )
        limits = Limits(max_data_bytes=10_000, unknown_delay_s=30, unknown_give_up_s=3600)
        self._executor = Executor({"email-send": plan}, limits)
        emitter = Emitter()
        emitter.subscribe(self._hear)
        if setting.raise_on:
            emitter.subscribe(self._raise)
        self._served = Served(
            self._execute,
            endpoint=Endpoint(url=self.url),
            emit=emitter,
            slots=setting.slots,
            lock_ms=setting.lock_ms,
            stalled_interval_ms=setting.stalled_ms,
            drain_delay_s=setting.drain_s,
            keep_completed=setting.keep_completed if setting.keep_completed is not None else False,
        )
        self.worker = self._served.worker
        await self.worker.start()

    async def close(self, within_s: float) -> None:
        await self._served.stop(within_s)

    @property
    def client(self) -> Redis:
        client: Redis = self.worker.backend.conn
        return client

    def slow_fetch(self, seconds: float) -> None:
        real = self.worker.backend.fetch

        async def slow(token: str) -> Fetched:
            fetched = await real(token)
            if fetched.activation is not None:
                self.fetched.set()
                await asyncio.sleep(seconds)
            return fetched

        self.worker.backend.fetch = slow  # type: ignore[method-assign]

    def listen(self, url: str) -> list[str]:
        return self.completed

    async def _execute(self, job: Activation, hold: Hold) -> Ending:
        self.opts_seen[job.id] = dict(job.opts)
        return await self._executor.execute(job, hold)

    async def _process(self, task: Any, ctx: JobContext) -> Any:
        return await self._run(ctx.job_id, self.opts_seen[ctx.job_id])

    def _hear(self, event: Event) -> None:
        match event:
            case JobCompleted():
                self.completed.append(event.job_id)
            case JobFailed():
                self.failed[event.job_id] = event.reason
            case WorkerError():
                self.errors.append(str(event.error))
            case _:
                pass

    def _raise(self, event: Event) -> None:
        wanted = {"active": JobActive, "completed": JobCompleted}[self.setting.raise_on]
        if isinstance(event, wanted):
            _raises()


def _raises(*_: Any) -> None:
    raise ValueError("a listener's defect")


class Lab:
    """The server of one reproduction, and who adds jobs to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.background: asyncio.Future[None] | None = None
        """What goes on when the reproduction is over; kept from the garbage collector."""
        self.redis = Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=None)
        self._queue = Queue("q", {"connection": Redis.from_url(url, decode_responses=True, protocol=2)})

    @asynccontextmanager
    async def proxied(self) -> AsyncIterator[FaultProxy]:
        """A proxy before the server. What it was told to break must break, or nothing was shown."""
        async with FaultProxy(urlsplit(self.url).port or 6379) as proxy:
            yield proxy
        if proxy.problems or not all(planned.fired.is_set() for planned in proxy.breaks):
            raise RuntimeError(f"the faults did not come as planned: {proxy.problems}")

    async def add(self, job_id: str, **opts: Any) -> None:
        """Add a job of this id."""
        await self._queue.add("n", DATA, {"jobId": job_id, **opts})

    async def row(self, job_id: str) -> dict[str, str]:
        """What Redis holds of it."""
        row: Any = await self.redis.hgetall(f"bull:q:{job_id}")
        return dict(row)

    async def calls(self, command: str) -> int:
        """How often the server ran this command so far."""
        stats = await self.redis.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

    async def idle(self) -> bool:
        """Wait until a worker blocks for its next job."""

        async def blocks() -> bool:
            return any(client["cmd"] == "bzpopmin" for client in await self.redis.client_list())

        return await self.until(blocks, 5)

    async def until(self, condition: Callable[[], Any], timeout_s: float) -> bool:
        """Poll; whether it came true in time."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return True
            await asyncio.sleep(0.002)
        return False
