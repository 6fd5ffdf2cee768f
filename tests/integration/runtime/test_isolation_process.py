"""Child processes and what jobs do to them: that job fails, with the reason; the next one finds a child that works."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from tests.conftest import wait_until
from tests.hostile.rig import Answers, call, children, is_gone, isolated, own_descriptors, own_zombies
from workers.broker.events import ChildDied, ChildReady, ChildRecycled, ChildStartFailed, Event
from workers.broker.reconnect import Reconnect
from workers.contract import CrashedError, Snooze
from workers.runtime.isolation import frames
from workers.runtime.isolation.brief import Brief
from workers.runtime.isolation.child import StartError
from workers.runtime.isolation.children import Children, Limits
from workers.runtime.isolation.choice import IsolationError
from workers.runtime.isolation.place import NoPlaceError
from workers.runtime.isolation.processors import ResultError
from workers.runtime.isolation.thread import Threads

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["async", "sync"])
async def each(request: pytest.FixtureRequest) -> AsyncIterator[Children]:
    """One child at a time, of each kind of processor; replaced when it dies."""
    async with children(request.param, size=1) as there:
        yield there


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[Children]:
    """The same with an `async def`, where the kind makes no difference."""
    async with children(size=1) as there:
        yield there


async def works(pool: Children) -> bool:
    return bool(await pool.run(call("echo", value="works")) == "works")


async def begun(pool: Children, act: str, **args: Any) -> tuple[asyncio.Task[Any], Any, Answers]:
    """A run that has begun: its task, its call, what it asked."""
    context = Answers()
    run = call(act, context, **args)
    task = asyncio.create_task(pool.run(run))
    await wait_until(lambda: run.on_kill is not None)
    return task, run, context


# ----------------------------------------------------------------------- deaths


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"signal": "SIGKILL"}, "its process was killed by SIGKILL"),
        ({"signal": "SIGSEGV", "truly": True}, "its process was killed by SIGSEGV"),
        ({"signal": "SIGTERM"}, "its process was killed by SIGTERM"),
        ({"signal": "SIGABRT"}, "its process was killed by SIGABRT"),
        ({"exit": 0}, "its process ended with exit code 0 before the job did"),
        ({"exit": 7}, "its process ended with exit code 7 before the job did"),
    ],
)
async def test_death_of_the_process_is_a_failure_that_names_its_cause(
    each: Children, args: dict[str, Any], said: str
) -> None:
    with pytest.raises(CrashedError) as raised:
        await each.run(call("dies", **args))
    assert str(raised.value) == said
    assert await works(each)
    assert own_zombies() == []


async def test_crash_in_c_leaves_its_python_frames_in_the_log(pool: Children, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fleet.output")
    with pytest.raises(CrashedError):
        await pool.run(call("dies", signal="SIGSEGV", truly=True))
    await wait_until(lambda: "Fatal Python error: Segmentation fault" in caplog.text)
    assert "in dies" in caplog.text


async def test_memory_beyond_the_limit_fails_the_job_and_not_its_process() -> None:
    async with children(size=1, children={"memory_limit": "1GB"}) as pool:
        assert await pool.run(call("limits")) == 2**30
        before = pool.pids
        with pytest.raises(Exception, match="MemoryError") as raised:
            await pool.run(call("eats_memory"))
        assert getattr(raised.value, "name", "") == "MemoryError"
        limit = "its child process may use 1GB of address space (task.children.memory_limit)"
        assert str(raised.value) == f"MemoryError: {limit}"
        assert await works(pool)
        assert pool.pids == before


@pytest.mark.parametrize("act", ["never_yields", "holds_gil", "ignores_everything", "sleeps_in_c"])
async def test_processor_that_does_not_end_when_asked_ends_when_killed(each: Children, act: str) -> None:
    task, run, _ = await begun(each, act, seconds=3600)
    pids = each.pids
    task.cancel()
    await asyncio.sleep(0.1)
    assert not task.done()
    run.kill()
    run.kill()
    await asyncio.wait({task}, timeout=20)
    assert task.cancelled() or isinstance(task.exception(), CrashedError)
    assert all(is_gone(pid) for pid in pids)
    assert await works(each)


async def test_process_that_dies_between_two_jobs_is_told_and_replaced() -> None:
    errors: list[Exception] = []
    async with children(size=1, on_error=errors.append) as pool:
        os.kill(next(iter(pool.pids)), signal.SIGKILL)
        await wait_until(lambda: errors)
        assert str(errors[0]) == "a child process of queue hostile died between two jobs"
        assert await works(pool)


async def test_host_that_is_killed_takes_its_children_with_it(tmp_path: Path) -> None:
    program = f"""
        import asyncio, os, sys
        from tests.hostile.rig import call, children
        async def main():
            async with children(size=2) as pool:
                busy = asyncio.ensure_future(pool.run(call("holds_gil")))
                await asyncio.sleep(0)
                await pool.run(call("echo", value=1))
                with open({str(tmp_path / "pids")!r}, "w") as file:
                    file.write(" ".join(map(str, pool.pids)) + " ")
                await asyncio.sleep(3600)
        asyncio.run(main())
    """
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(program))
    told = tmp_path / "pids"
    try:
        await wait_until(lambda: told.exists() and told.read_text().endswith(" "))
    finally:
        host.kill()
        await host.wait()
    pids = [int(pid) for pid in told.read_text().split()]
    assert len(pids) == 2
    await wait_until(lambda: all(is_gone(pid) for pid in pids))


# ---------------------------------------------------------- forks and leftovers


@pytest.mark.parametrize("copy", ["returns", "progress", "exit"])
async def test_copy_that_a_job_forks_ends_instead_of_answering_too(each: Children, copy: str) -> None:
    context = Answers()
    pid, _ = await each.run(call("forks", context, copy=copy))
    assert is_gone(pid)
    assert context.asked == []
    assert await works(each)


async def test_copy_that_lives_on_ends_with_its_job(each: Children, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pid, _ = await each.run(call("forks", copy="sleep"))
    assert is_gone(pid)
    assert "the job left processes behind; they were killed" in caplog.messages


async def test_copy_that_waits_for_the_loop_ends_there() -> None:
    async with children(size=1) as pool:
        assert await pool.run(call("forks", copy="pause", wait=True)) == [pytest.approx(2**31, abs=2**31), 70 << 8]
        pid, _ = await pool.run(call("forks_in_subtask"))
        assert is_gone(pid)
        pid, _ = await pool.run(call("forks_in_thread"))
        await wait_until(lambda: is_gone(pid))
        assert await works(pool)


async def test_processes_that_a_job_leaves_behind_end_with_it(each: Children, caplog: pytest.LogCaptureFixture) -> None:
    pids = await each.run(call("leaves_processes"))
    assert [is_gone(pid) for pid in pids] == [True, True]
    (record,) = [record for record in caplog.records if "left processes behind" in record.message]
    assert vars(record)["processes"] == 2
    assert await works(each)


async def test_processes_of_a_killed_job_end_with_it(pool: Children) -> None:
    task, run, _ = await begun(pool, "leaves_processes_and_waits")
    parent = psutil.Process(*pool.pids)
    await wait_until(lambda: len(parent.children(recursive=True)) == 2)
    below = [each.pid for each in parent.children(recursive=True)]
    run.kill()
    with pytest.raises(CrashedError):
        await task
    await wait_until(lambda: all(is_gone(pid) for pid in below))


async def test_group_of_a_process_that_crashed_ends_with_it(pool: Children, tmp_path: Path) -> None:
    with pytest.raises(CrashedError):
        await pool.run(call("leaves_processes", dies=True, file=str(tmp_path / "pids")))
    sleeper, detached = map(int, (tmp_path / "pids").read_text().split())
    await wait_until(lambda: is_gone(sleeper))
    os.kill(detached, signal.SIGKILL)  # it had left the group, and its parent could not take it along


async def test_helper_of_the_module_itself_stays() -> None:
    async with children(size=1, options={"helper": True}) as pool:
        helper = await pool.run(call("helper_pid"))
        assert await works(pool)
        assert not is_gone(helper)
        await pool.run(call("leaves_processes"))
        assert not is_gone(helper)
    await wait_until(lambda: is_gone(helper))


# ------------------------------------------------------- descriptors and output


async def test_closed_descriptors_cost_that_job_at_most(each: Children) -> None:
    try:
        assert await each.run(call("closes_descriptors")) == "closed"
    except CrashedError as error:
        assert "exit code" in str(error)
    assert await works(each)


@pytest.mark.parametrize("act", ["closes_standard_streams", "redirects_output", "changes_directory"])
async def test_process_whose_streams_or_directory_a_job_has_changed_is_replaced(pool: Children, act: str) -> None:
    pids = pool.pids
    assert await pool.run(call(act)) == "done"
    assert await pool.run(call("writes", bytes=80)) == "written"
    assert not pool.pids & pids


async def test_output_becomes_log_lines_of_the_job(each: Children, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fleet.output")
    await each.run(call("writes", bytes=20, line="a line of 19 chars.", tail="half a line \udcff\x1b"))
    await wait_until(lambda: len(caplog.messages) >= 2)
    assert caplog.messages == ["a line of 19 chars.", "half a line \\udcff\x1b"]
    assert vars(caplog.records[0])["queue"] == "hostile"


async def test_flood_of_output_is_cut_counted_and_felt_by_nobody(
    pool: Children, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fleet.output")
    before = psutil.Process().memory_info().rss
    flood = asyncio.create_task(pool.run(call("writes", bytes=60_000_000)))
    late: list[float] = []
    while not flood.done():
        start = time.monotonic()
        await asyncio.sleep(0.001)
        late.append(time.monotonic() - start)
    assert await flood == "written"
    assert len(late) > 100, "the loop did not turn meanwhile"
    await wait_until(lambda: "further bytes of output were dropped" in caplog.text)
    lines = [message for message in caplog.messages if message.startswith("xxx")]
    assert 400 < len(lines) <= 500
    (note,) = [message for message in caplog.messages if "dropped" in message]
    assert int(note.split()[0].replace(",", "")) > 59_000_000
    assert psutil.Process().memory_info().rss - before < 30_000_000


async def test_flood_of_log_records_is_cut_and_counted(pool: Children, caplog: pytest.LogCaptureFixture) -> None:
    await pool.run(call("logs", times=3000))
    said = [message for message in caplog.messages if message.startswith("said ")]
    assert 400 < len(said) < 1500
    (record,) = [record for record in caplog.records if "logged too fast" in record.message]
    assert len(said) + vars(record)["lines"] >= 3000


async def test_flood_of_calls_is_answered(pool: Children) -> None:
    context = Answers(slow_s=0.001)
    await pool.run(call("floods", context, calls=500))
    assert sorted(context.of("log")) == sorted((str(n),) for n in range(500))


@pytest.mark.parametrize(
    "text",
    [
        "\xff\xff\xff\xff????",
        "\x00\x00\x00\x02no",
        "\x00\x00\x00\x0e" + '{"is": "done"}',
        "\x00\x00\x00\x0d" + '{"is": "log"}',
        "\x00\x00\x00\x02[]",
    ],
)
async def test_what_is_no_frame_ends_the_process_that_sent_it(pool: Children, text: str) -> None:
    with pytest.raises(CrashedError, match="its process sent what is no frame"):
        await pool.run(call("writes_frames", text=text))
    assert await works(pool)


# ------------------------------------------------------------------------ sizes


async def test_result_that_is_too_large_is_a_failure_that_says_so(pool: Children) -> None:
    with pytest.raises(Exception, match=r"its result can't leave its child process: .* more than the 67,108,864"):
        await pool.run(call("large", bytes=frames.MAX_FRAME))
    assert await works(pool)


async def test_data_that_is_too_large_is_a_failure_that_says_so(
    pool: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await works(pool)
    pids = pool.pids
    with monkeypatch.context() as patch:
        patch.setattr(frames, "MAX_FRAME", 1000)
        with pytest.raises(ResultError, match="its data can't be sent to a child process: 1,"):
            await pool.run(call("echo", value="x" * 1000))
    assert await works(pool)
    assert pool.pids == pids


async def test_memory_of_a_job_is_measured(each: Children) -> None:
    size = 40 * 2**20
    run = call("grows", bytes=size, more=size)
    await each.run(run)
    memory = run.memory
    assert memory is not None
    assert size * 0.9 < memory.delta < size * 1.6
    assert memory.peak is None or memory.peak - memory.before > size * 1.9
    after = call("echo", value=1)
    await each.run(after)
    assert after.memory is not None
    assert abs(after.memory.delta) < size / 4
    assert after.memory.peak is None or after.memory.peak < after.memory.before + size / 4


# ------------------------------------------------------------------- life cycle


async def test_child_is_replaced_after_its_jobs_without_leaving_a_trace() -> None:
    async with children(size=1, max_jobs=2) as pool:
        assert await works(pool)
        descriptors, seen = own_descriptors(), []
        for _ in range(10):
            for _ in range(2):
                seen.append((await pool.run(call("facts")))["pid"])
    assert len(set(seen)) >= 10
    assert all(is_gone(pid) for pid in seen)
    assert own_zombies() == []
    await wait_until(lambda: own_descriptors() <= descriptors)


async def test_child_that_has_grown_is_replaced_after_its_job() -> None:
    async with children(size=1, memory=100 * 2**20) as pool:
        first = (await pool.run(call("facts")))["pid"]
        assert (await pool.run(call("facts")))["pid"] == first
        await pool.run(call("grows", bytes=80 * 2**20))
        assert (await pool.run(call("facts")))["pid"] != first
        await wait_until(lambda: is_gone(first))


async def test_children_are_started_until_there_is_one_for_each_slot_and_no_more() -> None:
    async with children(size=3) as pool:
        assert len(pool.pids) == 1
        assert await works(pool)
        await wait_until(lambda: len(pool.pids) == 3)
        pids = pool.pids
        await asyncio.gather(*(pool.run(call("echo", value=1)) for _ in range(20)))
        assert pool.pids == pids
    await wait_until(lambda: all(is_gone(pid) for pid in pids))


async def test_children_are_not_all_started_at_once() -> None:
    before, most = {each.pid for each in psutil.Process().children()}, 0
    ready: list[Event] = []
    async with children(size=6, starts=2, tell=ready.append) as pool:
        runs = [asyncio.create_task(pool.run(call("sleeps_in_c", seconds=1.0))) for _ in range(6)]
        while not all(run.done() for run in runs):
            there = {each.pid for each in psutil.Process().children()} - before
            most = max(most, len(there - pool.pids))
            await asyncio.sleep(0.01)
        assert 1 <= most <= 2 + 1  # one may be ready and not counted yet
    assert len(ready) >= 2


async def test_successor_is_ready_before_its_predecessor_is_used_up() -> None:
    events: list[Event] = []
    async with children(size=1, max_jobs=3, tell=events.append) as pool:
        (first,) = pool.pids
        for _ in range(2):
            assert (await pool.run(call("facts")))["pid"] == first
        await wait_until(lambda: len(pool.pids) == 2)
        last = asyncio.create_task(pool.run(call("facts")))
        assert (await last)["pid"] == first
        place = pool.take()
        assert place is not None, "the next job waits for a start"
        place.free()
        assert (await pool.run(call("facts")))["pid"] != first
        await wait_until(lambda: is_gone(first))
        assert events.count(ChildRecycled(queue="hostile", reason="jobs")) == 1
        assert len([event for event in events if isinstance(event, ChildReady)]) == 2


async def test_successor_of_a_child_with_one_job_waits_for_it() -> None:
    async with children(size=1, max_jobs=1) as pool:
        task, run, _ = await begun(pool, "waits")
        await wait_until(lambda: len(pool.pids) == 2)
        second = asyncio.create_task(pool.run(call("echo", value=2)))
        await asyncio.sleep(0.05)
        assert not second.done(), "more jobs run than there are slots"
        run.kill()
        await asyncio.wait({task})
        assert await second == 2


async def test_run_that_is_cancelled_while_it_waits_for_a_child_costs_nothing() -> None:
    async with children(size=1) as pool:
        first = asyncio.create_task(pool.run(call("sleeps_in_c", seconds=0.3)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(pool.run(call("echo", value=2)))
        third = asyncio.create_task(pool.run(call("echo", value=3)))
        await asyncio.sleep(0.05)
        second.cancel()
        assert [*await asyncio.gather(first, third)] == ["awake", 3]
        assert second.cancelled()


async def test_module_is_opened_and_closed_in_the_child(tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with children(size=1, options={"note_file": str(note)}) as pool:
        assert await works(pool)
        assert note.read_text() == "opened\n"
    assert note.read_text() == "opened\nclosed\n"


async def test_module_that_does_not_close_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    async with children(size=1, options={"ends_in_s": 3600}) as pool:
        (pid,) = pool.pids
    assert is_gone(pid)
    assert "did not end within 1 s; killing it" in caplog.text


async def test_children_that_are_asked_to_end_have_not_died() -> None:
    errors: list[Exception] = []
    async with children(size=1, on_error=errors.append) as pool:
        assert await works(pool)
    assert errors == []


async def test_children_that_run_jobs_end_with_their_pool() -> None:
    async with children(size=1) as pool:
        task, _, _ = await begun(pool, "never_yields")
        (pid,) = pool.pids
    assert is_gone(pid)
    with pytest.raises(CrashedError):
        await task
    with pytest.raises(NoPlaceError, match="have ended"):
        await pool.run(call("echo", value=1))


async def test_start_takes_a_moment_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with children(size=1) as pool:
        assert pool.started_in_s is not None
        assert 0.02 < pool.started_in_s < 30
    assert "queue hostile: the first child process was ready after" in caplog.text


async def test_child_knows_nothing_of_redis() -> None:
    async with children(size=1) as pool:
        assert (await pool.run(call("facts")))["modules"] == []


# --------------------------------------------------------------- failing starts


async def test_module_that_can_not_be_opened_refuses_the_start_with_its_reason() -> None:
    before = own_descriptors()
    with pytest.raises(StartError, match=r"^no licence$"):
        async with isolated(options={"refuses": "no licence"}):
            raise AssertionError("opened")
    assert own_zombies() == []
    assert own_descriptors() <= before


async def test_module_that_can_not_be_imported_refuses_the_start() -> None:
    brief = Brief(
        queue="hostile", module="tests.hostile.nowhere", options={}, path=tuple(sys.path), host_pid=os.getpid()
    )
    with pytest.raises(StartError, match=r"module 'tests.hostile.nowhere' of queue hostile: importing it failed"):
        async with Children(brief, Limits(size=1, max_jobs=1, memory=1)):
            raise AssertionError("opened")


async def test_options_that_are_no_json_refuse_the_start() -> None:
    options = {"token": object()}
    brief = Brief(
        queue="hostile", module="tests.hostile.module", options=options, path=tuple(sys.path), host_pid=os.getpid()
    )
    with pytest.raises(StartError, match=r"task.options"):
        async with Children(brief, Limits(size=1, max_jobs=1, memory=1)):
            raise AssertionError("opened")


async def test_start_that_is_called_off_leaves_no_process() -> None:
    before = {each.pid for each in psutil.Process().children()}
    opening = asyncio.create_task(children(size=1, options={"opens_in_s": 3600}).__aenter__())
    await wait_until(lambda: {each.pid for each in psutil.Process().children()} - before)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert {each.pid for each in psutil.Process().children()} <= before


async def test_job_that_no_child_can_be_started_for_is_put_off_and_it_is_told_once(tmp_path: Path) -> None:
    errors: list[Exception] = []
    events: list[Event] = []
    refusal = tmp_path / "refusal"
    more: dict[str, Any] = {"options": {"refuse_file": str(refusal)}, "backoff": Reconnect(0.05, 0.1)}
    async with children(size=1, on_error=errors.append, tell=events.append, patience_s=0.5, **more) as pool:
        assert pool.trouble == ""
        refusal.touch()
        with pytest.raises(CrashedError):
            await pool.run(call("dies", exit=1))
        await wait_until(lambda: pool.trouble)
        assert pool.trouble == "no child process can be started: refused by a file"
        with pytest.raises(NoPlaceError, match="no child process can be started: refused by a file"):
            await pool.run(call("echo", value=1))
        await wait_until(lambda: events.count(ChildStartFailed(queue="hostile")) >= 3)
        assert [str(error) for error in errors] == ["refused by a file"]
        refusal.unlink()  # it recovers by itself
        await wait_until(lambda: not pool.trouble)
        await wait_until(lambda: len(pool.pids) == 1)
        assert await works(pool)


async def test_queue_whose_first_child_dies_at_its_start_is_open_and_recovers(tmp_path: Path) -> None:
    """The queues beside it must not wait for it, nor end with it."""
    errors: list[Exception] = []
    deadly = tmp_path / "deadly"
    deadly.touch()
    more: dict[str, Any] = {"options": {"dies_file": str(deadly)}, "backoff": Reconnect(0.05, 0.1)}
    async with children(size=1, on_error=errors.append, children={"memory_limit": "2GB"}, **more) as pool:
        assert pool.trouble == (
            "no child process can be started: its process ended with exit code 1 while it started "
            "(task.children.memory_limit: 2,147,483,648 bytes)"
        )
        assert len(errors) == 1
        deadly.unlink()
        await wait_until(lambda: not pool.trouble)
        assert await works(pool)


async def test_starts_that_fail_are_tried_again_after_pauses_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def none(*_: Any) -> Any:
        tried.append(time.monotonic())
        raise OSError(24, "Too many open files")

    async with children(size=3, backoff=Reconnect(0.2, 10.0)) as pool:
        await wait_until(lambda: len(pool.pids) == 3)
        with monkeypatch.context() as patch:
            patch.setattr("socket.socketpair", none)
            with pytest.raises(CrashedError):
                await pool.run(call("dies", exit=1))
            await wait_until(lambda: len(tried) == 4)
        assert tried[3] - tried[0] >= (0.2 + 0.4 + 0.8) / 2  # half of each is left to chance
        assert pool.trouble == "", "two others work"
        assert await works(pool)
        await wait_until(lambda: len(pool.pids) == 3)


async def test_job_that_waits_too_long_for_a_child_is_put_off() -> None:
    async with children(size=1, patience_s=0.1) as pool:
        task, run, _ = await begun(pool, "waits")
        with pytest.raises(NoPlaceError, match=r"no child process was free within 0.1 s") as raised:
            await pool.run(call("echo", value=1))
        assert raised.value.wait_s > 0
        run.kill()
        await asyncio.wait({task})


async def test_place_whose_child_dies_before_the_job_begins_puts_the_job_off() -> None:
    async with children(size=1) as pool:
        place = pool.take()
        assert place is not None
        os.kill(next(iter(pool.pids)), signal.SIGKILL)
        await wait_until(lambda: not pool.pids)
        assert isinstance(await place.run(call("echo", value=1)), Snooze)
        assert await works(pool)


async def test_children_are_started_without_the_context_of_the_job_that_brings_it_about() -> None:
    """Or all that is logged of them would be that job's."""
    mine: ContextVar[str] = ContextVar("mine", default="nobody")
    seen: list[str] = []
    async with children(size=1, tell=lambda event: seen.append(f"{type(event).__name__} {mine.get()}")) as pool:
        mine.set("a job")
        with pytest.raises(CrashedError):
            await pool.run(call("dies", exit=1))
        assert await works(pool)
        await wait_until(lambda: len(seen) == 3)
        assert sorted(seen) == ["ChildDied nobody", "ChildReady nobody", "ChildReady nobody"]


