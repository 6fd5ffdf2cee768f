"""What a QueueService may raise: nothing else leaves it.

QueueServiceError
├── QueueFull               more waits than the queue's limits allow; says when to ask again
├── QueueUnavailableError   Redis does not answer, so nothing was done or it is not known whether
│   └── BrokenOffError      of many jobs that were to be added; says of which it is known
├── UnknownQueueError       no queue of that name in the configuration or in Redis
├── UnknownJobError         no such job, or no such schedule
├── RefusedError            it can't be done with the thing as it is now: the job has moved on, isn't yours, …
└── InvalidRequestError     what was asked is wrong in itself; names the field
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workers.broker.pressure import LimitName, Pressure

if TYPE_CHECKING:
    from workers.queue_service.added import Added

#: How long a failure to ask Redis is believed, seconds.
ASK_AGAIN_S = 1.0


class QueueServiceError(Exception):
    """What was asked can't be done. The message is one line, and safe to show."""

    def __init__(self, text: str, *, queue: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.queue = queue
        self.retry_after_s = retry_after_s
        """When to ask again, seconds from now; None: it would be in vain."""


class QueueFull(QueueServiceError):
    """More waits than the queue's limits allow: it takes no more for now."""

    def __init__(self, queue: str, pressure: Pressure) -> None:
        limit = pressure.limit or "depth"
        super().__init__(
            f"queue {queue} is full: {pressure.reason} (queues.{queue}.limits.{limit});"
            f" try again in {pressure.retry_after_s:.0f} s",
            queue=queue,
            retry_after_s=pressure.retry_after_s,
        )
        self.reason = pressure.reason
        """The figure and the limit."""
        self.limit: LimitName = limit


class QueueUnavailableError(QueueServiceError):
    """Redis does not answer. Where it was to change something, the message says whether that is known to be undone."""

    def __init__(self, text: str, *, queue: str | None = None) -> None:
        super().__init__(text, queue=queue, retry_after_s=ASK_AGAIN_S)


class BrokenOffError(QueueUnavailableError):
    """Redis went away while many jobs were added. Adding all of them again adds none twice that has an own id."""

    def __init__(self, text: str, added: Sequence[Added | None]) -> None:
        super().__init__(text)
        self.added = tuple(added)
        """What became of each, in their order. None: it was not added, or it is not known whether."""


class UnknownQueueError(QueueServiceError):
    """No queue of that name."""


class UnknownJobError(QueueServiceError):
    """No job, task or schedule of that id."""


class RefusedError(QueueServiceError):
    """The thing is not in a state, or not in hands, that allow it. Nothing was changed."""


class InvalidRequestError(QueueServiceError):
    """What was asked is wrong in itself; `field` is where. Nothing was changed."""

    def __init__(self, field: str, text: str, *, queue: str | None = None) -> None:
        super().__init__(f"{field}: {text}", queue=queue)
        self.field = field
