"""BullMQ's Redis backend with what a worker needs beyond it: typed replies, fetch-next on every ending, the worker's
name (`processedBy`), hand-back, and keep rules that don't mutate the job's options.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgpack
from bullmq.backends import RedisBackend
from bullmq.error_code import ErrorCode
from bullmq.redis_connection import RedisConnection
from redis.asyncio import Redis
from redis.exceptions import DataError, RedisError, ResponseError

from workers.broker import result
from workers.broker.activation import Activation, parse
from workers.broker.client import FleetRedis
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.keep import keep_jobs
from workers.broker.numbers import is_number, whole
from workers.broker.scripts import Scripts

#: Per-minute data points of completed and failed counts that BullMQ keeps: two weeks, Node's MetricsTime.TWO_WEEKS.
METRICS_POINTS = 20_160
#: Characters of `failedReason` and of one stack trace that are stored.
MAX_REASON, MAX_STACK = 8_192, 16_384
#: Stack traces stored with a job where its own `stackTraceLimit` does not say.
MAX_STACKS = 50

_LOST_CODES = {
    ErrorCode.JobNotExist.value: "the job no longer exists",
    ErrorCode.JobLockNotExist.value: "its lock expired",
    ErrorCode.JobNotInState.value: "it is no longer active",
    ErrorCode.JobLockMismatch.value: "another worker holds its lock",
}

#: Answers of a server that can't write now; inside a script they come with the script's name, as its own errors do.
_PASSING = ("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN")
#: What other answers say when the same request would get them again: a broken script, a wrong key, a value too large.
_LASTING = ("user_script", "WRONGTYPE", "Protocol error")


class RefusedError(Exception):
    """A script ran and refused the ending; `code` is the Lua script's."""

    def __init__(self, code: int, job_id: str) -> None:
        super().__init__(f"job {job_id}: the script answered {code}")
        self.code = code

    @property
    def lost(self) -> str | None:
        """Why the job is no longer ours, or None if it still is."""
        return _LOST_CODES.get(self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What one queue's worker needs to know. Times in milliseconds where BullMQ wants them so."""

    name: str
    """The worker's name: shown by Node's getWorkers and stored as `processedBy`."""
    slots: int = 1
    lock_ms: int = 60_000
    stalled_interval_ms: int = 30_000
    max_stalls: int = 1
    drain_delay_s: float = 5.0
    """How long an idle worker blocks for the next job's marker before it looks by itself."""
    limiter: Mapping[str, int] | None = None
    """{"max": jobs, "duration": ms}."""
    keep_completed: Any = False
    """BullMQ's removeOnComplete for jobs that have none of their own."""
    keep_failed: Any = False
    links_only: bool = False
    """The process span starts a trace of its own and only links to the producer's."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a fetch."""

    activation: Activation | None = None
    limited_ms: int = 0
    """The rate limit lets no job through for so long."""
    due_at: int = 0
    """When the next delayed job is due, ms since the epoch; 0: none is known."""


def may_pass(error: Exception) -> bool:
    """Whether sending again can help: a lost connection can come back, a server that is full or read-only recover.

    A Lua script that broke on what it found breaks again, and so does our own code on what it could not send.
    """
    if type(error) is ResponseError:  # a subclass stands for the server's state: full, read-only, no permission
        text = str(error)
        return text.startswith(_PASSING) or not any(sign in text for sign in _LASTING)
    return isinstance(error, RedisError | OSError) and not isinstance(error, DataError)


def now_ms() -> int:
    """Milliseconds since the epoch, the clock of BullMQ's timestamps."""
    return round(time.time() * 1000)


class FleetBackend(RedisBackend):  # type: ignore[misc]
    """One queue's commands. Raises redis errors as they are and RefusedError where a script says no."""

    def __init__(self, queue: str, client: Redis, blocking: Redis, prefix: str, settings: WorkerSettings) -> None:
        super().__init__(queue, RedisConnection(client), RedisConnection(blocking), prefix)
        self._settings = settings
        self._own = Scripts(client)
        self._unblocking: set[asyncio.Future[None]] = set()

    @property
    def commands(self) -> dict[str, Any]:
        """The registered scripts, by name."""
        commands: dict[str, Any] = self.connection.commands
        return commands

    async def bury(self, error: BaseException) -> None:
        """See FleetRedis.bury."""
        if isinstance(self.conn, FleetRedis):
            await self.conn.bury(error)

    async def fetch(self, token: str) -> Fetched:
        """moveToActive: take the next job under a lock with this token."""
        keys = self._named(
            "wait",
            "active",
            "prioritized",
            "events",
            "stalled",
            "limiter",
            "delayed",
            "paused",
            "meta",
            "pc",
            "marker",
        )
        args = [self.keys[""], now_ms(), self._fetch_opts(token)]
        return self._fetched(await self.commands["moveToActive"](keys=keys, args=args), token)

    async def wait_for_marker(self, block_s: float, *, precisely: bool = False) -> int | None:
        """Block on BullMQ's marker. Returns when a job is or will be there: 0 for now, else ms since the epoch;
        None when the time is over.

        A server ends a block up to 100 ms late, because its timers turn ten times a second. With `precisely` we end
        it ourselves, by CLIENT UNBLOCK; where that is not permitted, the server's own time holds.
        """
        alarm: asyncio.TimerHandle | None = None
        if precisely:
            client_id = await self.bclient.client_id()
            alarm = asyncio.get_running_loop().call_later(block_s, self._unblock, client_id)
        try:
            reply = await self.bclient.bzpopmin(self.keys["marker"], block_s)
        finally:
            if alarm is not None:
                alarm.cancel()
        return int(float(reply[2])) if reply else None

    def _unblock(self, client_id: int) -> None:
        async def unblock() -> None:
            with suppress(RedisError, OSError):
                await self.conn.client_unblock(client_id)

        task = asyncio.ensure_future(unblock())
        self._unblocking.add(task)
        task.add_done_callback(self._unblocking.discard)

    async def finish(self, job: Activation, ending: Ending, *, fetch_next: bool) -> Fetched:
        """Write how the execution ended, and take the next job with the same round trip where the script can."""
        match ending:
            case Completed():
                return await self._finished(
                    job, "completed", "returnvalue", result.dump(ending.result)[0], {}, fetch_next
                )
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
                return await self._delay(job, ending.delay_ms, True, {}, fetch_next)
            case HandedBack():
                return await self._hand_back(job)
            case Lost():
                return Fetched()

    async def _finished(
        self, job: Activation, target: str, prop: str, value: str, fields: dict[str, str], fetch_next: bool
    ) -> Fetched:
        keys = self._named(
            "wait",
            "active",
            "prioritized",
            "events",
            "stalled",
            "limiter",
            "delayed",
            "paused",
            "meta",
            "pc",
            target,
        )
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

    async def _hand_back(self, job: Activation) -> Fetched:
        keys = self._named("active", "wait", "stalled", "paused", "meta", "limiter", "prioritized", "marker", "events")
        self._accepted(await self._own.move_to_wait(keys, [job.id, job.token, self.toKey(job.id)]), job)
        await self.unspend_start(job)
        return Fetched()

    async def unspend_start(self, job: Activation) -> None:
        """Take back the start that a handed-back job did not make; does nothing the second time."""
        await self._own.unspend_start([self.toKey(job.id)], [job.fence])

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
            return Fetched(activation=parse(self.name, str(job_id), row, token))
        limited, due = (int(float(value or 0)) for value in (*rest, 0, 0)[:2])
        return Fetched(limited_ms=max(0, limited), due_at=max(0, due))


def _packed(fields: Mapping[str, str]) -> bytes:
    packed: bytes = msgpack.packb([item for pair in fields.items() for item in pair])
    return packed


def _attempts(job: Activation) -> int:
    attempts = job.opts.get("attempts")
    return whole(attempts) if is_number(attempts) and attempts > 0 else 1