@pytest.mark.parametrize(
    ("act", "args", "reason"),
    [("dies", {"signal": "SIGABRT"}, "SIGABRT"), ("dies", {"exit": 3}, "exit"), ("waits", {}, "killed")],
)
async def test_death_of_a_child_is_counted_by_its_reason(act: str, args: dict[str, Any], reason: str) -> None:
    events: list[Event] = []
    async with children(size=1, tell=events.append) as pool:
        if reason == "killed":
            task, run, _ = await begun(pool, act, **args)
            run.kill()
            await asyncio.wait({task})
        else:
            with pytest.raises(CrashedError):
                await pool.run(call(act, **args))
        await wait_until(lambda: any(isinstance(event, ChildDied) for event in events))
        assert [event.reason for event in events if isinstance(event, ChildDied)] == [reason]


async def test_descriptors_that_are_exhausted_are_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async with children(size=1, backoff=Reconnect(0.01, 0.01), patience_s=0.3) as pool:
        with monkeypatch.context() as patch:
            patch.setattr("socket.socketpair", _no_descriptors)
            with pytest.raises(CrashedError):
                await pool.run(call("dies", exit=1))
            with pytest.raises(NoPlaceError, match="no child process can be started: its process can't be started"):
                await pool.run(call("echo", value=1))
        await wait_until(lambda: not pool.trouble and pool.pids)
        assert await works(pool)


