"""The shape of fleet.yaml. Frozen; unknown keys are refused. Durations are seconds, sizes are bytes.

`fleet.yaml` shows every section in use; `fleet config explain` says where each value comes from.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from config.accept_section import AcceptConfig, ModuleName
from config.api_section import ApiConfig
from config.pause_section import OnGlobalPause
from config.pool_section import PoolConfig
from config.quantities import unexpected
from config.redis_section import RedisConfig
from config.scale_section import DepthScale, FixedScale, SloConfig, WorkScale
from config.schedule_section import ScheduleConfig
from config.section import Section
from config.task_section import TaskConfig
from config.tier_section import TiersConfig
from config.units import WHOLE, Bytes, Keep, Rate, Seconds

#: The most that `max_depth` may be: what walks data by recursion, as pydantic does, gives up at 255 levels.
MAX_DEPTH = 250


def _lock(value: float) -> float:
    if value < 1:
        raise unexpected("a duration of at least 1s, since the lock is renewed at half of it", value)
    return value


def _stall_check(value: float) -> float:
    if value < 0.1:
        raise unexpected("a duration of at least 100ms, since each look asks Redis", value)
    return value


def _accepts(value: dict[str, AcceptConfig]) -> dict[str, AcceptConfig]:
    if not value:
        raise unexpected("one or more task types", value)
    return value


_Accepts = Annotated[dict[str, AcceptConfig], AfterValidator(_accepts), Field(json_schema_extra={"minProperties": 1})]


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


class KeepConfig(Section):
    """How long finished jobs stay in Redis where the job's own options don't say. That is the dedupe window."""

    completed: Keep = Keep(age_s=86_400, count=5000)
    """`24h/5000`: for a day, 5000 at most; `forever`; `none`. Defaults to 24h/5000."""
    failed: Keep = Keep(age_s=86_400, count=5000)
    """The same for failed jobs. Defaults to 24h/5000."""


class UnknownConfig(Section):
    """A job that a newer worker may be able to read, though this one can't: its `data.type` is not known or not served
    here, or its `data.schemaVersion` is above what the model knows. It is put off, and fails in the end. Invalid data
    of a known type fail at once."""

    delay: Seconds = 30.0
    """How long it is put off each time. Defaults to 30s."""
    give_up: Seconds = 3600.0
    """The job's age, counted from when it was due, at which it fails instead. Defaults to 1h."""


class LimitsConfig(Section):
    """How much may wait before producers are asked to come back later. Workers work on, whatever waits."""

    depth: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Jobs that may wait. It is looked once a second, so a little more gets in meanwhile. Defaults to no limit."""
    age: Seconds | None = None
    """How long the oldest waiting job may have been due. Defaults to no limit."""


class QueueConfig(Section):
    """Who serves a queue, and how fast."""

    pool: str
    """The pool whose processes serve it."""
    module: ModuleName | None = None
    """The importable Python module whose MODULE serves it, for queues of your own: `acme.invoices`. Defaults to the one
    that Fleet brings for a queue of this name."""
    accepts: _Accepts | None = None
    """The task types that it carries, each with its own settings: `{llm-completion: {}, swarm-execution: {}}`. A job is
    run by what its `data.type` says. Defaults to the type that the queue is named after."""
    concurrency: Annotated[int, Field(ge=1, le=10_000), WHOLE]
    """Slots: jobs at once in each process."""
    lock: Annotated[Seconds, AfterValidator(_lock)] = 60.0
    """How long a job stays ours without renewal; renewed at half of it. Defaults to 60s."""
    stalls: Annotated[int, Field(ge=0, le=1000), WHOLE] = 1
    """Times a job may stall (its worker died) before it fails. Defaults to 1."""
    deaths: Annotated[int, Field(ge=1, le=1000), WHOLE] = 3
    """Times that its process of the pool may die while the job runs before it fails as poison, its attempts unspent,
    since others ran there too. They are not counted as stalls. A child process (`isolation: process`) that dies takes
    its own job alone with it, and that is a failed attempt: `attempts` bounds them. Defaults to 3."""
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
    max_depth: Annotated[int, Field(ge=1, le=MAX_DEPTH), WHOLE] = 100
    """Levels of objects and lists in job data, the data themselves being the first; a deeper job fails at once. Node's
    tasks have about 15, and what walks them by recursion gives up from 250 on. Defaults to 100."""
    max_chars: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Characters of all strings in job data together, names of fields included; a job with more fails at once. Defaults
    to no limit but `max_data`."""
    keep: KeepConfig = KeepConfig()
    """How long finished jobs stay where the job doesn't say."""
    limits: LimitsConfig = LimitsConfig()
    """How much may wait before it is full."""
    on_unknown: UnknownConfig = UnknownConfig()
    """What becomes of a job of a type, or of a version of its shape, that is not known here."""
    on_global_pause: OnGlobalPause | None = None
    """What follows when somebody has paused it for everyone. Defaults to what the fleet's `on_global_pause` says."""
    slo: SloConfig = SloConfig()
    """What the queue promises. Nothing acts on it yet."""
    scale: Annotated[FixedScale | DepthScale | WorkScale, Field(discriminator="policy")] = FixedScale()
    """How the number of slots follows the load. Nothing acts on it yet: it is as with fixed, which is the default."""
    task: TaskConfig
    """How one job is run."""


class FleetConfig(Section):
    """All of fleet.yaml."""

    redis: RedisConfig = RedisConfig()
    """The server that holds the queues."""
    http: HttpConfig = HttpConfig()
    """Health and metrics."""
    api: ApiConfig = ApiConfig()
    """Looking at queues, and acting on them, over HTTP."""
    log: LogConfig = LogConfig()
    """What is written to standard error."""
    tracing: TracingConfig = TracingConfig()
    """Traces of what becomes of a job."""
    tiers: TiersConfig = TiersConfig()
    """Whose a task is, where ladders and priorities ask for it."""
    pools: Annotated[dict[str, PoolConfig], Field(json_schema_extra={"minProperties": 1})]
    """The kinds of process, by name."""
    queues: Annotated[dict[str, QueueConfig], Field(json_schema_extra={"minProperties": 1})]
    """The queues that are served, by the name that Node uses."""
    routes: dict[str, str] = Field(default_factory=dict)
    """To which queue Fleet adds tasks of a type that several carry: `{swarm-execution: llm-completion}`. Defaults to
    the one that is named like the type, else to the first that carries it."""
    schedules: dict[str, ScheduleConfig] | None = None
    """Tasks that are added again and again, by name; their queues' job schedulers follow at start and on SIGHUP. `{}`:
    there are to be none, and those that were declared here before are removed. Defaults to none: no schedule is
    touched."""
    on_global_pause: OnGlobalPause = "report"
    """What follows when somebody has paused a queue for everyone, as a shutdown of the Node stack does. report: it is
    told in the log, in health and in metrics. {resume_after: 60s}: it is resumed after that, unless it was paused
    through Fleet. Defaults to report."""
