"""Every act of ours as Node sees it: states, events, and jobs that its workers then process. Node adds the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from config.schema import FleetConfig
from tests.conftest import MakeWorker, wait_until
from tests.interop.bridge import Js, eventually
from workers.broker.activation import Activation
from workers.broker.endings import CANCELLED, Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobFailed, JobProgress
from workers.broker.hold import Hold
from workers.queue_service.acting import Acting
from workers.queue_service.actor import Actor
from workers.queue_service.errors import RefusedError
from workers.queue_service.filter import parse
from workers.queue_service.looking import Looking

pytestmark = pytest.mark.node

ANN = Actor("ann", via="cli")
HOUR_MS = 3_600_000
QUEUES = ("q", "other", "llm-completion")


@pytest.fixture
async def acting(endpoint: Endpoint) -> AsyncIterator[Acting]:
    entry = {"pool": "p", "concurrency": 1, "task": {"timeout": "1s"}}
    config = FleetConfig.model_validate(
        {"redis": {"prefix": endpoint.prefix}, "pools": {"p": {}}, "queues": dict.fromkeys(QUEUES, entry)}
    )
    client = endpoint.commands()
    looking = Looking(endpoint, client, QUEUES, timeout_s=15)
    yield Acting(config, client, looking)
    await looking.close()
    await client.aclose()


async def state(js: Js, job_id: str, queue: str = "q") -> str:
    told: str = await js.job(queue, job_id, "getState")
    return told


async def has_ended(js: Js, job_id: str, how: str, queue: str = "q") -> None:
    """Node says that the job stands so."""
    await eventually(lambda: _is(js, job_id, how, queue))


async def _is(js: Js, job_id: str, how: str, queue: str) -> bool:
    return await state(js, job_id, queue) == how


async def failed(js: Js, queue: str = "q", **opts: Any) -> str:
    """A job that a Node worker has failed."""
    job = await js.add(queue, [["fail_times", 1]], **opts)
    await js.work(queue)
    await has_ended(js, job["id"], "failed", queue)
    await js.rest(queue)
    return str(job["id"])


# ------------------------------------------------------------------------------ queue


async def test_node_is_paused_and_goes_on_when_we_say_so(js: Js, acting: Acting) -> None:
    await js.listen("q")
    await acting.pause_queue("q", actor=ANN)
    assert await js.queue("q", "isPaused") is True
    job = await js.add("q", [["return", 1]])
    await js.work("q")
    await wait_until(lambda: js.heard("paused"))
    assert await state(js, job["id"]) == "waiting"
    assert not js.told("active")
    await acting.resume_queue("q", actor=ANN)
    assert await js.queue("q", "isPaused") is False
    assert await js.wait("q", job["id"]) == {"result": 1}
    assert (len(js.heard("paused")), len(js.heard("resumed"))) == (1, 1)


async def test_queue_that_node_has_paused_is_resumed_with_all_its_jobs(js: Js, acting: Acting) -> None:
    """As after Node's shutdown, which leaves its queues paused."""
    before = await js.add("q")
    await js.queue("q", "pause")
    during = await js.add("q")
    await acting.resume_queue("q", actor=ANN)
    await js.work("q")
    for job in (before, during):
        assert "result" in await js.wait("q", job["id"])


async def test_no_job_is_lost_between_our_pauses_and_nodes(js: Js, acting: Acting, redis: Redis, prefix: str) -> None:
    """BullMQ 5 renames the list of a paused queue over the one that waits, and the other way round."""
    ids = [(await js.add("q"))["id"]]
    again = await failed(js)
    ids += [(await js.add("q"))["id"]]
    later = (await js.add("q", delay=HOUR_MS))["id"]
    await acting.pause_queue("q", actor=ANN)
    ids += [(await js.add("q"))["id"]]
    await acting.retry("q", again, actor=ANN)
    await acting.promote("q", later, actor=ANN)
    await js.queue("q", "pause")  # a Node process that shuts down
    ids += [(await js.add("q"))["id"], again, later]
    await js.queue("q", "resume")
    await js.work("q")
    for job_id in ids:
        assert "result" in await js.wait("q", job_id), job_id


