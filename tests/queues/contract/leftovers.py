"""What is still there when it should be gone: tasks, threads, open files and sockets, complaints of Python's."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.conftest import wait_until

_OPEN_FILES = "/proc/self/fd"


@asynccontextmanager
async def none_left(patience_s: float) -> AsyncIterator[None]:
    """Afterwards there are no more tasks, threads, open files and sockets than before, and nothing was complained of.

    The default executor's threads may stay: they are the loop's.
    """
    loop = asyncio.get_running_loop()
    gc.collect()  # what others left is not this one's
    before = _present()
    complaints: list[str] = []
    former, hook = loop.get_exception_handler(), sys.unraisablehook
    loop.set_exception_handler(
        lambda _, context: complaints.append(f"{context['message']}: {context.get('exception')!r}")
    )
    sys.unraisablehook = lambda found: complaints.append(f"{found.err_msg or 'unraisable'}: {found.exc_value!r}")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            await _gone(before, patience_s)
            gc.collect()
            await asyncio.sleep(0)
            gc.collect()
        complaints += [f"{each.category.__name__}: {each.message}" for each in warned]
    finally:
        loop.set_exception_handler(former)
        sys.unraisablehook = hook
    assert not complaints, f"Python complains: {complaints}"


async def _gone(before: dict[str, set[Any]], patience_s: float) -> None:
    """A connection needs some turns of the loop to close, on both of its ends."""

    def left() -> dict[str, set[Any]]:
        return {kind: found for kind, now in _present().items() if (found := now - before[kind])}

    try:
        await wait_until(lambda: not left(), timeout_s=patience_s)
    except AssertionError:
        raise AssertionError(f"left behind: {left()}") from None


def _present() -> dict[str, set[Any]]:
    return {
        "tasks": {task for task in asyncio.all_tasks() if not task.done()},
        "threads": {each for each in threading.enumerate() if not each.name.startswith("asyncio_")},
        "open files": _open_files(),
    }


def _open_files() -> set[tuple[str, str]]:
    """Descriptors and what they are of; a number that was given again is another file."""
    if not os.path.isdir(_OPEN_FILES):  # elsewhere than on Linux
        return set()
    found = set()
    for number in os.listdir(_OPEN_FILES):
        try:
            found.add((number, os.readlink(f"{_OPEN_FILES}/{number}")))
        except OSError:  # the listing's own
            continue
    return found
