"""The shape of fleet.yaml. Frozen; unknown keys are refused. Durations are seconds, sizes are bytes.

`fleet.yaml` shows every section in use; `fleet config explain` says where each value comes from.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from config.quantities import unexpected
from config.redis_section import RedisConfig
from config.section import Section
from config.units import WHOLE, Backoff, Bytes, Fraction, Keep, Rate, Seconds


def _lock(value: float) -> float:
    if value < 1:
        raise unexpected("a duration of at least 1s, since the lock is renewed at half of it", value)
    return value


def _stall_check(value: float) -> float:
    if value < 0.1:
        raise unexpected("a duration of at least 100ms, since each look asks Redis", value)
    return value


class HttpConfig(Section):
    """The server of /livez, /readyz, /startupz and /metrics."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address it listens on; 0.0.0.0 in a container. Defaults to 127.0.0.1, this machine alone."""
    port: Annotated[int, Field(ge=0, le=65535), WHOLE] = 9464
    """The TCP port it listens on; 0 takes any free one and logs it. Defaults to 9464."""


class LogConfig(Section):
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe entry that is written. Defaults to info."""
    format: Literal["auto", "json", "pretty"] = "auto"
    """json: one object a line. pretty: for people. auto: pretty on a terminal, else json. Defaults to auto."""


class TracingConfig(Section):
    """Spans of job processing. Exporter, endpoint, sampler and resource come from the OTEL_… variables."""

    enabled: bool = True
    """false: no span is made, whatever the environment says. Defaults to true."""
    parent: Literal["producer", "link"] = "producer"
    """producer: the process span is a child of the producer's span, as BullMQ for Node does it, and links to it.
    link: a new trace that only links to it, for hour-long jobs. Defaults to producer."""


class PoolConfig(Section):
    """Queues served by one kind of process; in Kubernetes one Deployment."""

    processes: Annotated[int, Field(ge=1, le=256), WHOLE] = 1
    """Processes of this pool that the supervisor keeps running. Defaults to 1."""
    grace: Seconds = 30.0
    """On SIGTERM, how many seconds running jobs may go on before they are handed back. Defaults to 30s."""


class KeepConfig(Section):
    """How long finished jobs stay in Redis where the job's own options don't say. That is the dedupe window."""

    completed: Keep = Keep(age_s=86_400, count=5000)
    """`24h/5000`: for a day, 5000 at most; `forever`; `none`. Defaults to 24h/5000."""
    failed: Keep = Keep(age_s=86_400, count=5000)
    """The same for failed jobs. Defaults to 24h/5000."""


class UnknownConfig(Section):
    """A job whose `data.type` this worker does not know may belong to a newer worker."""

    delay: Seconds = 30.0
    """How long to put it off each time. Defaults to 30s."""
    give_up: Seconds = 3600.0
    """The job's age at which it fails instead. Defaults to 1h."""


class SloConfig(Section):
    """What this queue promises; alerts and dashboards are drawn from it."""

    p50: Seconds | None = None
    """Time from being due to being done that half of the jobs keep. Defaults to no promise."""
    p95: Seconds | None = None
    """The same for 95 of 100 jobs. Defaults to no promise."""
    p99: Seconds | None = None
    """The same for 99 of 100 jobs. Defaults to no promise."""
    errors: Fraction | None = None
    """Share of jobs that may fail. Defaults to no promise."""
    unit: Literal["job", "step"] = "job"
    """What `throughput` and `peak` count: whole jobs, or the steps of a routine. Defaults to job."""
    throughput: Rate | None = None
    """Target: what the queue must be able to do. Defaults to no promise."""
    peak: Rate | None = None
    """The highest rate seen in production. Defaults to unknown."""
    backlog: Annotated[int, Field(ge=0), WHOLE] | None = None
    """Waiting jobs above which someone should look. Defaults to no bound."""


class FixedScale(Section):
    """As many slots as the processes have."""

    model_config = ConfigDict(json_schema_extra={"required": ["policy"]})

    policy: Literal["fixed"] = "fixed"
    """fixed."""
    limited_by: Literal["provider", "resources", "validation"] | None = None
    """Why more slots would not help; informative. Defaults to nothing known."""


class DepthScale(Section):
    """More slots when many jobs wait, fewer when few do."""

    policy: Literal["queue-depth"]
    """queue-depth."""
    min: Annotated[int, Field(ge=0), WHOLE]
    """The fewest slots over the whole fleet."""
    max: Annotated[int, Field(ge=1), WHOLE]
    """The most slots over the whole fleet."""
    up: Annotated[int, Field(ge=1), WHOLE]
    """Waiting jobs from which a slot is added."""
    down: Annotated[int, Field(ge=0), WHOLE]
    """Waiting jobs down to which a slot is taken away."""
    cooldown: Seconds = 60.0
    """The least time between two changes. Defaults to 60s."""

    @model_validator(mode="after")
    def _ordered(self) -> DepthScale:
        if self.min > self.max:
            raise ValueError("min must not exceed max")
        if self.down >= self.up:
            raise ValueError("down must be below up")
        return self