async def test_drained_and_cleaned_jobs_are_gone_for_node(js: Js, acting: Acting, redis: Redis, prefix: str) -> None:
    await js.listen("q")
    done = (await js.add("q"))["id"]
    await js.work("q")
    await js.wait("q", done)
    await js.rest("q")
    bad = await failed(js)
    kinds: tuple[dict[str, Any], ...] = ({}, {"priority": 2}, {"delay": HOUR_MS})
    for opts in kinds:
        await js.add("q", **opts)
    assert (await acting.drain("q", delayed=True, actor=ANN)).done == 3
    counts = await js.queue("q", "getJobCounts", "wait", "paused", "prioritized", "delayed", "completed", "failed")
    assert {name: count for name, count in counts.items() if count} == {"completed": 1, "failed": 1}
    assert (await acting.clean("q", "completed", actor=ANN)).done == 1
    assert (await acting.clean("q", "failed", older_s=3600, actor=ANN)).done == 0
    assert (await acting.clean("q", "failed", actor=ANN)).done == 1
    assert await js.job("q", bad) == {"job": None}
    await wait_until(lambda: len(js.heard("cleaned")) >= 5)
    assert [int(event["count"]) for event in js.heard("cleaned")][-2:] == [1, 1]


# ----------------------------------------------------------------------------- one job


async def test_node_processes_what_we_retry(js: Js, acting: Acting) -> None:
    await js.listen("q")
    job_id = await failed(js)
    await acting.retry("q", job_id, actor=ANN)
    assert await state(js, job_id) == "waiting"
    await wait_until(lambda: {"jobId": job_id, "prev": "failed"} in js.heard("waiting"))
    await js.work("q")
    assert (await js.wait("q", job_id))["result"] == {"by": "node", "id": job_id}
    await js.rest("q")
    await acting.retry("q", job_id, reset_attempts=True, actor=ANN)
    job = await js.job("q", job_id)
    assert (await state(js, job_id), job["attemptsMade"], job["returnvalue"]) == ("waiting", 0, None)


async def test_node_processes_what_we_promote_and_put_off(js: Js, acting: Acting) -> None:
    await js.listen("q")
    job = await js.add("q", [["return", 2]], delay=HOUR_MS)
    await acting.change_delay("q", job["id"], 2 * HOUR_MS, actor=ANN)
    assert (await js.job("q", job["id"]))["delay"] == 2 * HOUR_MS
    await wait_until(lambda: len(js.heard("delayed")) == 2)
    await acting.promote("q", job["id"], actor=ANN)
    await wait_until(lambda: {"jobId": job["id"], "prev": "delayed"} in js.heard("waiting"))
    await js.work("q")
    assert await js.wait("q", job["id"]) == {"result": 2}


async def test_node_starts_a_delayed_job_when_our_delay_is_over(js: Js, acting: Acting) -> None:
    job = await js.add("q", [["return", 3]], delay=HOUR_MS)
    await js.work("q")
    await acting.change_delay("q", job["id"], 50, actor=ANN)
    assert await js.wait("q", job["id"]) == {"result": 3}


async def test_node_starts_jobs_in_the_order_that_we_give(js: Js, acting: Acting) -> None:
    first, second, third = [(await js.add("q", priority=5))["id"] for _ in range(3)]
    await acting.change_priority("q", third, 1, actor=ANN)
    await acting.change_priority("q", second, 5, lifo=True, actor=ANN)
    assert [job["priority"] for job in [await js.job("q", each) for each in (first, second, third)]] == [5, 5, 1]
    await js.work("q")
    for each in (first, second, third):
        await js.wait("q", each)
    assert [line["id"] for line in js.told("active")] == [third, second, first]


async def test_node_hears_of_what_we_remove_with_its_children(js: Js, acting: Acting) -> None:
    await js.listen("q")
    alone = await js.add("q")
    child = {"name": "c", "queueName": "q", "data": {}}
    flow = await js.flow("add", {"name": "p", "queueName": "q", "data": {}, "children": [child]})
    parent, kid = flow["job"]["id"], flow["children"][0]["job"]["id"]
    await acting.remove("q", alone["id"], actor=ANN)
    await acting.remove("q", parent, actor=ANN)
    assert [await js.job("q", job_id) for job_id in (alone["id"], parent, kid)] == [{"job": None}] * 3
    await wait_until(lambda: {event["jobId"] for event in js.heard("removed")} == {alone["id"], parent, kid})


async def test_parent_goes_on_without_a_child_that_we_remove(js: Js, acting: Acting) -> None:
    child = {"name": "c", "queueName": "q", "data": {}}
    flow = await js.flow("add", {"name": "p", "queueName": "other", "data": {}, "children": [child]})
    parent = flow["job"]["id"]
    assert await state(js, parent, "other") == "waiting-children"
    await acting.remove("q", flow["children"][0]["job"]["id"], actor=ANN)
    await js.work("other")
    assert "result" in await js.wait("other", parent)


