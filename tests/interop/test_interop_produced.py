"""Jobs that Python adds and a Node worker runs: by our own `adder`, and by the package's Queue and FlowProducer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import FlowProducer, Queue

from tests.conftest import wait_until
from tests.interop.bridge import Js, eventually
from workers.broker.producer import adder

pytestmark = pytest.mark.node
conform = pytest.mark.conform


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@pytest.fixture
async def flows(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    flows = FlowProducer(redis_url, {"prefix": prefix})
    yield flows
    await flows.close()


async def completed(js: Js, count: int) -> list[dict[str, Any]]:
    """Wait until Node's worker has completed so many jobs; what it said."""
    await wait_until(lambda: len(js.told("completed")) >= count)
    return js.told("completed")


@conform("Python producer", "our adder: data, options, id")
async def test_node_runs_what_our_adder_adds(js: Js, redis_url: str) -> None:
    await js.work("q")
    async with adder(redis_url, js.prefix) as add:
        job_id = await add("q", "n", {"do": [["return", {"x": "é😀"}]]}, {"jobId": "mine", "attempts": 2})
    assert job_id == "mine"
    assert await js.wait("q", "mine") == {"result": {"x": "é😀"}}
    seen = await js.job("q", "mine")
    assert (seen["name"], seen["opts"]["attempts"], seen["attemptsMade"]) == ("n", 2, 1)


@conform("Python producer", "any JSON")
async def test_node_reads_every_json_type(js: Js, queue: Any) -> None:
    values: list[Any] = [{"é😀": "\n\u2028"}, [1, -2.5, [], {}], "text", 0, True, None]
    ids = [(await queue.add("n", value, {})).id for value in values]
    await js.work("q")
    await completed(js, len(values))
    assert [(await js.job("q", job_id))["data"] for job_id in ids] == values


@conform("Python producer", "numbers and keys that JavaScript has not")
async def test_what_javascript_can_not_hold_arrives_as_it_would_write_it(js: Js, queue: Any) -> None:
    job = await queue.add("n", {"big": 2**53 + 1, 7: "seven"}, {})
    seen = await js.job("q", job.id)
    assert seen["data"] == {"big": 2**53, "7": "seven"}
    with pytest.raises(ValueError):
        await queue.add("n", {"nan": float("nan")}, {})
    assert await js.queue("q", "count") == 1, "nothing was added"


@conform("Python producer", "delay")
async def test_delayed_job_waits_for_its_time(js: Js, queue: Any) -> None:
    await js.work("q")
    job = await queue.add("n", {}, {"delay": 300})
    assert await js.job("q", job.id, "getState") == "delayed"
    await js.wait("q", job.id)
    seen = await js.job("q", job.id)
    assert seen["processedOn"] - seen["timestamp"] >= 300


@conform("Python producer", "priority, lifo")
async def test_order_is_that_of_priorities_and_lifo(js: Js, queue: Any) -> None:
    for job_id, opts in (
        ("low", {"priority": 10}),
        ("high", {"priority": 1}),
        ("first", {}),
        ("last", {"lifo": True}),
    ):
        await queue.add("n", {}, {"jobId": job_id, **opts})
    await js.work("q")
    assert [line["id"] for line in await completed(js, 4)] == ["last", "first", "high", "low"]


@pytest.mark.parametrize(
    "backoff",
    [
        pytest.param(50, marks=conform("Python producer", "attempts, backoff as a number")),
        pytest.param({"type": "fixed", "delay": 50}, marks=conform("Python producer", "fixed backoff")),
        pytest.param({"type": "exponential", "delay": 25}, marks=conform("Python producer", "exponential backoff")),
        pytest.param(
            {"type": "fixed", "delay": 50, "jitter": 0.5}, marks=conform("Python producer", "jitter", since=6)
        ),
    ],
    ids=["number", "fixed", "exponential", "jitter"],
)
async def test_node_retries_as_python_asked(js: Js, queue: Any, backoff: Any) -> None:
    await js.work("q")
    job = await queue.add("n", {"do": [["fail_times", 2], ["return", 1]]}, {"attempts": 3, "backoff": backoff})
    assert await js.wait("q", job.id) == {"result": 1}
    seen = await js.job("q", job.id)
    assert seen["attemptsMade"] == 3
    assert seen["finishedOn"] - seen["timestamp"] >= 50


