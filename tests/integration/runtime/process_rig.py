"""What a process makes for its queues, as `workers/fleet/queues.py` does it: workers, adder, aftermath."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

from redis.asyncio import Redis

from config.schema import FleetConfig
from tasks.base import Task
from tasks.email_send import EmailSend
from workers.broker.endpoint import Endpoint
from workers.broker.events import Event, WorkerError
from workers.broker.producer import JobAdder
from workers.broker.reconnect import Reconnect
from workers.broker.renewer import Renewer
from workers.broker.settings import WorkerSettings
from workers.broker.worker import FleetWorker
from workers.contract import JobContext, OnFailed, retry_all
from workers.queue_service.adding import Adding
from workers.queue_service.routes import Routes
from workers.runtime.aftermath import Aftermath
from workers.runtime.context import Ports
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy
from workers.runtime.task_adder import TaskAdder

MAIL = {"type": "email-send", "id": "m1", "userId": "614", "to": ["a@example.com"], "subject": "S", "text": "T"}
NOTES = "notification-create"

Process: TypeAlias = Callable[[Any, JobContext], Awaitable[Any]]


class Wave(Task):
    """A task that parents send out as children."""

    type: Literal["wave"] = "wave"
    height: int


def config() -> FleetConfig:
    entry = {"pool": "p", "concurrency": 1, "task": {"timeout": "1s"}}
    return FleetConfig.model_validate({"pools": {"p": {}}, "queues": {q: entry for q in ("email-send", "wave", NOTES)}})


class Fleet:
    """One process's, with what it told."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.events: list[Event] = []
        self.client = endpoint.commands()
        self.endpoint = endpoint
        self.renewer = Renewer(endpoint.commands, endpoint.prefix, on_error=lambda error: None)
        self.add = TaskAdder(Adding(JobAdder(self.client, endpoint.prefix), Routes.of(config())))
        self.aftermath = Aftermath(self.add, self._lost, reconnect=Reconnect(0.01, 0.05))
        self.workers: list[FleetWorker] = []

    def _lost(self, queue: str, error: BaseException, job_id: str) -> None:
        self.events.append(WorkerError(queue=queue, where="on_failed", error=error, job_id=job_id))

    async def serve(
        self,
        process: Process,
        task: type[Task] = EmailSend,
        *,
        on_failed: OnFailed[Any] | None = None,
        attempts: int = 1,
        **settings: Any,
    ) -> FleetWorker:
        queue = task.type_name()
        plan = Plan(
            task=task,
            isolation=Inline(process),
            classify=retry_all,
            ladder=Ladder.timeout(60),
            retry=RetryPolicy(attempts=attempts),
        )
        limits = Limits(max_data_bytes=10_000, unknown_delay_s=1, unknown_give_up_s=0)
        worker = FleetWorker(
            queue,
            Executor({queue: plan}, limits, ports=Ports(add=self.add)).execute,
            client=self.client,
            blocking=self.endpoint.blocking(queue, "w"),
            prefix=self.endpoint.prefix,
            settings=WorkerSettings(
                **{"name": "w", "drain_delay_s": 1.0, "reconnect": Reconnect(0.01, 0.05), **settings}
            ),
            renewer=self.renewer,
            emit=self.events.append,
            types=frozenset({queue}),
            on_failed=self.aftermath.of({queue: task}, {queue: on_failed}),
        )
        self.workers.append(worker)
        await worker.start()
        return worker

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def stop(self) -> None:
        for worker in self.workers:
            await worker.stop(by=time.monotonic() + 5)
        await self.aftermath.close(1.0)
        await self.renewer.stop()
        await self.client.aclose()


async def jobs_of(redis: Redis, prefix: str, queue: str, count: int = 1) -> Any:
    """What waits in a queue, the next first; nothing unless it is so many."""
    found = []
    waiting: Any = await redis.lrange(f"{prefix}:{queue}:wait", 0, -1)
    for job_id in reversed(waiting):
        row: Any = await redis.hgetall(f"{prefix}:{queue}:{job_id}")
        found.append({"id": job_id, "data": json.loads(row["data"]), "opts": json.loads(row["opts"])})
    return found if len(found) == count else []


def raises(error: Exception) -> Process:
    async def process(task: Any, ctx: JobContext) -> Any:
        raise error

    return process
