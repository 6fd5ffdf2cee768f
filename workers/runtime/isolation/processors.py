"""A module's processor: which kind it is, and what it returned before that becomes its job's result."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from workers.contract import PermanentError


class ResultError(PermanentError):
    """What the processor returned can't be its job's result; the next attempt would return the same."""


def is_async(process: Callable[..., Any]) -> bool:
    """Whether it is an `async def`, or an object that is called like one; anything else would block the event loop."""
    return inspect.iscoroutinefunction(process) or inspect.iscoroutinefunction(getattr(process, "__call__", None))  # noqa: B004


def checked(value: Any) -> Any:
    """What a processor returned, unless it is work that nobody would do.

    Raises:
        ResultError: it is a coroutine or another awaitable; a coroutine is closed, a task or future cancelled.
    """
    if not isinstance(value, Awaitable):
        return value
    if inspect.iscoroutine(value):
        value.close()
    elif callable(cancel := getattr(value, "cancel", None)):
        cancel()
    name = "coroutine" if inspect.iscoroutine(value) else type(value).__name__
    raise ResultError(f"the processor returned a {name} that nobody awaits: declare it `async def` and await the work")