@conform("Python producer", "a backoff strategy of Node's worker")
async def test_custom_backoff_is_left_to_nodes_strategy(js: Js, queue: Any) -> None:
    await js.work("q", backoff="squares")
    opts = {"attempts": 3, "backoff": {"type": "squares"}}
    job = await queue.add("n", {"do": [["fail_times", 2], ["return", 1]]}, opts)
    assert await js.wait("q", job.id) == {"result": 1}


@conform("Python producer", "removeOnComplete, removeOnFail")
async def test_node_keeps_what_python_asked_to_keep(js: Js, queue: Any) -> None:
    await js.work("q")
    await queue.add("n", {}, {"jobId": "gone", "removeOnComplete": True})
    for index in range(4):
        await queue.add("n", {}, {"jobId": f"j{index}", "removeOnComplete": {"count": 2}})
    await queue.add("n", {"do": [["fail", "no"]]}, {"jobId": "lost", "removeOnFail": True})
    await completed(js, 5)
    await wait_until(lambda: js.told("failed"))
    assert await js.queue("q", "getJobCounts", "completed", "failed") == {"completed": 2, "failed": 0}
    assert await js.job("q", "gone") == {"job": None}


@conform("Python producer", "deduplication")
async def test_duplicates_are_dropped_until_node_is_done(js: Js, queue: Any) -> None:
    first = await queue.add("n", {"do": [["sleep", 100]]}, {"deduplication": {"id": "d"}})
    await queue.add("n", {}, {"deduplication": {"id": "d"}})
    assert await js.queue("q", "count") == 1
    await js.work("q")
    await js.wait("q", first.id)
    await queue.add("n", {}, {"deduplication": {"id": "d"}})
    assert len(await completed(js, 2)) == 2


@conform("Python producer", "addBulk")
async def test_bulk_is_run_in_order(js: Js, queue: Any) -> None:
    await queue.addBulk([{"name": "n", "data": {}, "opts": {"jobId": f"j{i}"}} for i in range(20)])
    await js.work("q")
    assert [line["id"] for line in await completed(js, 20)] == [f"j{i}" for i in range(20)]


@conform("Python producer", "flows")
async def test_parent_of_python_gets_what_children_in_node_returned(js: Js, flows: Any, prefix: str) -> None:
    kids = [
        {"name": "n", "queueName": "kids", "data": {"do": [["return", n]]}, "opts": {"jobId": f"kid{n}"}}
        for n in (1, 2)
    ]
    parent = {"name": "p", "queueName": "q", "data": {"do": [["children", None]]}, "opts": {"jobId": "parent"}}
    await flows.add({**parent, "children": kids})
    assert await js.job("q", "parent", "getState") == "waiting-children"
    await js.work("kids")
    await js.work("q")
    assert await js.wait("q", "parent") == {"result": {f"{prefix}:kids:kid1": 1, f"{prefix}:kids:kid2": 2}}


@conform("Python producer", "flows with failParentOnFailure")
async def test_failed_child_of_python_fails_its_parent(js: Js, flows: Any, prefix: str) -> None:
    kid = {"name": "n", "queueName": "kids", "data": {"do": [["fail", "no"]]}}
    opts = {"jobId": "bad", "failParentOnFailure": True}
    await flows.add(
        {
            "name": "p",
            "queueName": "q",
            "data": {},
            "opts": {"jobId": "parent"},
            "children": [{**kid, "opts": opts}],
        }
    )
    await js.work("kids")
    await js.work("q")
    assert await js.wait("q", "parent") == {"reason": f"child {prefix}:kids:bad failed"}