async def test_job_that_a_node_worker_has_is_neither_removed_nor_cancelled(js: Js, acting: Acting) -> None:
    await js.work("q", name="node-7")
    job = await js.add("q", [["sleep", 400], ["return", "done"]])
    await has_ended(js, job["id"], "active")
    with pytest.raises(RefusedError, match="it is running"):
        await acting.remove("q", job["id"], actor=ANN)
    with pytest.raises(RefusedError, match=r"runs on a worker that is none of ours"):
        await acting.cancel("q", job["id"], actor=ANN)
    with pytest.raises(RefusedError, match="it is running now"):
        await acting.move("q", job["id"], "other", actor=ANN)
    assert await js.wait("q", job["id"]) == {"result": "done"}


async def test_node_sees_a_cancelled_job_as_failed_for_good(js: Js, acting: Acting) -> None:
    await js.listen("q")
    kinds: tuple[dict[str, Any], ...] = ({}, {"priority": 3}, {"delay": HOUR_MS})
    jobs = [await js.add("q", attempts=5, **opts) for opts in kinds]
    waits = [asyncio.create_task(js.wait("q", job["id"])) for job in jobs]
    for job in jobs:
        await acting.cancel("q", job["id"], reason="a mistake", actor=ANN)
    assert [await each for each in waits] == [{"reason": "cancelled by ann: a mistake"}] * 3
    for job in jobs:
        seen = await js.job("q", job["id"])
        assert (seen["failedReason"], await state(js, job["id"])) == ("cancelled by ann: a mistake", "failed")
        assert seen["finishedOn"] >= seen["timestamp"]
    await wait_until(lambda: len(js.heard("failed")) == 3)
    metrics = await js.queue("q", "getMetrics", "failed")
    assert metrics["meta"]["count"] == 3
    assert await js.queue("q", "getJobCounts", "wait", "prioritized", "delayed", "active", "failed") == {
        "wait": 0,
        "prioritized": 0,
        "delayed": 0,
        "active": 0,
        "failed": 3,
    }


async def test_node_sees_that_a_running_job_of_ours_is_cancelled(
    js: Js, acting: Acting, make_worker: MakeWorker
) -> None:
    made = await make_worker(until_cancelled, name="own-0@host")
    made.worker._cancellations._look_s = 0.02
    job = await js.queue("q", "add", "n", {"status": "Running"}, {"attempts": 5})
    await wait_until(lambda: made.of(JobProgress))
    report = await acting.cancel("q", job["id"], actor=ANN)
    assert (report.done, dict(report.requested)) == (0, {job["id"]: "own-0@host"})
    assert await js.wait("q", job["id"]) == {"reason": "cancelled by ann"}
    assert made.of(JobFailed)
    await eventually(lambda: says(js, job["id"], "Failed"))


async def until_cancelled(job: Activation, hold: Hold) -> Ending:
    """An execution that heeds its interrupt, as the executor's does."""
    await hold.progress(1)
    await hold.interrupted.wait()
    assert hold.interrupt is not None
    return Failed(reason=hold.interrupt.reason, error=CANCELLED)


async def says(js: Js, job_id: str, status: str) -> bool:
    return bool((await js.job("q", job_id))["data"].get("status") == status)


async def test_child_that_we_cancel_fails_its_parent_in_node(js: Js, acting: Acting) -> None:
    child = {"name": "c", "queueName": "q", "data": {}, "opts": {"failParentOnFailure": True}}
    flow = await js.flow("add", {"name": "p", "queueName": "other", "data": {}, "children": [child]})
    await acting.cancel("q", flow["children"][0]["job"]["id"], actor=ANN)
    await js.work("other")
    assert "failed" in (await js.wait("other", flow["job"]["id"]))["reason"]


async def test_node_processes_the_data_that_we_change(js: Js, acting: Acting) -> None:
    job = await js.add("q", [["return", "old"]], delay=HOUR_MS)
    seen = (await js.job("q", job["id"]))["data"]
    await acting.change_data("q", job["id"], {"do": [["return", "new é😀"]]}, expected=seen, actor=ANN)
    await js.job("q", job["id"], "updateData", {"do": [["return", "node's"]]})
    with pytest.raises(RefusedError, match="changed meanwhile"):
        await acting.change_data("q", job["id"], {}, expected={"do": [["return", "new é😀"]]}, actor=ANN)
    await acting.promote("q", job["id"], actor=ANN)
    await js.work("q")
    assert await js.wait("q", job["id"]) == {"result": "node's"}


