"""Tasks that a processor makes itself: `sys.exit` in one of them ends that task, not the loop and the process.

asyncio lets SystemExit and KeyboardInterrupt out of any task. The task factory wraps those that are made inside a
run, known by a context variable that they inherit; all others are made as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from workers.broker.result import message

#: Characters of an exception's text. Child processes import this file, and nothing that knows Redis with it.
MAX_TEXT = 8_192

_inside: ContextVar[bool] = ContextVar("fleet_inside_a_run", default=False)


class EscapedError(Exception):
    """A processor let something escape that would have ended the process or its loop."""

    def __init__(self, error: BaseException) -> None:
        name = type(error).__name__
        text = message(error, MAX_TEXT)
        super().__init__(f"the processor raised {name}" + ("" if text == name else f": {text}"))


class _Factory:
    """The task factory of a loop that has run jobs."""

    def __init__(self, former: Any) -> None:
        self.former = former

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        work = _contained(coro) if _inside.get() and asyncio.iscoroutine(coro) else coro
        if self.former is None:
            return asyncio.Task(work, loop=loop, **options)
        return self.former(loop, work, **options)


def start(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Make the task of a run. `coro` contains itself; all tasks that are made inside of it are contained."""
    factory = loop.get_task_factory()
    if not isinstance(factory, _Factory):
        factory = _Factory(factory)
        loop.set_task_factory(factory)
    token = _inside.set(True)  # the task takes a copy of the context
    try:
        if factory.former is None:
            return asyncio.Task(coro, loop=loop)
        task: asyncio.Task[Any] = factory.former(loop, coro)
        return task
    finally:
        _inside.reset(token)


async def _contained(coro: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coro
    except (SystemExit, KeyboardInterrupt) as error:
        raise EscapedError(error) from error