@pytest.mark.parametrize(
    "repeat",
    [
        pytest.param({"every": 300}, marks=conform("Python producer", "job schedulers: every")),
        pytest.param({"pattern": "* * * * * *"}, marks=conform("Python producer", "job schedulers: cron")),
    ],
    ids=["every", "cron"],
)
async def test_node_ticks_for_a_scheduler_of_python(js: Js, queue: Any, repeat: Any) -> None:
    await js.work("q")
    await queue.upsertJobScheduler("tick", repeat, "tick", {"do": [["return", 1]]}, {})
    ended = await completed(js, 3)
    await queue.removeJobScheduler("tick")
    assert [line["result"] for line in ended[:3]] == [1, 1, 1]
    span = ended[2]["at"] - ended[0]["at"]
    assert 300 <= span <= 4000


@conform("Python producer", "trace context in opts.tm")
async def test_trace_context_reaches_node(js: Js, queue: Any) -> None:
    carrier = json.dumps({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    job = await queue.add("n", {}, {"tm": carrier})
    assert (await js.job("q", job.id))["opts"]["telemetry"]["metadata"] == carrier


@conform("Python producer", "progress and logs read back")
async def test_python_reads_progress_logs_and_result_of_node(js: Js, queue: Any) -> None:
    await js.work("q")
    job = await queue.add("n", {"do": [["progress", {"p": 5}], ["log", "é"], ["return", [1]]]}, {})
    await js.wait("q", job.id)
    seen = await queue.getJob(job.id)
    assert (seen.progress, seen.returnvalue, seen.attemptsMade) == ({"p": 5}, [1], 1)
    assert await queue.getJobLogs(job.id) == {"logs": ["é"], "count": 1}


@conform("Python producer", "pause, resume, remove, retry")
async def test_python_governs_a_queue_that_node_serves(js: Js, queue: Any) -> None:
    await js.work("q")
    await queue.pause()
    for job_id in ("gone", "stays"):
        await queue.add("n", {"do": [["fail_times", 1]]}, {"jobId": job_id})
    await queue.remove("gone")
    await asyncio.sleep(0.1)
    assert not js.told("active")
    await queue.resume()
    assert await js.wait("q", "stays") == {"reason": "attempt 1"}
    await (await queue.getJob("stays")).retry()
    assert [line["id"] for line in await completed(js, 1)] == ["stays"]


@conform("Python producer", "rate limit, global concurrency")
async def test_limits_of_python_hold_for_node(js: Js, queue: Any) -> None:
    await queue.setGlobalConcurrency(1)
    await js.work("q", concurrency=5)
    for _ in range(3):
        await queue.add("n", {"do": [["sleep", 50]]}, {})
    ended = await completed(js, 3)
    assert ended[2]["at"] - ended[0]["at"] >= 90
    assert await js.queue("q", "getGlobalConcurrency") == 1


@conform("Python producer", "children added to a running parent in Node")
async def test_node_waits_for_a_child_that_python_added(js: Js, queue: Any, redis_url: str, prefix: str) -> None:
    kids = Queue("kids", {"connection": redis_url, "prefix": prefix})
    await js.work("q")
    await queue.add("n", {"do": [["sleep", 300], ["await_children", None], ["children", None]]}, {"jobId": "parent"})
    await wait_until(lambda: js.told("active"))
    await kids.add("n", {"do": [["return", 3]]}, {"jobId": "kid", "parent": {"id": "parent", "queue": f"{prefix}:q"}})

    async def waits() -> bool:
        return bool(await js.job("q", "parent", "getState") == "waiting-children")

    await eventually(waits)
    await js.work("kids")
    assert await js.wait("q", "parent") == {"result": {f"{prefix}:kids:kid": 3}}
    await kids.close()
