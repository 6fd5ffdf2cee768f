"""The jobs of one queue, or of all one after another, as one list with cursors of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.cli.queue_source import Document, Source
from workers.cli.wanted import Wanted
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.filter import STATES

#: Jobs that one command looks through; the next one goes on.
MAX_LOOKED = 200_000
#: Jobs of one page.
PAGE = 1000


@dataclass
class Listed:
    """What was found."""

    jobs: list[Document] = field(default_factory=list)
    cursor: str | None = None
    """For the jobs after these; None: there are none."""
    looked_at: int = 0

    def json(self) -> Document:
        """For output."""
        return {"jobs": self.jobs, "cursor": self.cursor, "lookedAt": self.looked_at}


async def listed(
    source: Source, queues: Sequence[str], wanted: Wanted, *, cursor: str | None, limit: int, oldest_first: bool
) -> Listed:
    """The next jobs that are meant, `limit` at most.

    Args:
        queues: those alone; none: all there are.
        cursor: of an earlier list: `<queue>:<its own cursor>`, for queue names have no colons.
    """
    names = await _names(source, queues, wanted)
    inner: str | None = None
    if cursor is not None:
        first, _, rest = cursor.partition(":")
        if first not in names:
            raise InvalidRequestError("cursor", "is none that a list of these queues ended with: leave it out")
        names, inner = names[names.index(first) :], rest or None
    found = Listed()
    for at, name in enumerate(names):
        inner = await _fill(source, name, wanted, found, inner, limit, oldest_first)
        following = f"{name}:{inner}" if inner else f"{names[at + 1]}:" if at + 1 < len(names) else None
        if following is not None and (inner or len(found.jobs) >= limit):
            found.cursor = following
            break
    return found


async def _names(source: Source, queues: Sequence[str], wanted: Wanted) -> list[str]:
    """The queues that have jobs of the states that are meant; those that were named in any case."""
    if queues:
        return list(dict.fromkeys(queues))
    states = wanted.filter().states or STATES
    return [each["queueName"] for each in await source.queues(()) if any(each.get(state) for state in states)]


async def _fill(
    source: Source, queue: str, wanted: Wanted, found: Listed, cursor: str | None, limit: int, oldest_first: bool
) -> str | None:
    """Add one queue's jobs; returns the cursor of those that are left."""
    while True:
        room = min(PAGE, limit - len(found.jobs))
        if room <= 0 or found.looked_at >= MAX_LOOKED:
            return cursor
        page = await source.jobs(queue, wanted, cursor=cursor, limit=room, oldest_first=oldest_first)
        found.jobs += page["jobs"]
        found.looked_at += max(page["lookedAt"], 1)
        cursor = page["cursor"]
        if cursor is None:
            return None
