"""A process of the fleet that serves the hostile module: where its jobs run, and what their forks do, which is nothing.

A copy that a processor forks in the process of its pool ends, and nothing that the process does is done twice.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.hostile.rig import MODULES, is_gone

USER = {"id": "614", "hasPremium": True}
RUN: dict[str, Any] = {
    "type": "run-start",
    "id": "614402200000777",
    "status": "Scheduled",
    "context": {"swarmId": "s", "userData": USER, "timestamp": "2026-01-01T00:00:00.000Z"},
    "input": {
        "runId": "1",
        "resourceVersionId": "2",
        "isNewRun": True,
        "runFrom": "Api",
        "startedById": "614",
        "status": "Scheduled",
    },
    "allocation": {"maxCredits": "1", "maxDurationMs": 1, "maxMemoryMB": 1, "maxConcurrentSteps": 1},
}

StartHost: TypeAlias = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start_host(redis_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[StartHost]:
    """Starts a process that serves queue `hostile`; where it still runs at the end, it must drain."""
    hosts: list[asyncio.subprocess.Process] = []

    async def start(
        flavour: str,
        *,
        own: dict[str, Any] | None = None,
        others: dict[str, Any] | None = None,
        tiers: dict[str, Any] | None = None,
        **task: Any,
    ) -> asyncio.subprocess.Process:
        served = {"timeout": "30s", **task}
        entry = {"pool": "p", "module": MODULES[flavour].__name__, "concurrency": 3, "task": served, **(own or {})}
        config = {
            "redis": {"url": redis_url, "prefix": prefix},
            "http": {"port": 0},
            "log": {"format": "json"},
            "tiers": tiers or {},
            "pools": {"p": {}},
            "queues": {"hostile": entry, **(others or {})},
        }
        with (tmp_path / "log").open("wb") as log:
            host = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.hostile.host", stdin=asyncio.subprocess.PIPE, stderr=log
            )
        hosts.append(host)
        assert host.stdin is not None
        host.stdin.write(json.dumps(config).encode())
        host.stdin.close()
        return host

    yield start
    for host in [host for host in hosts if host.returncode is None]:
        host.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(host.wait(), 20) == 0, (tmp_path / "log").read_text()


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("hostile", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def added(queue: Any, act: str, **args: Any) -> str:
    job = await queue.add("n", {"type": "hostile", "id": "1", "act": act, "args": args})
    return str(job.id)


async def result(redis: Redis, prefix: str, job_id: str) -> Any:
    async def stored() -> Any:
        return await redis.hget(f"{prefix}:hostile:{job_id}", "returnvalue")

    return json.loads(await wait_until(stored))


async def commands(redis: Redis, job_id: str, until: Awaitable[Any]) -> list[str]:
    """What was sent about the job while it ran, by the scripts' digests."""
    seen = []
    async with redis.monitor() as monitor:
        work = asyncio.ensure_future(until)

        async def listen() -> None:
            async for command in monitor.listen():
                words = re.split(r"[\s:]+", command["command"])
                if job_id in words and command["client_type"] != "lua" and words[0].lower() == "evalsha":
                    seen.append(words[1])

        listening = asyncio.create_task(listen())
        await work
        await asyncio.sleep(0.2)
        listening.cancel()
        await asyncio.wait({listening})
    return seen


# ------------------------------------------------------------------------- forks


FORKS = [
    ("async", "forks", {}),
    ("async", "forks", {"copy": "progress"}),
    ("async", "forks", {"copy": "pause"}),
    ("async", "forks", {"copy": "exit"}),
    ("async", "forks_in_subtask", {"copy": "pause"}),
    ("async", "forks_in_callback", {}),
    ("async", "forks_in_thread", {}),
    ("sync", "forks", {}),
    ("sync", "forks", {"copy": "progress"}),
    ("sync", "forks", {"copy": "exit"}),
]


