"""Locks outlive blocked loops, held GILs, stopped processes; what the dead held waits again at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker.activation import Activation
from workers.broker.deaths import Bounds
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobActive, JobCompleted, JobFailed, JobLost
from workers.broker.hold import Hold
from workers.broker.lease_table import Lease, LeaseTable
from workers.broker.renewer import Renewer
from workers.broker.takeover import Takeover, table_path

#: A process with one worker whose job does what its data says, with the leases in a shared table.
CHILD = """
import asyncio, math, os, re, sys, time
from pathlib import Path
from workers.broker.settings import WorkerSettings
from workers.broker.endings import Completed
from workers.broker.endpoint import Endpoint
from workers.broker.lease_table import LeaseTable
from workers.broker.renewer import Renewer
from workers.broker.takeover import table_path
from workers.broker.worker import FleetWorker

url, prefix, shared, lock_ms = sys.argv[1:5]

async def work(job, hold):
    print("run", job.fence, flush=True)
    if job.data["how"] == "regex":
        # Catastrophic, and under the GIL all the while. Each letter more takes 1.62 times as long.
        start = time.perf_counter()
        re.match(r"(a|aa)+$", "a" * 28 + "b")
        more = math.log(job.data["seconds"] / (time.perf_counter() - start), 1.618)
        re.match(r"(a|aa)+$", "a" * (28 + max(0, round(more))) + "b")
    if job.data["how"] == "sleep":
        await asyncio.sleep(job.data["seconds"])
    return Completed(result="child")

async def main():
    endpoint = Endpoint(url=url, prefix=prefix)
    client = endpoint.commands()
    renewer = Renewer(endpoint.commands, prefix, print, LeaseTable.create(table_path(Path(shared), os.getpid()), 4))
    worker = FleetWorker("q", work, client=client, blocking=endpoint.blocking("q", "child"), prefix=prefix,
        settings=WorkerSettings(name="child", lock_ms=int(lock_ms), stalled_interval_ms=300), renewer=renewer,
        emit=lambda event: print(type(event).__name__, flush=True))
    await worker.start()
    await worker.wait()

