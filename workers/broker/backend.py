"""BullMQ's Redis backend with what a worker needs beyond it: typed replies, fetch-next on every ending, the worker's
name (`processedBy`), hand-back, and keep rules that don't mutate the job's options.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
from bullmq.backends import RedisBackend
from bullmq.redis_connection import RedisConnection
from redis.asyncio import Redis

from workers.broker import result
from workers.broker.activation import Activation, parse
from workers.broker.client import FleetRedis
from workers.broker.endings import (
    AwaitingChildren,
    Completed,
    Delayed,
    Ending,
    Failed,
    HandedBack,
    Lost,
    RateLimited,
    Requeued,
    Retry,
)
from workers.broker.keep import keep_jobs
from workers.broker.marker import Marker
from workers.broker.numbers import MAX_SAFE, is_number, whole
from workers.broker.refusals import RefusedError
from workers.broker.scripts import Scripts
from workers.broker.settings import WorkerSettings

#: Per-minute data points of completed and failed counts that BullMQ keeps: two weeks, Node's MetricsTime.TWO_WEEKS.
METRICS_POINTS = 20_160
#: Characters of `failedReason` and of one stack trace that are stored.
MAX_REASON, MAX_STACK = 8_192, 16_384
#: Stack traces stored with a job where its own `stackTraceLimit` does not say.
MAX_STACKS = 50

#: The first keys of both scripts that take a job: moveToActive, and moveToFinished with its next one.
_TAKE = ("wait", "active", "prioritized", "events", "stalled", "limiter", "delayed", "paused", "meta", "pc")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a fetch."""

    activation: Activation | None = None
    limited_ms: int = 0
    """The rate limit lets no job through for so long."""
    due_at: int = 0
    """When the next delayed job is due, ms since the epoch; 0: none is known."""


def now_ms() -> int:
    """Milliseconds since the epoch, the clock of BullMQ's timestamps."""
    return round(time.time() * 1000)