@pytest.mark.parametrize(("flavour", "act", "args"), FORKS)
async def test_copy_ends_and_does_nothing_that_the_process_does(
    start_host: StartHost,
    queue: Any,
    redis: Redis,
    prefix: str,
    tmp_path: Path,
    flavour: str,
    act: str,
    args: dict[str, Any],
) -> None:
    host = await start_host(flavour)
    ticks, copies = tmp_path / "ticks", tmp_path / "copies"
    neighbour = await added(queue, "ticks", file=str(ticks), until=str(tmp_path / "stop"))
    await wait_until(lambda: ticks.exists() and len(ticks.read_text().split()) > 5)

    async def forked() -> tuple[int, Any]:
        job_id = await added(queue, act, file=str(copies), **args)
        pid, status = await result(redis, prefix, job_id)
        return pid, status

    pid, _ = await forked()
    await wait_until(lambda: is_gone(pid))
    after = len(ticks.read_text().split())
    await wait_until(lambda: len(ticks.read_text().split()) > after + 20)
    (tmp_path / "stop").touch()
    assert await result(redis, prefix, neighbour) == "ticked"

    assert {int(each) for each in ticks.read_text().split()} == {host.pid}, "the copy took a step of its neighbour's"
    events: Any = await redis.xrange(f"{prefix}:hostile:events")
    ends = [fields["jobId"] for _, fields in events if fields["event"] in ("completed", "failed")]
    assert sorted(ends) == ["1", "2"]
    assert await redis.hget(f"{prefix}:hostile:2", "ats") == "1"
    assert [each.pid for each in psutil.Process(host.pid).children() if not is_gone(each.pid)] == []
    assert "connection to Redis lost" not in (tmp_path / "log").read_text()


async def test_fork_changes_nothing_in_what_is_sent_to_redis(
    start_host: StartHost, queue: Any, redis: Redis, prefix: str
) -> None:
    await start_host("async")
    await result(redis, prefix, await added(queue, "tells_progress"))  # the scripts are loaded now
    sent: list[list[str]] = []
    for act, args in (("tells_progress", {}), ("forks", {"copy": "progress", "both": True})):
        job_id = str(90_001 + len(sent))
        data = {"type": "hostile", "id": "1", "act": act, "args": args}

        async def done(job_id: str = job_id, data: dict[str, Any] = data) -> None:
            await queue.add("n", data, {"jobId": job_id})
            await result(redis, prefix, job_id)

        sent.append(await commands(redis, job_id, done()))
    assert sent[0] == sent[1]
    assert len(sent[0]) == 2  # its progress, its end


@pytest.mark.parametrize("flavour", ["async", "sync"])
async def test_multiprocessing_and_subprocess_work_in_the_process_of_a_pool(
    start_host: StartHost, queue: Any, redis: Redis, prefix: str, flavour: str
) -> None:
    await start_host(flavour)
    job_id = await added(queue, "starts_processes")
    assert await result(redis, prefix, job_id) == [42, 0, "out\n", 3]
    assert await result(redis, prefix, await added(queue, "echo", value="after")) == "after"


# ------------------------------------------------------------------ child processes


