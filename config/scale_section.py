"""The `slo` and `scale` of a queue in fleet.yaml: what it promises, and how its slots are to follow the load.

Both are read and checked, so that they can be written down; nothing acts on them yet.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from config.section import Section
from config.units import WHOLE, Fraction, Rate, Seconds


class SloConfig(Section):
    """What this queue promises: written down for whoever draws alerts and dashboards. Nothing acts on it yet."""

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
