"""How a producer would like its task to be executed: advice, of which the time-out and the priority are heeded."""

from __future__ import annotations

from pydantic import Field

from tasks.base import Part
from tasks.number import Count, Number


class RetryAdvice(Part):
    """Node's `retryPolicy`. Nobody maps it to the job's options, which decide on retries."""

    max_retries: Count | None = None
    backoff_ms: Number | None = None
    backoff_multiplier: Number | None = None
    max_backoff_ms: Number | None = None


class ExecutionOptions(Part):
    """Node's `options` of a completion, a swarm or a run."""

    timeout: Number | None = None
    """Milliseconds."""
    priority: str | None = Field(default=None, examples=["low", "medium", "high"])
    """How urgent it is; see `tasks.priority`. Another word counts as none."""
    retry_policy: RetryAdvice | None = None
    retry_count: Count | None = None
    debug_mode: bool | None = None
