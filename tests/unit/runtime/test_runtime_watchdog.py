"""Loops that really block: by waiting, computing, holding the GIL, collecting garbage, being stopped."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span

from tests.conftest import wait_until
from tests.unit.ops.service_contract import RULES, Rule, name, soon
from workers.broker import running
from workers.broker.events import LoopBlocked
from workers.broker.running import Running
from workers.runtime.watchdog import Watchdog

#: A short threshold, so that the blocks can be short too.
THRESHOLD_S, BLOCK_S = 0.1, 0.4


class Watched:
    """A watchdog with what it told."""

    def __init__(self) -> None:
        self.over: list[LoopBlocked] = []
        self.meanwhile: list[LoopBlocked] = []
        self.tellers: set[int] = set()
        self.late: list[float] = []
        self.ran: list[Running] = []
        self.dog = Watchdog(
            self.over.append, self._tell, late=self.late.append, describe=str.upper, threshold_s=THRESHOLD_S
        )

    def _tell(self, event: LoopBlocked) -> None:
        self.tellers.add(threading.get_ident())
        self.meanwhile.append(event)

    async def named(self, job_id: str, work: Callable[[], Awaitable[Any]], tries: int = 10) -> LoopBlocked:
        """Run this until it is named both meanwhile and afterwards: a machine that is too busy may look like a
        process that is stopped.
        """
        for _ in range(tries):
            self.ran.append(await run(job(job_id), work))
            await asyncio.sleep(THRESHOLD_S)
            over = [event for event in self.over if event.job_id == job_id]
            if over and job_id in {event.job_id for event in self.meanwhile}:
                return over[-1]
        raise AssertionError(f"{job_id} was not named: {self.over}")


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    await made.dog.start()
    yield made
    await made.dog.stop(by=soon())


def job(job_id: str) -> Running:
    span: Span = TracerProvider().get_tracer("test").start_span("process email-send")
    return Running("email-send", "email-send", job_id, span)


async def run(job: Running, work: Callable[[], Awaitable[Any]]) -> Running:
    """As a slot runs a job, in a task of its own."""

    async def slot() -> Any:
        running.begin(job)
        return await asyncio.create_task(work())  # type: ignore[arg-type]

    await asyncio.create_task(slot())
    return job


@pytest.mark.parametrize("rule", RULES, ids=name)
async def test_keeps_the_service_contract(rule: Rule) -> None:
    await rule(lambda: Watched().dog)


def wait_on_the_loop() -> None:
    time.sleep(BLOCK_S)


def compute() -> None:
    end = time.monotonic() + BLOCK_S
    while time.monotonic() < end:
        sum(range(100))


async def at_once(block: Callable[[], None]) -> None:
    block()


async def in_a_child(block: Callable[[], None]) -> None:
    async def child() -> None:
        await asyncio.sleep(0)
        block()

    await asyncio.create_task(child())


async def in_a_callback(block: Callable[[], None]) -> None:
    done = asyncio.Event()

    def called() -> None:
        block()
        done.set()

    asyncio.get_running_loop().call_soon(called)
    await done.wait()


@pytest.mark.parametrize("how", [at_once, in_a_child, in_a_callback])
@pytest.mark.parametrize("block", [wait_on_the_loop, compute])
async def test_job_whose_code_blocks_is_named_meanwhile_and_afterwards(
    watched: Watched, how: Callable[[Callable[[], None]], Awaitable[None]], block: Callable[[], None]
) -> None:
    innocent = asyncio.create_task(run(job("innocent"), lambda: asyncio.sleep(2 * BLOCK_S)))
    over = await watched.named("guilty", lambda: how(block))
    assert (over.queue, over.task_type, over.over) == ("email-send", "email-send", True)
    assert over.blocked_s >= THRESHOLD_S
    assert block.__name__ in over.stack
    assert len(over.trace_id) == 32
    during = [event for event in watched.meanwhile if event.job_id == "guilty"]
    assert {(event.over, event.queue) for event in during} == {(False, "email-send")}
    assert len(during) <= len(watched.over), "each once, while it lasts"
    assert watched.tellers and threading.get_ident() not in watched.tellers
    assert max(watched.late) >= THRESHOLD_S
    await innocent
    assert not [event for event in watched.over if event.job_id == "innocent"]


async def test_span_of_the_job_shows_how_long_and_where(watched: Watched) -> None:
    await watched.named("guilty", lambda: at_once(wait_on_the_loop))
    event = next(event for ran in watched.ran for event in ran.span.events)  # type: ignore[attr-defined]
    assert event.name == "loop blocked"
    assert event.attributes["fleet.loop.blocked_s"] >= THRESHOLD_S
    assert "WAIT_ON_THE_LOOP" in event.attributes["code.stacktrace"], "as `describe` writes it"


#: A call that takes twice as long with each further character: from milliseconds to ten seconds.
LENGTHS = range(17, 28)


def backtrack(length: int) -> None:
    re.match(r"(a+)+$", "a" * length + "b")


def count(length: int) -> None:
    """In C, like `backtrack`, but without ever asking for signals."""
    deque(itertools.repeat(None, 2**length * 50), maxlen=0)


@pytest.mark.parametrize("hog", [backtrack, count])
async def test_call_that_holds_the_gil_is_named(watched: Watched, hog: Callable[[int], None]) -> None:
    async def hogs() -> None:
        for length in LENGTHS:  # until it takes long enough on this machine
            hog(length)
            await asyncio.sleep(2 * THRESHOLD_S)
            if any(event.job_id for event in watched.over):
                return

    await run(job("hog"), hogs)
    named = [event for event in watched.over if event.job_id]
    assert named[0].job_id == "hog"
    assert f"in {hog.__name__}\n" in named[0].stack


async def test_thread_of_a_job_that_holds_the_gil_is_named(watched: Watched) -> None:
    def work() -> None:
        with running.in_thread():
            for length in LENGTHS:
                backtrack(length)
                time.sleep(2 * THRESHOLD_S)
                if any(event.job_id for event in watched.over):
                    return

    await run(job("thread"), lambda: asyncio.to_thread(work))
    over = next(event for event in watched.over if event.job_id)
    assert over.job_id == "thread"
    assert "another thread held the GIL" in over.stack
    assert "in work\n" in over.stack


async def test_garbage_collection_is_no_jobs_doing(watched: Watched) -> None:
    def slow(phase: str, info: dict[str, Any]) -> None:
        if phase == "start" and info["generation"] == 2:
            time.sleep(BLOCK_S)

    gc.callbacks.append(slow)  # after the watchdog's own: what follows counts as collecting
    try:
        for _ in range(10):  # a machine that is too busy adds to it
            await run(job("innocent"), lambda: at_once(gc.collect))  # type: ignore[arg-type]
            await asyncio.sleep(THRESHOLD_S)
            found = [event for event in watched.over if event.task_type == "gc"]
            if found:
                break
    finally:
        gc.callbacks.remove(slow)
    assert (found[0].queue, found[0].job_id) == ("unknown", "")
    assert "no job's doing: garbage collection took" in found[0].stack


async def test_code_of_no_job_is_of_the_unknown_queue(watched: Watched) -> None:
    time.sleep(BLOCK_S)  # noqa: ASYNC251  # blocks the loop
    await wait_until(lambda: watched.over)
    assert (watched.over[0].queue, watched.over[0].task_type, watched.over[0].job_id) == ("unknown", "unknown", "")
    assert "test_code_of_no_job_is_of_the_unknown_queue" in watched.over[0].stack


async def test_listener_that_raises_ends_no_watch(caplog: pytest.LogCaptureFixture) -> None:
    told: list[LoopBlocked] = []

    def listener(event: LoopBlocked) -> None:
        told.append(event)
        raise OSError("disk full")

    dog = Watchdog(listener, listener, threshold_s=THRESHOLD_S)
    await dog.start()
    for n in (1, 2):
        time.sleep(BLOCK_S)  # noqa: ASYNC251
        await wait_until(lambda n=n: len([event for event in told if event.over]) >= n)  # type: ignore[misc]
    assert dog.health().ok
    await dog.stop(by=soon())
    assert [record.message for record in caplog.records] == ["what blocks the event loop can't be told"]


async def test_numbers_tell_the_last_culprit(watched: Watched) -> None:
    assert watched.dog.numbers() == {"loop_blocks": 0.0}
    await watched.named("guilty", lambda: at_once(wait_on_the_loop))
    numbers = watched.dog.numbers()
    assert numbers["loop_blocks"] == len(watched.over)
    assert str(numbers["loop_blocked_last"]).startswith("email-send/email-send for 0.")
    assert float(numbers["loop_blocked_worst_s"]) >= THRESHOLD_S
    assert "last by email-send/email-send" in watched.dog.health().detail


async def test_nothing_is_left_after_the_stop(watched: Watched) -> None:
    await watched.dog.stop(by=soon())
    assert "fleet-watchdog" not in {thread.name for thread in threading.enumerate()}
    assert not [each for each in gc.callbacks if getattr(each, "__self__", None) is watched.dog]
    time.sleep(BLOCK_S)  # noqa: ASYNC251
    await asyncio.sleep(0)
    assert not watched.over


#: A process whose job is in the middle of a step, time and again, when it is stopped.
STOPPED = """
import asyncio, dataclasses, json, sys, time
from opentelemetry.trace import INVALID_SPAN
from workers.broker import running
from workers.broker.running import Running
from workers.runtime.watchdog import Watchdog

def tell(event):
    print(json.dumps(dataclasses.asdict(event)), flush=True)

async def main():
    await Watchdog(tell, tell, threshold_s=0.3).start()
    running.begin(Running("email-send", "email-send", "7", INVALID_SPAN))
    print("ready", flush=True)
    while True:
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            pass
        await asyncio.sleep(0)

asyncio.run(main())
"""


def test_stopped_process_blames_no_job() -> None:
    child = subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(child.pid, signal.SIGCONT)
        told: dict[str, Any] = {"blocked_s": 0.0}
        while told["blocked_s"] < 1.0:  # shorter ones are this machine's
            told = json.loads(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert (told["queue"], told["task_type"], told["job_id"], told["over"]) == ("unknown", "stopped", "", True)
    assert "no job's doing" in told["stack"]