async def test_node_processes_what_we_move_to_another_queue(js: Js, acting: Acting) -> None:
    for name in ("q", "other"):
        await js.listen(name)
    job_id = "a:b" if js.major == 5 else "a-b"
    opts: dict[str, Any] = {"attempts": 3, "backoff": {"type": "fixed", "delay": 1}, "jobId": job_id, "priority": 4}
    opts |= {"deduplication": {"id": "d"}}
    await js.add("q", [["fail_times", 1], ["return", "moved"]], **opts)
    before = await js.job("q", job_id)
    await acting.move("q", job_id, "other", actor=ANN)
    assert await js.job("q", job_id) == {"job": None}
    after = await js.job("other", job_id)
    assert after == before
    assert await state(js, job_id, "other") == "prioritized"
    await wait_until(lambda: js.heard("removed") and js.heard("added", "other") and js.heard("waiting", "other"))
    await js.work("other")
    assert await js.wait("other", job_id) == {"result": "moved"}
    assert (await js.job("other", job_id))["attemptsMade"] == 2
    again = await js.add("q", deduplication={"id": "d"})
    assert (await js.job("q", again["id"]))["deduplicationId"] == "d", "the old queue's deduplication is over"


async def test_node_processes_a_moved_job_that_is_delayed_or_has_failed(js: Js, acting: Acting) -> None:
    delayed = (await js.add("q", [["return", 1]], delay=HOUR_MS))["id"]
    bad = await failed(js)
    for job_id in (delayed, bad):
        await acting.move("q", job_id, "other", actor=ANN)
    assert [await state(js, job_id, "other") for job_id in (delayed, bad)] == ["delayed", "waiting"]
    await js.job("other", delayed, "promote")
    await js.work("other")
    assert await js.wait("other", delayed) == {"result": 1}
    assert (await js.wait("other", bad))["result"] == {"by": "node", "id": bad}


async def test_node_processes_what_we_replay(js: Js, acting: Acting) -> None:
    job_id = await failed(js, attempts=1, priority=2)
    report = await acting.replay("q", job_id, data={"do": [["return", "again"]]}, actor=ANN)
    (new,) = report.job_ids
    assert new == f"{job_id}-replay-1"
    seen = await js.job("q", new)
    assert (seen["name"], seen["priority"], seen["opts"]["attempts"]) == ("n", 2, 1)
    await js.work("q")
    assert await js.wait("q", new) == {"result": "again"}
    assert await state(js, job_id) == "failed"


async def test_node_sees_what_we_do_to_many(js: Js, acting: Acting) -> None:
    ids = [(await js.add("q", [["fail_times", 1]], name="a" if n % 2 else "b"))["id"] for n in range(6)]
    await js.work("q")
    for job_id in ids:
        await has_ended(js, job_id, "failed")
    wanted = parse(name="a", error="ATTEMPT 1")
    assert (await acting.bulk("retry", "q", wanted, actor=ANN)).matched == 3
    assert await js.queue("q", "getFailedCount") == 6
    await acting.bulk("retry", "q", wanted, dry_run=False, actor=ANN)
    for n, job_id in enumerate(ids):
        await has_ended(js, job_id, "completed" if n % 2 else "failed")
    report = await acting.bulk("remove", "q", parse(state="failed"), dry_run=False, actor=ANN)
    assert report.done == 3 and await js.queue("q", "getFailedCount") == 0


# ------------------------------------------------------------------------- task status


async def test_status_that_an_owner_sets_is_what_node_reads(js: Js, acting: Acting) -> None:
    data = {"type": "swarm-execution", "id": "12", "status": "Scheduled", "input": {"userData": {"id": "u1"}}}
    data |= {"allocation": {"maxCredits": "9007199254740993"}}
    await js.queue("llm-completion", "add", "llm-completion", data, {"jobId": "task-12", "priority": 100})
    user = Actor("web", via="http", user_id="u1")
    await acting.change_task_status("12", "Paused", "u1", queue="swarm", actor=user)
    assert (await js.job("llm-completion", "task-12"))["data"] == {**data, "status": "paused"}
    with pytest.raises(RefusedError):
        await acting.change_task_status("12", "Suggested", "u2", queue="swarm", actor=user)
    change = await acting.change_task_status("12", "Suggested", "u1", queue="swarm", actor=user)
    assert change.outcome == "ended"
    seen = await js.job("llm-completion", "task-12")
    assert (seen["data"]["status"], await state(js, "task-12", "llm-completion")) == ("suggested", "failed")
