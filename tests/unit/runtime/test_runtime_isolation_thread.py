"""Threads of a queue: used again, asked to end, broken by force, left behind. The contract suite has what they run."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.trace import INVALID_SPAN

from tests.conftest import wait_until
from tests.hostile.rig import Answers, call
from workers.broker import running
from workers.contract import SyncJobContext
from workers.runtime.isolation.thread import AbandonedError, Threads

pytestmark = pytest.mark.usefixtures("complaints")

Process = Callable[[Any, SyncJobContext], Any]


def queue_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("q-")}


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
async def gate() -> AsyncIterator[threading.Event]:
    """Lets go of everything at the end of the test, when no thread of the queue may be left."""
    event = threading.Event()
    yield event
    event.set()
    await wait_until(lambda: not queue_threads())


async def started(threads: Threads, context: Answers | None = None) -> tuple[asyncio.Task[Any], Any]:
    run = call("unused", context)
    task = asyncio.create_task(threads.run(run))
    await asyncio.sleep(0.05)
    return task, run


async def left(task: asyncio.Task[Any], run: Any) -> None:
    """As the driver leaves a run: cancelled, killed, cancelled once more."""
    task.cancel()
    await asyncio.sleep(0.02)
    run.kill()
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.done()


async def test_thread_is_used_again_and_ends_with_its_queue(gate: threading.Event) -> None:
    async with Threads(lambda task, ctx: threading.current_thread().name, "q") as threads:
        names = [await threads.run(call("unused")) for _ in range(20)]
        assert set(names) == {"q-1"}
        assert queue_threads() == {"q-1"}
    await wait_until(lambda: not queue_threads())


async def test_there_are_as_many_threads_as_runs_at_once(gate: threading.Event) -> None:
    def waits(task: Any, ctx: SyncJobContext) -> None:
        gate.wait(20)

    async with Threads(waits, "q") as threads:
        tasks = [asyncio.create_task(threads.run(call("unused"))) for _ in range(4)]
        await wait_until(lambda: len(queue_threads()) == 4)
        gate.set()
        await asyncio.gather(*tasks)
        await threads.run(call("unused"))
        assert len(queue_threads()) == 4


async def test_loop_in_python_is_broken_by_force(gate: threading.Event, errors: list[Exception]) -> None:
    def spins(task: Any, ctx: SyncJobContext) -> None:
        while not gate.is_set():
            try:
                sum(range(100))
            except Exception:
                continue

    async with Threads(spins, "q", errors.append) as threads:
        task, run = await started(threads)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        run.kill()
        run.kill()
        await asyncio.wait({task}, timeout=20)
        assert task.cancelled()
        assert (threads.abandoned, errors) == (0, [])
    await wait_until(lambda: not queue_threads())


async def test_call_that_hangs_is_left_by_force(gate: threading.Event) -> None:
    async with Threads(lambda task, ctx: ctx.log("x"), "q") as threads:
        task, run = await started(threads, Answers(slow_s=3600))
        run.kill()
        await asyncio.wait({task}, timeout=20)
        assert task.cancelled()


async def test_thread_that_does_not_end_is_left_behind_told_and_replaced(
    gate: threading.Event, errors: list[Exception]
) -> None:
    blocks = True

    def hangs(task: Any, ctx: SyncJobContext) -> str:
        if blocks:
            gate.wait(20)  # in C: nothing is raised into it before it returns
        return "done"

    async with Threads(hangs, "q", errors.append) as threads:
        for count in (1, 2):
            await left(*await started(threads))
            assert threads.abandoned == count
            assert threads.left_behind() == ("q", count)
        assert [type(error) for error in errors] == [AbandonedError] * 2
        assert str(errors[0]).startswith("a thread of queue q runs although the jobs are over")
        assert str(errors[1]).startswith("2 threads of queue q still run")
        blocks = False
        assert await threads.run(call("unused")) == "done"
        gate.set()
        await wait_until(lambda: threads.left_behind() == ("q", 0))
        await wait_until(lambda: len(queue_threads()) == 1)


async def test_thread_that_catches_everything_is_left_behind(gate: threading.Event, errors: list[Exception]) -> None:
    def deaf(task: Any, ctx: SyncJobContext) -> None:
        while not gate.is_set():
            try:
                while not gate.wait(0.005):
                    pass
            except BaseException:
                continue

    async with Threads(deaf, "q", errors.append) as threads:
        await left(*await started(threads))
        assert len(errors) == 1


async def test_thread_left_behind_is_refused_what_it_asks(gate: threading.Event) -> None:
    heard: list[str] = []

    def deaf(task: Any, ctx: SyncJobContext) -> None:
        while not gate.is_set():
            with suppress(BaseException):
                gate.wait(20)
        for ask in (ctx.progress, ctx.log, ctx.checkpoint, ctx.add):
            try:
                ask(1)  # type: ignore[arg-type]
            except asyncio.CancelledError as error:
                heard.append(str(error))

    context = Answers()
    async with Threads(deaf, "q") as threads:
        await left(*await started(threads, context))
        gate.set()
        await wait_until(lambda: threads.abandoned == 0)
    assert heard == ["the run is over"] * 4
    assert context.asked == []


async def test_result_that_comes_in_spite_of_a_kill_counts(gate: threading.Event) -> None:
    def finishes(task: Any, ctx: SyncJobContext) -> str:
        try:
            while True:
                sum(range(100))
        except BaseException:
            return "finished"

    async with Threads(finishes, "q") as threads:
        task, run = await started(threads)
        run.kill()
        assert await asyncio.wait_for(task, 20) == "finished"


async def test_thousand_kills_at_any_moment_leave_a_queue_that_works(gate: threading.Event) -> None:
    """A kill strikes between any two steps of the thread, also where the processor has just returned."""

    def short(task: Any, ctx: SyncJobContext) -> str:
        for _ in range(task.args["steps"]):
            pass
        return "done"

    async with Threads(short, "q") as threads:
        for number in range(1000):
            run = call("unused", steps=number * 7 % 300)
            task = asyncio.create_task(threads.run(run))
            await asyncio.sleep(0)
            for _ in range(number % 50 * 20):
                pass
            run.kill()
            await asyncio.wait({task}, timeout=20)
            assert task.cancelled() or task.result() == "done"
        assert threads.abandoned == 0
        assert await threads.run(call("unused", steps=1)) == "done"


async def test_run_of_a_slot_that_is_torn_down_ends_with_its_queue(
    gate: threading.Event, errors: list[Exception]
) -> None:
    def waits(task: Any, ctx: SyncJobContext) -> None:
        gate.wait(20)

    async with Threads(waits, "q", errors.append) as threads:
        task, _ = await started(threads)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
    task.cancel()
    await asyncio.wait({task}, timeout=20)
    assert task.cancelled()
    assert len(errors) == 1


async def test_context_says_that_it_is_not_for_the_event_loop(gate: threading.Event) -> None:
    contexts: list[SyncJobContext] = []

    def waits(task: Any, ctx: SyncJobContext) -> None:
        contexts.append(ctx)
        gate.wait(20)

    async with Threads(waits, "q") as threads:
        task, _ = await started(threads)
        with pytest.raises(RuntimeError, match="not on the event loop"):
            contexts[0].log("x")
        gate.set()
        await task


async def test_idle_thread_keeps_nothing_of_its_last_job(gate: threading.Event) -> None:
    class Large:
        pass

    def returns(task: Any, ctx: SyncJobContext) -> Any:
        return Large()

    async with Threads(returns, "q") as threads:
        kept = weakref.ref(await threads.run(call("unused")))
        run = call("unused")
        await threads.run(run)
        job = weakref.ref(run.context)
        del run

        def forgotten() -> bool:
            gc.collect()
            return kept() is None and job() is None

        await wait_until(forgotten)


async def test_thread_is_known_to_work_for_its_job(gate: threading.Event) -> None:
    seen: list[running.Running] = []

    def looks(task: Any, ctx: SyncJobContext) -> None:
        seen.append(running.threads()[threading.get_ident()])

    job = running.Running("q", "hostile", "7", INVALID_SPAN)
    async with Threads(looks, "q") as threads:
        running.begin(job)
        try:
            await threads.run(call("unused"))
        finally:
            running.end()
    assert seen == [job]
    assert running.threads() == {}


async def test_cost_of_a_thread_that_can_not_be_started_is_that_job(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with Threads(lambda task, ctx: "done", "q") as threads:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuses)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await threads.run(call("unused"))
        assert await threads.run(call("unused")) == "done"


async def test_thread_that_never_ends_does_not_keep_the_process() -> None:
    program = """
        import asyncio, time
        from tests.hostile.rig import call
        from workers.runtime.isolation.thread import Threads
        async def main():
            async with Threads(lambda task, ctx: time.sleep(3600), "q") as threads:
                run = call("unused")
                task = asyncio.create_task(threads.run(run))
                await asyncio.sleep(0.1)
                run.kill()
            task.cancel()
            await asyncio.wait({task}, timeout=5)
        asyncio.run(main())
    """
    start = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 50)
    assert (process.returncode, output) == (0, b"")
    assert time.monotonic() - start < 50