async def test_queue_whose_jobs_run_in_children_opens_its_module_there_alone(
    start_host: StartHost, queue: Any, redis: Redis, prefix: str, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    host = await start_host("async", isolation="process", options={"note_file": str(note)})
    facts = await result(redis, prefix, await added(queue, "facts"))
    assert facts["pid"] in [each.pid for each in psutil.Process(host.pid).children()]
    assert note.read_text() == "opened\n"
    job_id = await added(queue, "logs")
    await wait_until(lambda: "with a stack" in (tmp_path / "log").read_text())
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (said,) = [record for record in records if record["event"] == "said 0"]
    assert (said["queue"], said["job_id"], said["logger"]) == ("hostile", job_id, "tests.hostile.acts")
    (failed,) = [record for record in records if record["event"] == "with a stack"]
    assert "StrangeError: logged" in failed["exception"]
    host.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(host.wait(), 20) == 0
    assert is_gone(facts["pid"])
    assert note.read_text() == "opened\nclosed\n"


def nested(levels: int) -> Any:
    """Lists in lists."""
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    return deep


async def failure(redis: Redis, prefix: str, job_id: str) -> Any:
    async def stored() -> Any:
        return await redis.hget(f"{prefix}:hostile:{job_id}", "failedReason")

    return await wait_until(stored)


@pytest.mark.parametrize("flavour", ["async", "sync"])
async def test_raised_bound_holds_in_children_and_for_what_they_add(
    start_host: StartHost, queue: Any, redis: Redis, prefix: str, flavour: str
) -> None:
    runs = {"pool": "p", "concurrency": 1, "max_depth": 150, "task": {"timeout": "1m"}}
    await start_host(flavour, own={"max_depth": 200}, others={"run-start": runs}, isolation="process")
    run = {**RUN, "newer": nested(140)}
    assert await result(redis, prefix, await added(queue, "adds", task=run)) == "task-614402200000777"
    row: Any = await redis.hgetall(f"{prefix}:run-start:task-614402200000777")
    assert json.loads(row["data"]) == run
    assert json.loads(row["opts"])["priority"] == int(row["priority"]) == 100 - 16 - 5
    assert await redis.zrange(f"{prefix}:run-start:prioritized", 0, -1) == ["task-614402200000777"]

    reason = await failure(redis, prefix, await added(queue, "adds", task={**RUN, "newer": nested(170)}))
    assert reason.startswith("a task of type 'run-start' is more than queue run-start accepts: data.newer.0.")
    assert reason.endswith("expected at most 150 levels, found more")
    reason = await failure(redis, prefix, await added(queue, "echo", value=nested(200)))
    assert reason.startswith("data.args.value.0.")
    assert reason.endswith("expected at most 200 levels, found more")


async def test_generic_priority_knows_the_settings_rule_for_enterprise_and_the_depth_of_the_queue(
    start_host: StartHost, queue: Any, redis: Redis, redis_url: str, prefix: str
) -> None:
    runs = Queue("run-start", {"connection": redis_url, "prefix": prefix})
    await runs.addBulk([{"name": "n", "data": {}, "opts": {}} for _ in range(250)])
    await runs.close()
    entry = {"pool": "p", "concurrency": 1, "limits": {"depth": 1000}}
    entry |= {"task": {"timeout": "1m", "priority": "generic"}}
    tiers = {"enterprise": {"field": "creditSettings.plan", "values": ["gold"]}}
    await start_host("async", others={"run-start": entry}, tiers=tiers)
    users: list[dict[str, Any]] = [{}, {"isEnterprise": True}, {"creditSettings": {"plan": "gold"}}]
    found = []
    for number, user in enumerate(users):
        context = {**RUN["context"], "userData": {"id": "614", **user}}
        job_id = await result(
            redis, prefix, await added(queue, "adds", task={**RUN, "id": f"r{number}", "context": context})
        )
        found.append(await redis.hget(f"{prefix}:run-start:{job_id}", "priority"))
    assert found == ["102", "102", "60"]


async def test_bound_of_characters_holds_in_a_child_too(
    start_host: StartHost, queue: Any, redis: Redis, prefix: str
) -> None:
    await start_host("async", own={"max_chars": 1000}, isolation="process")
    assert await result(redis, prefix, await added(queue, "echo", value="x" * 900)) == "x" * 900
    reason = await failure(redis, prefix, await added(queue, "echo", value="x" * 1000))
    assert reason == "data: expected at most 1,000 characters in all, found more"


@pytest.mark.parametrize(
    ("flavour", "task", "said"),
    [
        ("async", {"isolation": "process", "options": {"refuses": "no licence"}}, "no licence"),
        ("async", {"isolation": "thread"}, "queues.hostile.task.isolation: thread is for processors that are a plain"),
    ],
)
async def test_queue_that_can_not_be_opened_ends_the_process_with_the_reason(
    start_host: StartHost, tmp_path: Path, flavour: str, task: dict[str, Any], said: str
) -> None:
    host = await start_host(flavour, **task)
    assert await asyncio.wait_for(host.wait(), 30) == 1
    assert f"queue hostile can't be opened: {said}" in (tmp_path / "log").read_text()
