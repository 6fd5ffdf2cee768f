"""A thread seen from another one: the frames of the code that blocks, and nothing of its values."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.runtime import stack
from workers.runtime.stack import MAX_FRAMES, MAX_TEXT, Glance, Stack

owner: ContextVar[str] = ContextVar("owner", default="nobody")


class LoopThread:
    """An event loop in a thread of its own, which the test may block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.blocked, self._release = threading.Event(), threading.Event()

    def block(self) -> None:
        secret = "s3cr3t"  # noqa: F841 - a value that must not be seen
        self.blocked.set()
        self._release.wait(20)

    def look(self) -> Glance:
        assert self.blocked.wait(20)
        assert self.thread.ident is not None
        return stack.glance(self.loop, self.thread.ident)

    def idle(self) -> Glance:
        assert self.thread.ident is not None
        return stack.glance(self.loop, self.thread.ident)

    def close(self) -> None:
        self._release.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture
def other() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


def names(found: Stack) -> list[str]:
    return [name for _, _, name in found.frames]


async def outer(block: Callable[[], None]) -> None:
    owner.set("the job")
    await inner(block)


async def inner(block: Callable[[], None]) -> None:
    await asyncio.sleep(0)
    block()


async def with_child(block: Callable[[], None]) -> None:
    owner.set("the job")
    await asyncio.create_task(inner(block))


async def with_callback(block: Callable[[], None]) -> None:
    owner.set("the job")
    asyncio.get_running_loop().call_soon(block)
    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("work", "called"),
    [(outer, ["outer", "inner", "block"]), (with_child, ["inner", "block"]), (with_callback, ["block"])],
)
def test_frames_and_context_of_what_the_loop_executes_are_seen(
    other: LoopThread, work: Callable[..., Any], called: list[str]
) -> None:
    asyncio.run_coroutine_threadsafe(work(other.block), other.loop)
    seen = other.look()
    assert names(seen.stack)[: len(called)] == called, "from the loop inwards"
    assert seen.context is not None
    assert seen.context.get(owner) == "the job"


def test_text_names_the_line_and_shows_no_value(other: LoopThread) -> None:
    asyncio.run_coroutine_threadsafe(outer(other.block), other.loop)
    text = other.look().stack.text()
    assert "self._release.wait(20)" in text
    assert "test_runtime_stack.py" in text
    assert "s3cr3t" not in text


async def test_idle_loop_executes_nothing(other: LoopThread) -> None:
    await wait_until(lambda: other.idle().context is None)


def recursive(block: Callable[[], None], depth: int) -> None:
    if depth:
        recursive(block, depth - 1)
    else:
        block()


def test_deep_recursion_shows_its_innermost_frames_and_says_how_many_more(other: LoopThread) -> None:
    other.loop.call_soon_threadsafe(recursive, other.block, 500)
    seen = other.look().stack
    assert len(seen.frames) == MAX_FRAMES
    assert names(seen)[-1] in ("block", "wait", "__enter__")
    assert seen.left_out > 480
    assert seen.text().startswith(f"  … {seen.left_out} more\n")


def test_thread_that_has_ended_has_no_frames() -> None:
    assert stack.of_thread(0) == Stack(())
    assert Stack(()).text() == ""


def test_text_is_bounded_and_keeps_the_innermost_frame() -> None:
    long = Stack(tuple((f"/{'x' * 600}.py", n, f"f{n}") for n in range(MAX_FRAMES)))
    assert len(long.text()) == MAX_TEXT
    assert long.text().endswith(f"in f{MAX_FRAMES - 1}")
