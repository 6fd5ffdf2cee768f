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
    """Processes of this pool that the supervisor keeps running; auto: one for each core that CPU affinity and control
    groups (a container's limit) let it use. Defaults to 1."""
    grace: Seconds = 30.0
    """On SIGTERM, how many seconds running jobs may go on before they are handed back. Defaults to 30s."""
    memory: Annotated[Bytes, AfterValidator(_memory)] | None = None
    """Resident memory of the process itself, not of its children, from which it is replaced: a successor starts, then
    the process drains. Not within its first ten seconds, and ever more rarely where the limit is below what each
    process needs, so that this is no limit of what it may take. Defaults to no limit."""
    max_jobs: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] | None = None
    """Runs of jobs after which a process is replaced in the same way, not within its first ten seconds. Defaults to no
    limit."""
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    """The event loop of its processes. uvloop needs the extra `fleet-workers[uvloop]`. Defaults to asyncio."""