def _no_descriptors(*_: Any) -> Any:
    raise OSError(24, "Too many open files")


# ------------------------------------------------------------------------ choice


async def test_async_processor_does_not_go_into_a_thread_and_the_field_is_named() -> None:
    with pytest.raises(IsolationError, match=r"^queues.hostile.task.isolation: thread is for processors that are a"):
        async with isolated("thread", "async"):
            raise AssertionError("opened")


async def test_plain_function_goes_into_a_thread_whatever_is_asked() -> None:
    async with isolated("async", "sync") as there:
        assert isinstance(there, Threads)


@pytest.mark.parametrize("kind", [("async", "async"), ("thread", "sync")])
async def test_no_process_is_started_where_none_is_asked_for(kind: tuple[str, str]) -> None:
    before = len(psutil.Process().children())
    async with isolated(*kind) as there:
        await there.run(call("echo", value=1))
        assert len(psutil.Process().children()) == before


async def test_options_that_the_child_refuses_are_named_and_not_shown() -> None:
    options = {"opens_in_s": "hunter2"}
    brief = Brief(
        queue="hostile", module="tests.hostile.module", options=options, path=tuple(sys.path), host_pid=os.getpid()
    )
    with pytest.raises(StartError, match=r"^task.options are not valid in its child process: opens_in_s: ") as raised:
        async with Children(brief, Limits(size=1, max_jobs=1, memory=1)):
            raise AssertionError("opened")
    assert "hunter2" not in str(raised.value)


async def test_entry_of_a_child_imports_neither_redis_nor_bullmq_nor_aiohttp() -> None:
    program = "import sys, json, workers.cli.task_process; print(json.dumps(sorted(sys.modules)))"
    entry = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    modules = json.loads((await entry.communicate())[0])
    assert [name for name in ("redis", "bullmq", "aiohttp", "structlog", "opentelemetry") if name in modules] == []
