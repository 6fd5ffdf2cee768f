"""Tasks that a processor makes itself: `sys.exit` in one of them ends that task, not the loop and the process.

asyncio lets SystemExit and KeyboardInterrupt out of any task. The task factory wraps those that are made inside a
run, known by a context variable that they inherit; all others are made as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from workers.broker.backend import MAX_REASON
from workers.broker.result import message

_inside: ContextVar[bool] = ContextVar("fleet_inside_a_run", default=False)
_MARK = "_fleet_contains"


class EscapedError(Exception):
    """A processor let something escape that would have ended the process or its loop."""

    def __init__(self, error: BaseException) -> None:
        name = type(error).__name__
        text = message(error, MAX_REASON)
        super().__init__(f"the processor raised {name}" + ("" if text == name else f": {text}"))


def enter() -> None:
    """Mark the present task's context as that of a run, and see to it that its tasks are contained."""
    _inside.set(True)
    loop = asyncio.get_running_loop()
    former = loop.get_task_factory()
    if getattr(former, _MARK, False):
        return

    def make(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        work = _contained(coro) if _inside.get() and asyncio.iscoroutine(coro) else coro
        return former(loop, work, **options) if former is not None else asyncio.Task(work, loop=loop, **options)

    setattr(make, _MARK, True)
    loop.set_task_factory(make)


async def _contained(coro: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coro
    except (SystemExit, KeyboardInterrupt) as error:
        raise EscapedError(error) from error
