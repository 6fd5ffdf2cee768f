"""How much waits in a queue, for whoever adds to it: what was last seen, without a look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workers.fleet.depths import backlog
from workers.queue_service import Admission, Limits, QueueStats


class Reader:
    """Reads figures."""

    rates: dict[str, int]

    async def read(self, queues: Iterable[str]) -> dict[str, QueueStats]:
        return {queue: QueueStats(queue=queue, waiting=3, prioritized=4, delayed=9) for queue in queues}


async def test_depth_is_what_was_last_seen_and_none_where_nothing_was() -> None:
    reader: Any = Reader()
    queues = Admission(reader, {"q": Limits(depth=10)}, timeout_s=60)
    assert backlog(queues, "q") == 0
    await queues.admit("q")
    assert (backlog(queues, "q"), backlog(queues, "other")) == (7, 0)
