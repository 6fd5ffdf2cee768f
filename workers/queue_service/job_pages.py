"""The jobs of a queue page by page, of some states, and those among them that a filter means."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from workers.broker.job_reader import JobReader, Mark, Order, Slice
from workers.broker.job_view import JobView
from workers.queue_service import cursor as cursors
from workers.queue_service.cursor import Place
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.filter import STATES, JobFilter
from workers.queue_service.page import MAX_ITEMS, Page

#: Jobs that one request looks through at most; the next one goes on.
LOOK_THROUGH = 10_000
#: Jobs that are read together where they are looked through.
CHUNK = 500
#: Bytes of a job's data and of its result that a list shows.
SHOWN_BYTES = 16 * 1024
#: States whose place is the time at which a job has ended, so that an age leads there at once.
_TIMED = ("completed", "failed")


@dataclass
class _Walk:
    """One request."""

    queue: str
    wanted: JobFilter
    order: Order
    limit: int
    now_ms: int
    until: float
    found: list[JobView] = field(default_factory=list)
    looked_at: int = 0

    def room(self, left_s: float) -> int:
        """How many jobs to read next; 0: the request has enough, or has looked for long enough. Where jobs are looked
        through in vain, more and more.
        """
        if len(self.found) >= self.limit or self.looked_at >= LOOK_THROUGH or left_s <= 0:
            return 0
        missing = self.limit - len(self.found)
        if not self.wanted.is_narrow:
            return missing
        return min(max(missing, self.looked_at), CHUNK, LOOK_THROUGH - self.looked_at)


class JobPages:
    """Lists jobs.

    Args:
        reader: reads them.
        look_s: for how long one request looks through jobs, seconds.
        now_ms: the clock of BullMQ's timestamps.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        reader: JobReader,
        *,
        look_s: float,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._look_s = look_s
        self._now_ms = now_ms
        self._clock = clock

    async def page(
        self, queue: str, wanted: JobFilter, *, cursor: str | None, limit: int, order: Order = "newest"
    ) -> Page[JobView]:
        """A page. One state follows the other, in the order of STATES. A job that stays in its state comes once; one
        that changes it while the pages are turned may come twice, or not at all.

        Raises:
            InvalidRequestError: limit, order or cursor can't be used.
            redis.exceptions.RedisError, OSError: Redis is away.
        """
        if type(limit) is not int or not 0 < limit <= MAX_ITEMS:
            raise InvalidRequestError("limit", f"expected a whole number from 1 to {MAX_ITEMS:,}")
        if order not in ("newest", "oldest"):
            raise InvalidRequestError("order", "expected newest or oldest")
        states = wanted.states or STATES
        what = f"{queue} {wanted}"
        place = Place(states[0]) if cursor is None else cursors.read(cursor, of=what, order=order, states=states)
        walk = _Walk(queue, wanted, order, limit, self._now_ms(), self._clock() + self._look_s)
        rest = await self._walk(walk, states, place)
        following = None if rest is None else cursors.write(rest, of=what, order=order)
        shown = tuple(each.shortened(SHOWN_BYTES) for each in walk.found)
        return Page(shown, following, walk.looked_at)

    async def _walk(self, walk: _Walk, states: tuple[str, ...], place: Place) -> Place | None:
        """Fill the page from this place on. Returns where it ended; None: there is no more."""
        mark = place.mark
        for state in states[states.index(place.state) :]:
            if mark is None:
                mark = _first(walk, state)
            while room := walk.room(walk.until - self._clock()):
                part = await self._reader.slice(walk.queue, state, room, after=mark, order=walk.order)
                mark = await self._take(walk, part, state)
                if mark is None:
                    break
            else:
                return Place(state, mark)
            mark = None
        return None

    async def _take(self, walk: _Walk, part: Slice, state: str) -> Mark | None:
        """Add what is wanted of these jobs. Returns where to go on in this state; None: it has no more of them."""
        views = await self._reader.rows(walk.queue, part, state)
        places = {job_id: at for at, job_id in enumerate(part.ids)}
        for view in views:
            if len(walk.found) == walk.limit:
                at = places[view.id]
                walk.looked_at += at
                return part.mark(at)
            if walk.wanted.matches(view, walk.now_ms):
                walk.found.append(view)
        walk.looked_at += len(part.ids)
        return None if part.is_last or _is_beyond(walk, part, state) else part.mark()


def _first(walk: _Walk, state: str) -> Mark | None:
    """Where a state begins: by the age that is asked for, where it is kept by age."""
    age_s = walk.wanted.older_s if walk.order == "newest" else walk.wanted.newer_s
    if state not in _TIMED or age_s is None:
        return None
    return Mark(score=f"{walk.now_ms - round(age_s * 1000)}")


def _is_beyond(walk: _Walk, part: Slice, state: str) -> bool:
    """Whether all that follows is too old, or too new."""
    age_s = walk.wanted.newer_s if walk.order == "newest" else walk.wanted.older_s
    if state not in _TIMED or age_s is None or not part.scores:
        return False
    bound = walk.now_ms - age_s * 1000
    last = float(part.scores[-1])
    return last < bound if walk.order == "newest" else last > bound
