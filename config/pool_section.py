"""The `pools` of fleet.yaml: the kinds of process."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from config.quantities import unexpected
from config.section import Section
from config.units import WHOLE, Bytes, Seconds

#: The least `memory` of a process: what an interpreter with its libraries needs before the first job.
MIN_MEMORY = 128 * 1024 * 1024


def _memory(value: int) -> int:
    if value < MIN_MEMORY:
        raise unexpected("a size of at least 128MB, which a process needs before its first job", value)
    return value


class PoolConfig(Section):
    """Queues served by one kind of process; in Kubernetes one Deployment."""

    processes: Annotated[int, Field(ge=1, le=256), WHOLE] | Literal["auto"] = 1
    """Processes of this pool that the supervisor keeps running; auto: one for each core that it may use. Defaults to
    1."""
    grace: Seconds = 30.0
    """On SIGTERM, how many seconds running jobs may go on before they are handed back. Defaults to 30s."""
    memory: Annotated[Bytes, AfterValidator(_memory)] | None = None
    """Resident memory from which a process is replaced: it drains while its successor takes over. Defaults to no
    limit."""
    max_jobs: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] | None = None
    """Jobs after which a process is replaced in the same way. Defaults to no limit."""
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    """The event loop of its processes. uvloop needs the extra `fleet-workers[uvloop]`. Defaults to asyncio."""
