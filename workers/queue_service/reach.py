"""A look at Redis that ends in time, and fails in the service's own words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from workers.broker.batch import UNANSWERED
from workers.broker.result import message
from workers.queue_service.errors import QueueUnavailableError

T = TypeVar("T")

#: Characters of an error that are shown.
MAX_DETAIL = 300


class Reach:
    """Bounds looks.

    Args:
        timeout_s: how long one may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    async def __call__(self, look: Awaitable[T], queue: str | None = None) -> T:
        """What it finds.

        Raises:
            QueueUnavailableError: Redis does not answer, not in time, or refuses.
        """
        where = f"queue {queue}: " if queue else ""
        try:
            async with asyncio.timeout(self.timeout_s) as limit:
                return await look
        except UNANSWERED as error:
            if limit.expired():
                said = f"no answer within {self.timeout_s:g} s (redis.command_timeout)"
            else:
                said = message(error, MAX_DETAIL)
            raise QueueUnavailableError(f"{where}Redis can't be looked at: {said}", queue=queue) from error