class FleetBackend(RedisBackend):  # type: ignore[misc]
    """One queue's commands. Raises redis errors as they are and RefusedError where a script says no."""

    def __init__(self, queue: str, client: Redis, blocking: Redis, prefix: str, settings: WorkerSettings) -> None:
        super().__init__(queue, RedisConnection(client), RedisConnection(blocking), prefix)
        self._settings = settings
        self._own = Scripts(client)
        self._marker = Marker(self.keys["marker"], self.bclient, self.conn)

    @property
    def commands(self) -> dict[str, Any]:
        """The registered scripts, by name."""
        commands: dict[str, Any] = self.connection.commands
        return commands

    async def bury(self, error: BaseException) -> None:
        """See FleetRedis.bury."""
        if isinstance(self.conn, FleetRedis):
            await self.conn.bury(error)

    def activation(self, job_id: str, row: Sequence[str] | Mapping[str, str], token: str) -> Activation:
        """See `parse`; within this worker's bounds."""
        return parse(self.name, job_id, row, token, self._settings.bounds)

    async def fetch(self, token: str) -> Fetched:
        """moveToActive: take the next job under a lock with this token."""
        keys = self._named(*_TAKE, "marker")
        args = [self.keys[""], now_ms(), self._fetch_opts(token)]
        return self._fetched(await self.commands["moveToActive"](keys=keys, args=args), token)

    async def wait_for_marker(self, block_s: float, *, precisely: bool = False) -> int | None:
        """See Marker.wait."""
        return await self._marker.wait(block_s, precisely=precisely)

    async def finish(self, job: Activation, ending: Ending, *, fetch_next: bool) -> Fetched:
        """Write how the execution ended, and take the next job with the same round trip where the script can."""
        if job.broken:
            await self._mend(job)
        match ending:
            case Completed():
                text = result.dump(ending.result)[0] if ending.text is None else ending.text
                return await self._finished(job, "completed", "returnvalue", text, {}, fetch_next)
            case Failed():
                reason = result.clean(ending.reason, MAX_REASON)
                return await self._finished(
                    job, "failed", "failedReason", reason, self._failure_fields(job, ending), fetch_next
                )
            case Retry(delay_ms=0):
                return await self._retry(job, self._failure_fields(job, ending))
            case Retry():
                fields = self._failure_fields(job, ending)
                return await self._delay(job, ending.delay_ms, False, fields, fetch_next)
            case Delayed():
                return await self._put_off(job, ending, fetch_next)
            case HandedBack():
                await self.unspend_start(job)
                await self._to_wait(job)
                return Fetched()
            case Lost():
                return Fetched()

    async def _mend(self, job: Activation) -> None:
        """Make the row one that BullMQ's scripts can end; only while the lock is ours."""
        await self._own.mend([self.toKey(job.id)], [job.token, *sorted(job.broken)])

    async def _finished(
        self, job: Activation, target: str, prop: str, value: str, fields: dict[str, str], fetch_next: bool
    ) -> Fetched:
        keys = self._named(*_TAKE, target)
        keys += [self.toKey(job.id), self.toKey(f"metrics:{target}"), self.keys["marker"]]
        own, default = (
            ("removeOnComplete", self._settings.keep_completed)
            if target == "completed"
            else ("removeOnFail", self._settings.keep_failed)
        )
        opts = {
            **self._fetch(job.token),
            "keepJobs": keep_jobs(job.opts.get(own), default),
            "attempts": _attempts(job),
            "attemptsMade": job.attempts_made,
            "maxMetricsSize": METRICS_POINTS,
            "fpof": bool(job.opts.get("fpof")),
            "cpof": bool(job.opts.get("cpof")),
            "idof": bool(job.opts.get("idof")),
            "rdof": bool(job.opts.get("rdof")),
        }
        flag = "1" if fetch_next else ""
        args: list[Any] = [job.id, now_ms(), prop, value, target, flag, self.keys[""], msgpack.packb(opts)]
        if fields:
            args.append(_packed(fields))
        reply = await self.commands["moveToFinished"](keys=keys, args=args)
        return self._fetched(self._accepted(reply, job), job.token)

    async def _put_off(self, job: Activation, ending: Delayed, fetch_next: bool) -> Fetched:
        match ending:
            case RateLimited():
                await self.limit(ending.delay_ms)
                return Fetched(limited_ms=await self._to_wait(job))
            case Requeued():
                await self._to_wait(job)
                return Fetched()
            case AwaitingChildren():
                return await self._await_children(job, ending.delay_ms, fetch_next)
        return await self._delay(job, ending.delay_ms, True, {}, fetch_next)

    async def _retry(self, job: Activation, fields: dict[str, str]) -> Fetched:
        keys = [
            *self._named("active", "wait", "paused"),
            self.toKey(job.id),
            *self._named("meta", "events", "delayed", "prioritized", "pc", "marker", "stalled"),
        ]
        push = "RPUSH" if job.opts.get("lifo") else "LPUSH"
        args = [self.keys[""], now_ms(), push, job.id, job.token, _packed(fields)]
        self._accepted(await self.commands["retryJob"](keys=keys, args=args), job)
        return Fetched()

    async def _delay(
        self, job: Activation, delay_ms: int, skip_attempt: bool, fields: dict[str, str], fetch_next: bool
    ) -> Fetched:
        keys = [
            *self._named("marker", "active", "prioritized", "delayed"),
            self.toKey(job.id),
            *self._named("events", "meta", "stalled", "wait", "limiter", "pc"),
        ]
        args: list[Any] = [self.keys[""], str(now_ms()), job.id, job.token, delay_ms]
        args += ["1" if skip_attempt else "0", _packed(fields) if fields else "", "1" if fetch_next else "0"]
        if fetch_next:
            args.append(self._fetch_opts(job.token))
        reply = await self.commands["moveToDelayed"](keys=keys, args=args)
        return self._fetched(self._accepted(reply, job), job.token)

    async def _to_wait(self, job: Activation) -> int:
        """The front of `wait`. Returns what is left of the queue's rate limit, ms."""
        keys = self._named("active", "wait", "stalled", "paused", "meta", "limiter", "prioritized", "marker", "events")
        reply = await self._own.move_to_wait(keys, [job.id, job.token, self.toKey(job.id)])
        return int(self._accepted(reply, job))

    async def _await_children(self, job: Activation, delay_ms: int, fetch_next: bool) -> Fetched:
        row = self.toKey(job.id)
        keys = [*self._named("active", "waiting-children"), row, f"{row}:dependencies", f"{row}:unsuccessful"]
        keys += self._named("stalled", "events")
        args = [job.token, "", now_ms(), job.id, self.keys[""]]
        reply = self._accepted(await self.commands["moveToWaitingChildren"](keys=keys, args=args), job)
        if reply == 1 and delay_ms:
            return await self._delay(job, delay_ms, True, {}, fetch_next)
        if reply == 1:  # none is pending: as if the last one had just ended
            await self._to_wait(job)
            return Fetched()
        # A place in `active` became free and no marker says so; Node's worker fetches here too.
        return await self.fetch(job.token) if fetch_next else Fetched()

    async def limit(self, ms: int) -> int:
        """Start no job of this queue for so long, BullMQ's `rateLimit`. Returns how long the limit holds, ms."""
        return int(await self._own.limit(self._named("limiter"), [max(1, ms)]))

    async def limit_left_ms(self) -> int:
        """What is left of a limit that was set by `limit` or Node's `rateLimit`. moveToActive looks at it only where
        the queue or the worker has a rate of its own."""
        return int(await self._own.limit_left(self._named("limiter", "meta"), [MAX_SAFE]))

    async def wake(self) -> None:
        """Tell other workers that this one leaves a place in a queue whose own concurrency is limited."""
        await self._own.wake(self._named("meta", "marker"), [])

    async def unspend_start(self, job: Activation) -> None:
        """Take back the start that a job did not make which is about to be handed back; the second time nothing."""
        await self._own.unspend_start([self.toKey(job.id)], [job.fence, job.token])

    def _named(self, *names: str) -> list[str]:
        return [self.keys[name] for name in names]

    def _fetch(self, token: str) -> dict[str, Any]:
        limiter = dict(self._settings.limiter) if self._settings.limiter else None
        return {
            "token": token,
            "lockDuration": self._settings.lock_ms,
            "limiter": limiter,
            "name": self._settings.name,
        }

    def _fetch_opts(self, token: str) -> bytes:
        packed: bytes = msgpack.packb(self._fetch(token))
        return packed

    def _failure_fields(self, job: Activation, ending: Failed | Retry) -> dict[str, str]:
        limit = job.opts.get("stackTraceLimit")
        keep = limit if isinstance(limit, int) and 0 <= limit <= MAX_STACKS else MAX_STACKS
        stacks = [*job.stack, result.clean(ending.stack, MAX_STACK)] if ending.stack else list(job.stack)
        return {
            "failedReason": result.clean(ending.reason, MAX_REASON),
            "stacktrace": json.dumps(stacks[-keep:] if keep else []),
        }

    @staticmethod
    def _accepted(reply: Any, job: Activation) -> Any:
        if isinstance(reply, int) and reply < 0:
            raise RefusedError(reply, job.id)
        return reply

    def _fetched(self, reply: Any, token: str) -> Fetched:
        # [hash or 0, job id or 0, rate limit's ms or 0, next due or 0]; a bare 0 is "nothing to say" (upstream's
        # raw2NextJobData stumbles over it).
        if not isinstance(reply, list | tuple):
            return Fetched()
        row, job_id, *rest = reply
        if row:
            return Fetched(activation=self.activation(str(job_id), row, token))
        limited, due = (int(float(value or 0)) for value in (*rest, 0, 0)[:2])
        return Fetched(limited_ms=max(0, limited), due_at=max(0, due))


def _packed(fields: Mapping[str, str]) -> bytes:
    packed: bytes = msgpack.packb([item for pair in fields.items() for item in pair])
    return packed


def _attempts(job: Activation) -> int:
    attempts = job.opts.get("attempts")
    return whole(attempts) if is_number(attempts) and attempts > 0 else 1
