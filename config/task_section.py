"""The `task` of a queue in fleet.yaml: how one job is run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from config.section import Section
from config.units import WHOLE, Backoff, Bytes, Fraction, Seconds


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


class ChildrenConfig(Section):
    """Child processes that run jobs, each one at a time."""

    max_jobs: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] = 1000
    """Jobs after which a child is replaced. Defaults to 1000."""
    memory: Bytes = 536_870_912
    """Resident memory from which a child is replaced after its job. Defaults to 512MB."""
    memory_limit: Bytes | None = None
    """Address space that a child may use in all (RLIMIT_AS): beyond it its job fails with MemoryError. Defaults to no
    limit."""


class TaskConfig(Section):
    """Settings of the task, as opposed to the queue it travels in."""

    timeout: Seconds
    """How long one attempt may run before it is cancelled and counts as failed."""
    retry: Retry = RetryConfig()
    """A mapping, or `never`: one attempt, whatever the job says. Defaults to one attempt, unless the job says
    more."""
    isolation: Literal["async", "thread", "process"] | None = None
    """Where it runs: async: on the event loop, beside all others; thread: in a thread; process: in a child process,
    which may be killed. Defaults to what its module chose."""
    children: ChildrenConfig = ChildrenConfig()
    """The child processes of `isolation: process`."""
    on_failed: Literal["notify", "none"] = "none"
    """What follows when it has failed for good. notify: the module's note, a job for `notification-create`. Defaults to
    none."""
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Settings of the queue's own module, which checks them. Defaults to none."""