asyncio.run(main())
"""


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> Any:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@asynccontextmanager
async def watched(endpoint: Endpoint, directory: Path, deaths: int = 3) -> AsyncIterator[Takeover]:
    takeover = Takeover(endpoint.commands(), endpoint.prefix, directory, {"q": Bounds(deaths=deaths)})
    await takeover.start()
    yield takeover
    await takeover.stop(by=time.monotonic() + 5)


@pytest.fixture
def child(redis_url: str, prefix: str, tmp_path: Path) -> Any:
    processes: list[subprocess.Popen[str]] = []

    def start(lock_ms: int = 1000) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, redis_url, prefix, str(tmp_path), str(lock_ms)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


async def lines(process: subprocess.Popen[str], wanted: str, times: int = 1) -> None:
    assert process.stdout is not None
    seen = 0
    while seen < times:
        line = await asyncio.to_thread(process.stdout.readline)
        assert line, f"the child ended before it said {wanted!r}"
        seen += wanted in line


async def test_processor_that_blocks_the_loop_keeps_its_job(make_worker: MakeWorker, queue: Any) -> None:
    """The stock worker renews on the blocked loop: the job runs twice."""

    async def block(job: Activation, hold: Hold) -> Ending:
        time.sleep(2.5)  # noqa: ASYNC251 - blocking is what is tested
        return Completed(result=None)

    made = await make_worker(block, lock_ms=1000, stalled_interval_ms=200)
    await queue.add("n", {})
    await wait_until(lambda: made.of(JobCompleted))
    assert len(made.of(JobActive)) == 1
    assert not made.of(JobLost)


async def test_lock_is_not_renewed_past_the_bound(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    bounded = asyncio.Event()

    async def hang(job: Activation, hold: Hold) -> Ending:
        hold.bound(time.monotonic() + 0.3)
        bounded.set()
        await asyncio.sleep(30)
        return Completed(result=None)

    await make_worker(hang, lock_ms=600)
    job = await queue.add("n", {})
    await bounded.wait()

    lock = f"{prefix}:q:{job.id}:lock"

    async def gone() -> bool:
        return int(await redis.exists(lock)) == 0

    expired: bool = await wait_until(gone, timeout_s=5)
    assert expired


async def test_lost_lock_is_told_and_nothing_is_written(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    told: list[str] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        await hold.interrupted.wait()
        assert hold.interrupt is not None
        told.append(hold.interrupt.kind)
        return Completed(result="must not be written")

    made = await make_worker(work, lock_ms=600)
    job = await queue.add("n", {})
    await wait_until(lambda: made.of(JobActive))
    await redis.set(f"{prefix}:q:{job.id}:lock", "someone-else")
    await wait_until(lambda: made.of(JobLost))
    assert told == ["lock_lost"]
    assert await redis.hget(f"{prefix}:q:{job.id}", "returnvalue") is None
    await redis.delete(f"{prefix}:q:{job.id}:lock")


async def test_supervisor_renews_while_the_gil_is_held(
    endpoint: Endpoint, child: Callable[..., Any], queue: Any, tmp_path: Path, make_worker: MakeWorker
) -> None:
    process = child()
    await lines(process, "WorkerState")
    async with watched(endpoint, tmp_path):
        rival = None
        await queue.add("n", {"how": "regex", "seconds": 4})
        await lines(process, "run")
        rival = await make_worker(stalled_interval_ms=200, lock_ms=1000)
        await lines(process, "JobCompleted")
        assert not rival.of(JobActive), "nobody else may get the job meanwhile"


async def test_supervisor_renews_for_a_stopped_process(
    endpoint: Endpoint, child: Callable[..., Any], queue: Any, tmp_path: Path, make_worker: MakeWorker
) -> None:
    process = child()
    async with watched(endpoint, tmp_path):
        await queue.add("n", {"how": "sleep", "seconds": 0.5})
        await lines(process, "run")
        process.send_signal(signal.SIGSTOP)
        rival = await make_worker(stalled_interval_ms=200, lock_ms=1000)
        await asyncio.sleep(3.5)  # three lives of the lock
        assert not rival.of(JobActive)
        process.send_signal(signal.SIGCONT)
        await lines(process, "JobCompleted")


@pytest.mark.parametrize("deaths", [1, 2])
async def test_job_of_a_killed_process_waits_again_at_once_or_is_poison(
    endpoint: Endpoint,
    child: Callable[..., Any],
    queue: Any,
    tmp_path: Path,
    redis: Redis,
    prefix: str,
    make_worker: MakeWorker,
    deaths: int,
) -> None:
    process = child(lock_ms=60_000)
    async with watched(endpoint, tmp_path, deaths) as takeover:
        job = await queue.add("n", {"how": "sleep", "seconds": 30})
        await lines(process, "run")
        process.kill()
        process.wait()
        takeover.died(process.pid, "SIGKILL")
        rival = await make_worker(lock_ms=60_000, stalled_interval_ms=60_000)
        await wait_until(lambda: len(rival.of(JobCompleted)) + len(rival.of(JobFailed)))
    stored = await redis.hgetall(f"{prefix}:q:{job.id}")
    assert "stc" not in stored, "a known death is no stall"
    if deaths > 1:
        assert rival.of(JobCompleted)
    else:
        assert stored["failedReason"] == "poison: its process died once while it ran (last: SIGKILL)"
    entries: Any = await redis.xrange(f"{prefix}:q:events")
    events = [fields["event"] for _, fields in entries]
    assert "stalled" in events


async def test_job_of_a_process_that_was_asked_to_end_is_given_back_and_nothing_counted(
    endpoint: Endpoint,
    child: Callable[..., Any],
    queue: Any,
    tmp_path: Path,
    redis: Redis,
    prefix: str,
    make_worker: MakeWorker,
) -> None:
    process = child(lock_ms=60_000)
    async with watched(endpoint, tmp_path, deaths=1) as takeover:
        job = await queue.add("n", {"how": "sleep", "seconds": 30})
        await lines(process, "run")
        process.kill()
        process.wait()
        takeover.died(process.pid, None)
        rival = await make_worker(lock_ms=60_000, stalled_interval_ms=60_000)
        await wait_until(lambda: rival.of(JobCompleted))
    assert "stc" not in await redis.hgetall(f"{prefix}:q:{job.id}")
    assert [key async for key in redis.scan_iter(f"fleet:{prefix}:*")] == []


async def test_supervisor_knows_until_when_a_process_is_busy(
    endpoint: Endpoint, child: Callable[..., Any], queue: Any, tmp_path: Path, make_worker: MakeWorker
) -> None:
    process = child(lock_ms=60_000)
    async with watched(endpoint, tmp_path) as takeover:
        assert takeover.busy_until(2**22) is None
        await lines(process, "WorkerState")
        assert takeover.busy_until(process.pid) is None
        await queue.add("n", {"how": "sleep", "seconds": 0.5})
        await lines(process, "run")
        assert takeover.busy_until(process.pid) == float("inf")  # this child's jobs have no last rung
        await lines(process, "JobCompleted")
        await wait_until(lambda: takeover.busy_until(process.pid) is None)


async def test_jobs_that_start_or_end_just_now_say_nothing_of_how_long_the_others_may_run(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    table = LeaseTable.create(table_path(tmp_path, 7), 3)
    async with watched(endpoint, tmp_path) as takeover:
        table.beat()
        table.put(0, Lease("q", "starts", "t:0", 60_000))
        assert takeover.busy_until(7) == float("inf")
        table.put(1, Lease("q", "runs", "t:1", 60_000, until=1000.0, fence=3))
        table.put(2, Lease("q", "runs longer", "t:2", 60_000, until=2000.0))
        assert takeover.busy_until(7) == 2000.0
        assert table.leases()[1].fence == 3
    table.close()


async def test_lock_outlives_the_end_of_its_lease_where_a_supervisor_will_kill(
    endpoint: Endpoint, redis: Redis, prefix: str, tmp_path: Path
) -> None:
    """By the process's own thread, and by the supervisor where that thread can't."""
    lock = f"{prefix}:q:j:lock"

    async def lasts() -> bool:
        return int(await redis.pttl(lock)) > 0

    renewed: Callable[[], bool | Awaitable[bool]] = lasts
    table = LeaseTable.create(table_path(tmp_path, 7), 1)
    renewer = Renewer(endpoint.commands, prefix, lambda error: None, table)
    renewer.start()
    await redis.set(lock, "t:0")
    key = renewer.hold(Lease("q", "j", "t:0", 300), lambda: None)
    renewer.bound(key, time.monotonic() - 1)
    await wait_until(renewed)
    await renewer.stop()
    await redis.set(lock, "t:0")
    async with watched(endpoint, tmp_path):  # the table beats no more
        await wait_until(renewed)
    table.close()
    await redis.delete(lock)
