"""A task that a worker keeps running. Code of a job's may cancel every task it finds; that ends no worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Loop:
    """Runs from construction until its work returns or raises; cancelled from outside, it begins anew.

    Args:
        work: makes the coroutine, again after a cancellation.
        on_failed: told what the work raised.
        on_cancelled: told of a cancellation before the work begins anew. Defaults to nobody.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        on_failed: Callable[[BaseException], None],
        on_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self._work = work
        self._on_cancelled = on_cancelled
        self._on_failed = on_failed
        self._renewed = True
        self.task = self._begin()
        """The present task."""

    def settle(self) -> None:
        """From now on a cancellation is the end."""
        self._renewed = False

    @property
    def error(self) -> BaseException | None:
        """What the work raised; None: nothing, or it goes on, or it was cancelled."""
        return self.task.exception() if self.task.done() and not self.task.cancelled() else None

    def _begin(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._work())
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            if (error := task.exception()) is not None:
                self._on_failed(error)
        elif self._renewed:
            self._on_cancelled()
            self.task = self._begin()
