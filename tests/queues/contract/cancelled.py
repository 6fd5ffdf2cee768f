"""A coroutine that is cancelled at its n-th suspension."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class CancelledAt:
    """Awaits the work, and cancels the task that does so when the work suspends it for the n-th time, from 1.

    Not before and not after, as a cancellation from outside would be: it hits the very await that it is meant for.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], nth: int) -> None:
        self._work = work
        self._nth = nth
        self.suspensions = 0

    @property
    def hit(self) -> bool:
        """The work has suspended so often; else it ended before."""
        return self.suspensions >= self._nth

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        step, argument = self._work.send, None
        while True:
            try:
                waits_for: Any = step(argument)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            if self.suspensions == self._nth:
                task.cancel()
            try:
                argument = yield waits_for
                step = self._work.send
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as error:
                step, argument = self._work.throw, error
