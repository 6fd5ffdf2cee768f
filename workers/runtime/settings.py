"""From the configuration to the settings of the parts: names and units, nothing else. Pure."""

from __future__ import annotations

from config.accept_section import task_of, types_of
from config.redis_section import RedisConfig
from config.rung_section import TimeoutConfig
from config.schema import FleetConfig, QueueConfig
from config.task_section import RetryConfig, TaskConfig
from workers.broker.activation import Bounds
from workers.broker.endpoint import Endpoint
from workers.broker.reconnect import Reconnect
from workers.broker.settings import WorkerSettings
from workers.broker.tls import Tls
from workers.queue_service.routes import data_limits
from workers.runtime.executor import Limits
from workers.runtime.ladder import Ladder, Rung
from workers.runtime.retry import RetryPolicy

#: The time between two looks for jobs whose worker died where `stall_check` doesn't say, seconds: BullMQ's. Not longer
#: than half of `lock` either, since a short lock asks for such jobs to be found soon.
STALL_CHECK_S = 30.0


def endpoint(config: FleetConfig) -> Endpoint:
    """Where Redis is.

    Raises:
        EndpointError: `redis` can't be used as it is; names the field.
    """
    redis = config.redis
    return Endpoint(
        url=redis.url,
        username=redis.username,
        password=redis.password,
        prefix=redis.prefix,
        connect_timeout_s=redis.connect_timeout,
        command_timeout_s=redis.command_timeout,
        keepalive_s=redis.keepalive,
        max_connections=redis.max_connections,
        reconnect=reconnect(redis),
        tls=Tls(**redis.tls.model_dump()),
        sentinel_username=redis.sentinel.username,
        sentinel_password=redis.sentinel.password,
    )


def reconnect(redis: RedisConfig) -> Reconnect:
    """The waits between tries while Redis is away."""
    return Reconnect(redis.reconnect.first, redis.reconnect.max)


def retry_policy(retry: RetryConfig) -> RetryPolicy:
    """What follows a failure where the job does not say."""
    return RetryPolicy(
        attempts=retry.attempts,
        delay_s=retry.backoff.delay_s,
        factor=retry.backoff.factor,
        max_s=retry.backoff.max_s,
        jitter=retry.jitter,
        over_job=frozenset(retry.over_job),
        max_attempts=retry.caps.attempts,
        max_wait_s=retry.caps.wait,
    )


def ladder(task: TaskConfig) -> Ladder:
    """What is done to a run that takes long."""
    match task.timeout:
        case None:
            rungs, job_may_set = task.ladder or (), task.job_may_set
        case TimeoutConfig() as times:
            rungs, job_may_set = times.rungs, times.job_may_set
        case seconds:
            return Ladder.timeout(seconds)
    return Ladder(
        tuple(
            Rung(do=rung.do, at_s=rung.at, tiers=frozenset(rung.whose), tries=rung.tries, wait_s=rung.wait_s)
            for rung in rungs
        ),
        job_may_set,
    )


def longest_s(config: FleetConfig, queue: str) -> float:
    """How long a job of the queue may run, whatever its type, its last rung included."""
    return max(ladder(task_of(config, queue, kind)).end_s for kind in types_of(queue, config.queues[queue]))


def limits(entry: QueueConfig) -> Limits:
    """What the queue accepts."""
    return Limits(
        max_data_bytes=entry.max_data,
        data=data_limits(entry),
        unknown_delay_s=entry.on_unknown.delay,
        unknown_give_up_s=entry.on_unknown.give_up,
    )


def worker(config: FleetConfig, entry: QueueConfig, name: str) -> WorkerSettings:
    """The queue's worker."""
    rate = entry.rate
    return WorkerSettings(
        name=name,
        slots=entry.concurrency,
        bounds=Bounds(data_bytes=entry.max_data, depth=entry.max_depth),
        lock_ms=round(entry.lock * 1000),
        stalled_interval_ms=round(1000 * (entry.stall_check or min(STALL_CHECK_S, entry.lock / 2))),
        max_stalls=entry.stalls,
        max_starts=entry.starts,
        limiter={"max": rate.count, "duration": round(rate.per_s * 1000)} if rate else None,
        keep_completed=entry.keep.completed.to_bullmq(),
        keep_failed=entry.keep.failed.to_bullmq(),
        links_only=config.tracing.parent == "link",
        reconnect=reconnect(config.redis),
    )
