"""What may be wrong with a queue that is to be added to.

QueueServiceError
├── QueueFull               more waits than the queue's limits allow; says when to ask again
└── QueueUnavailableError   Redis does not answer, so nothing was done
"""

from __future__ import annotations

from workers.broker.pressure import LimitName, Pressure

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
    """Redis does not answer, so it is not known how much waits. Nothing is added then."""

    def __init__(self, text: str, *, queue: str | None = None) -> None:
        super().__init__(text, queue=queue, retry_after_s=ASK_AGAIN_S)
