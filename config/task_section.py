"""The `task` of a queue in fleet.yaml: how one job is run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from config.rung_section import RungConfig, TimeoutConfig, issues, refuse
from config.section import Section
from config.units import WHOLE, Backoff, Bytes, Fraction, Seconds


class CapsConfig(Section):
    """The most that a job's own options may ask for; what they ask beyond it is cut, not refused. The queue's own
    settings are not bounded by it, nor is a wait that the failure itself asks for."""

    attempts: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] | None = None
    """Attempts in all, the first included. Defaults to no limit."""
    wait: Seconds = 31_536_000.0
    """The longest wait between two attempts. Defaults to 365d."""


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
    caps: CapsConfig = CapsConfig()
    """How much of these the job's own options may ask for."""


def _never(value: Any) -> Any:
    return {"attempts": 1, "over_job": ["attempts"]} if value == "never" else value


Retry = Annotated[RetryConfig, BeforeValidator(_never, json_schema_input_type=RetryConfig | Literal["never"])]


class ChildrenConfig(Section):
    """Child processes that run jobs, each one at a time."""

    max_jobs: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] = 1000
    """Jobs after which a child is replaced. Defaults to 1000."""
    memory: Bytes = 536_870_912
    """Resident memory from which a child is replaced after its job. Defaults to 512MB."""
    memory_limit: Bytes | None = None
    """Address space that a child may use in all (RLIMIT_AS): beyond it its job fails with MemoryError. Defaults to no
    limit."""


def _form(value: Any) -> str:
    return "rungs" if isinstance(value, dict | TimeoutConfig) else "duration"


Timeout = Annotated[Annotated[Seconds, Tag("duration")] | Annotated[TimeoutConfig, Tag("rungs")], Discriminator(_form)]

_LADDER: dict[str, Any] = {"required": ["ladder"], "properties": {"ladder": {"type": "array"}}}
#: Either `timeout` or `ladder`, for the JSON Schema.
_EITHER: dict[str, Any] = {
    "if": _LADDER,
    "then": {"properties": {"timeout": {"type": "null"}}},
    "else": {"required": ["timeout"]},
}


class TaskConfig(Section):
    """Settings of the task, as opposed to the queue it travels in."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(_EITHER, required=[])  # the one or the other, see `_EITHER`
    )

    timeout: Timeout | None
    """How long one attempt may run before it is cancelled and counts as failed; or a time for each rung, `{stop: 1h,
    kill: 61m, job_may_set: 2h}`. Either this or `ladder` is required."""
    ladder: tuple[RungConfig, ...] | None = None
    """The rungs of a run that takes long, one after the other. One that is declined or asked in vain falls to the next;
    the last must be cancel or kill. Defaults to none: `timeout` says it."""
    job_may_set: Seconds | None = None
    """Beside `ladder`: the longest time that a job may set for the first of stop, cancel and kill by a `timeout` in its
    task, in ms; what comes before is moved in proportion, what comes after keeps its distance. BullMQ's `timeout` in a
    job's options, which Node writes into every run, can lengthen it so, but not shorten it. Defaults to none: what jobs
    say is ignored."""
    retry: Retry = RetryConfig()
    """A mapping, or `never`: one attempt, whatever the job says. Defaults to one attempt, unless the job says
    more."""
    isolation: Literal["async", "thread", "process"] | None = None
    """Where it runs: async: on the event loop, beside all others; thread: in a thread; process: in a child process,
    which may be killed. Defaults to what its module chose."""
    children: ChildrenConfig = ChildrenConfig()
    """The child processes of `isolation: process`."""
    priority: Literal["generic", "node", "none"] = "node"
    """By which rule jobs that Fleet itself adds for this task get BullMQ's priority; the lowest comes first, jobs
    without one before all others. node: as Node's producers do it, for swarms, runs and completions, and none for all
    others. generic: by tier, type, urgency and how many wait. none: no priority. Jobs of Node's producers keep theirs.
    Defaults to node."""
    on_failed: Literal["notify", "none"] = "none"
    """What follows when it has failed for good. notify: the module's note, a job for `notification-create`. Defaults to
    none."""
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Settings of the queue's own module, which checks them. Defaults to none."""

    @model_validator(mode="before")
    @classmethod
    def _ladder_for_timeout(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("ladder") is not None:
            return {"timeout": None, **value}
        return value

    @model_validator(mode="after")
    def _either(self) -> TaskConfig:
        if self.timeout is None and self.ladder is None:
            missing = InitErrorDetails(type="missing", loc=("timeout",), input=self)
            raise ValidationError.from_exception_data("TaskConfig", [missing])
        found: list[tuple[tuple[str | int, ...], str]] = []
        if self.timeout is not None and self.ladder is not None:
            found.append((("ladder",), "expected either timeout or ladder, found both; null takes one of them back"))
        elif self.timeout is not None and self.job_may_set is not None:
            found.append((("job_may_set",), "expected it inside timeout: {cancel: 30s, job_may_set: 5m}"))
        elif self.ladder is not None:
            found += [(issue.path, issue.message) for issue in issues(self.ladder, self.job_may_set)]
        refuse("TaskConfig", self, found)
        return self
