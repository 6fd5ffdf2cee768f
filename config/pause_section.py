"""The `on_global_pause` of fleet.yaml: what follows when somebody has paused a queue for everyone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Tag

from config.section import Section
from config.units import Seconds


class ResumeConfig(Section):
    """The queue is resumed, for everyone, as Node's `queue.resume()` does it."""

    model_config = ConfigDict(json_schema_extra={"x-expected": "{resume_after: 60s}"})

    resume_after: Seconds
    """How long it must have been seen paused, without a break."""


def _form(value: Any) -> str:
    return "resume after" if isinstance(value, dict | ResumeConfig) else "report"


OnGlobalPause = Annotated[
    Annotated[Literal["report"], Tag("report")] | Annotated[ResumeConfig, Tag("resume after")], Discriminator(_form)
]
"""`report`, or `{resume_after: 60s}`."""
