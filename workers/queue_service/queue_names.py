"""Which queues there are: those of the configuration, and those that others have made in Redis."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from workers.broker.queue_scan import Found, scan
from workers.queue_service.errors import InvalidRequestError, UnknownQueueError
from workers.queue_service.reach import Reach

#: How long what was found in Redis is believed, seconds: a look goes through all keys.
FRESH_S = 30.0
#: Characters of the longest name.
MAX_NAME = 256
_NAME = re.compile(r"[^\x00-\x1f\x7f:]+")


class QueueNames:
    """The names of the queues under one prefix.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        configured: names that are known without a look, in their order.
        reach: bounds the looks.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: Any,
        prefix: str,
        configured: Sequence[str],
        reach: Reach,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self.configured = tuple(dict.fromkeys(configured))
        """See above; may be replaced."""
        self._reach = reach
        self._clock = clock
        self._found: tuple[str, ...] = ()
        self._looked_at = float("-inf")

    @property
    def seen(self) -> tuple[str, ...]:
        """The configured ones, then those that the last look found. No I/O."""
        return (*self.configured, *(name for name in self._found if name not in self.configured))

    async def all(self) -> tuple[str, ...]:
        """The configured ones, then those in Redis, looked for at most every 30 s and for half of the time that a look
        may take: among very many keys some may be found later.

        Raises:
            QueueUnavailableError
        """
        if self._clock() - self._looked_at >= FRESH_S:
            found: Found = await self._reach(scan(self._client, self._prefix, within_s=self._reach.timeout_s / 2))
            known = found.queues if found.is_whole else sorted({*self._found, *found.queues})
            self._found, self._looked_at = tuple(known), self._clock()
        return self.seen

    async def check(self, queue: str) -> None:
        """Return if there is a queue of this name.

        Raises:
            InvalidRequestError: no queue could be called so.
            UnknownQueueError: there is none.
            QueueUnavailableError: it can't be told.
        """
        check_name(queue)
        if queue in self.seen:
            return
        keys = [f"{self._prefix}:{queue}:{name}" for name in ("meta", "id", "events")]
        if not await self._reach(self._client.exists(*keys), queue):
            raise UnknownQueueError(f"there is no queue {queue}, neither configured nor in Redis", queue=queue)


def check_name(queue: str) -> None:
    """Return if a queue could be called so: BullMQ's own rule, and no control characters.

    Raises:
        InvalidRequestError
    """
    if not isinstance(queue, str) or len(queue) > MAX_NAME or not _NAME.fullmatch(queue):
        raise InvalidRequestError("queue", f"expected a name of 1 to {MAX_NAME} characters without colons")