class WorkScale(Section):
    """As many slots as finish the known work within `drain_in`."""

    policy: Literal["work-seconds"]
    """work-seconds."""
    min: Annotated[int, Field(ge=0), WHOLE]
    """The fewest slots over the whole fleet."""
    max: Annotated[int, Field(ge=1), WHOLE]
    """The most slots over the whole fleet."""
    drain_in: Seconds
    """The time in which the waiting jobs should be done."""
    cooldown: Seconds = 60.0
    """The least time between two changes. Defaults to 60s."""

    @model_validator(mode="after")
    def _ordered(self) -> WorkScale:
        if self.min > self.max:
            raise ValueError("min must not exceed max")
        return self


class RetryConfig(Section):
    """What happens after a failure where the job's own options don't say."""

    attempts: Annotated[int, Field(ge=1, le=1000), WHOLE] = 1
    """Attempts in all, the first included. Defaults to 1."""
    backoff: Backoff = Backoff(delay_s=0.0, factor=1.0, max_s=None)
    """`10s`: always that; `2s x2`: doubling; `2s x2 max 5m`: up to that. Defaults to none."""
    jitter: Fraction = 0.0
    """Share of each wait that is drawn at random, so that retries spread out. Defaults to 0%."""
    over_job: tuple[Literal["attempts", "backoff"], ...] = ()
    """Which of these win over the job's own options. Defaults to none of them."""


def _never(value: Any) -> Any:
    return {"attempts": 1, "over_job": ["attempts"]} if value == "never" else value


Retry = Annotated[RetryConfig, BeforeValidator(_never, json_schema_input_type=RetryConfig | Literal["never"])]


class TaskConfig(Section):
    """Settings of the task, as opposed to the queue it travels in."""

    timeout: Seconds
    """How long one attempt may run before it is cancelled and counts as failed."""
    retry: Retry = RetryConfig()
    """A mapping, or `never`: one attempt, whatever the job says. Defaults to one attempt, unless the job says
    more."""
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Settings of the queue's own module, which checks them. Defaults to none."""


class QueueConfig(Section):
    """Who serves a queue, and how fast."""

    pool: str
    """The pool whose processes serve it."""
    concurrency: Annotated[int, Field(ge=1, le=10_000), WHOLE]
    """Slots: jobs at once in each process."""
    lock: Annotated[Seconds, AfterValidator(_lock)] = 60.0
    """How long a job stays ours without renewal; renewed at half of it. Defaults to 60s."""
    stalls: Annotated[int, Field(ge=0, le=1000), WHOLE] = 1
    """Times a job may stall (its worker died) before it fails. Defaults to 1."""
    stall_check: Annotated[Seconds, AfterValidator(_stall_check)] | None = None
    """Seconds between two looks for jobs whose worker died, over all workers of the queue; one starts again after
    `lock` and up to two looks. Defaults to 30s, or to half of `lock` where that is shorter."""
    starts: Annotated[int, Field(ge=1, le=100_000), WHOLE] | None = None
    """Times a job may be started, put-offs and stalls included, before it fails: a bound for jobs that put themselves
    off for ever. Defaults to no limit."""
    rate: Rate | None = None
    """At most so many jobs started over the whole fleet, `100/1m`. Defaults to no limit."""
    max_data: Bytes = 4_194_304
    """The largest job data accepted; a larger job fails at once. Defaults to 4MB."""
    keep: KeepConfig = KeepConfig()
    """How long finished jobs stay where the job doesn't say."""
    on_unknown: UnknownConfig = UnknownConfig()
    """What becomes of a job of a type that is not known here."""
    slo: SloConfig = SloConfig()
    """What the queue promises."""
    scale: Annotated[FixedScale | DepthScale | WorkScale, Field(discriminator="policy")] = FixedScale()
    """How the number of slots follows the load. Defaults to fixed."""
    task: TaskConfig
    """How one job is run."""


class FleetConfig(Section):
    """All of fleet.yaml."""

    redis: RedisConfig = RedisConfig()
    """The server that holds the queues."""
    http: HttpConfig = HttpConfig()
    """Health and metrics."""
    log: LogConfig = LogConfig()
    """What is written to standard error."""
    tracing: TracingConfig = TracingConfig()
    """Traces of what becomes of a job."""
    pools: Annotated[dict[str, PoolConfig], Field(json_schema_extra={"minProperties": 1})]
    """The kinds of process, by name."""
    queues: Annotated[dict[str, QueueConfig], Field(json_schema_extra={"minProperties": 1})]
    """The queues that are served, by the name that Node uses."""
