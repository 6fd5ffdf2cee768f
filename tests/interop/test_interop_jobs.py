"""Jobs that Node adds and we run: what they carry, in which order they start, what is left of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import MakeWorker, wait_until
from tests.interop.acts import acts
from tests.interop.bridge import Js
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending
from workers.broker.events import JobActive, JobCompleted
from workers.broker.hold import Hold

pytestmark = pytest.mark.node
conform = pytest.mark.conform


@conform("Jobs", "add, run, waitUntilFinished")
async def test_node_gets_the_result_it_waits_for(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    job = await js.add("q", [["return", {"a": [1, None, "é😀"]}]])
    assert await js.wait("q", job["id"]) == {"result": {"a": [1, None, "é😀"]}}
    seen = await js.job("q", job["id"])
    assert (seen["attemptsMade"], seen["attemptsStarted"]) == (1, 1)
    assert seen["processedOn"] <= seen["finishedOn"]
    assert await js.job("q", job["id"], "getState") == "completed"


@conform("Jobs", "failure reaches waitUntilFinished")
async def test_node_gets_the_failure_it_waits_for(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    job = await js.add("q", [["fail", "no é😀"]])
    assert await js.wait("q", job["id"]) == {"reason": "no é😀"}
    seen = await js.job("q", job["id"])
    assert seen["failedReason"] == "no é😀"
    assert "a line of ours" in seen["stacktrace"][0]


@conform("Jobs", "any JSON as data and as result")
async def test_data_and_results_of_every_json_type_are_the_same_on_both_sides(js: Js, make_worker: MakeWorker) -> None:
    async def echo(job: Activation, hold: Hold) -> Ending:
        return Completed(result=job.data)

    made = await make_worker(echo)
    values: list[Any] = [
        {"é😀": '\u0000\n\t"\\ \u2028 日本'},
        [1, -2.5, 1e21, [], {}],
        "text",
        0,
        True,
        None,
        {"deep": {"er": [{"x": [[]]}]}},
        2**53 - 1,
        "😀 whole, and a lone \ud83d",
    ]
    ids = [(await js.queue("q", "add", "n", value, {}))["id"] for value in values]
    await wait_until(lambda: len(made.of(JobCompleted)) == len(values))
    for job_id, value in zip(ids, values, strict=True):
        assert (await js.job("q", job_id))["returnvalue"] == value


@conform("Jobs", "results as Node stores them: NaN is null")
async def test_numbers_that_json_has_not_are_null_as_in_node(js: Js, make_worker: MakeWorker) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return Completed(result={"nan": float("nan"), "list": [float("inf"), 1]})

    await make_worker(work)
    job = await js.add("q")
    assert await js.wait("q", job["id"]) == {"result": {"nan": None, "list": [None, 1]}}


@conform("Jobs", "payloads of 5 MB")
async def test_large_payload_goes_both_ways(js: Js, make_worker: MakeWorker) -> None:
    text = "é" * (5 * 2**20 // 2)

    async def measures(job: Activation, hold: Hold) -> Ending:
        return Completed(result={"length": len(job.data["text"]), "text": job.data["text"]})

    await make_worker(measures)
    job = await js.queue("q", "add", "n", {"text": text}, {})
    ended = await js.wait("q", job["id"])
    assert ended["result"]["length"] == len(text)
    assert ended["result"]["text"] == text


@conform("Jobs", "custom ids, used twice")
async def test_job_with_the_id_of_another_is_not_run_again(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    for _ in range(2):
        job = await js.add("q", jobId="order-7")
    assert job["id"] == "order-7"
    await js.wait("q", "order-7")
    await js.add("q", jobId="order-7")
    await js.add("q", jobId="last")
    await wait_until(lambda: [e.job_id for e in made.of(JobCompleted)][-1:] == ["last"])
    assert [e.job_id for e in made.of(JobCompleted)] == ["order-7", "last"]


@conform("Jobs", "addBulk")
async def test_bulk_is_run_in_order(js: Js, make_worker: MakeWorker) -> None:
    jobs = [{"name": "n", "data": {}, "opts": {"jobId": f"j{i}"}} for i in range(50)]
    await js.queue("q", "addBulk", jobs)
    made = await make_worker(acts)
    await wait_until(lambda: len(made.of(JobCompleted)) == 50)
    assert [e.job_id for e in made.of(JobCompleted)] == [f"j{i}" for i in range(50)]


async def order(made: Any, count: int) -> list[str]:
    await wait_until(lambda: len(made.of(JobCompleted)) == count)
    return [event.job_id for event in made.of(JobActive)]


@conform("Jobs", "FIFO and LIFO")
async def test_lifo_jobs_come_first_and_latest_first(js: Js, make_worker: MakeWorker) -> None:
    for job_id, lifo in (("a", False), ("b", False), ("x", True), ("y", True)):
        await js.add("q", jobId=job_id, lifo=lifo)
    assert await order(await make_worker(acts), 4) == ["y", "x", "a", "b"]


@conform("Priorities", "order")
async def test_priorities_are_kept_with_fifo_among_equals(js: Js, make_worker: MakeWorker) -> None:
    for job_id, priority in (("low", 10), ("high", 1), ("mid", 5), ("mid2", 5), ("none", 0)):
        await js.add("q", jobId=job_id, priority=priority)
    assert await order(await make_worker(acts), 5) == ["none", "high", "mid", "mid2", "low"]


@conform("Priorities", "changePriority, getCountsPerPriority")
async def test_priority_that_node_changes_counts(js: Js, make_worker: MakeWorker) -> None:
    for job_id in ("a", "b"):
        await js.add("q", jobId=job_id, priority=5)
    await js.job("q", "b", "changePriority", {"priority": 1})
    assert await js.queue("q", "getCountsPerPriority", [1, 5]) == {"1": 1, "5": 1}
    assert await order(await make_worker(acts), 2) == ["b", "a"]


@conform("Jobs", "updateData while it runs")
async def test_data_that_node_updates_is_what_the_next_attempt_gets(js: Js, make_worker: MakeWorker) -> None:
    seen: list[Any] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        seen.append(job.data)
        return await acts(job, hold)

    await make_worker(work)
    job = await js.add("q", [["sleep", 150], ["fail_times", 1]], attempts=2)
    await wait_until(lambda: seen)
    await js.job("q", job["id"], "updateData", {"do": [["return", "new"]]})
    assert await js.wait("q", job["id"]) == {"result": "new"}


@conform("Jobs", "remove")
async def test_removed_job_is_not_run(js: Js, make_worker: MakeWorker) -> None:
    for job_id in ("gone", "stays"):
        await js.add("q", jobId=job_id)
    await js.queue("q", "remove", "gone")
    assert await order(await make_worker(acts), 1) == ["stays"]


@conform("Jobs", "a job that runs can not be removed")
async def test_running_job_is_locked_against_removal(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    job = await js.add("q", [["sleep", 300]])
    await wait_until(lambda: made.of(JobActive))
    assert await js.queue("q", "remove", job["id"]) == 0
    assert "result" in await js.wait("q", job["id"])


# ------------------------------------------------------------------- retention


@conform("Auto-removal", "removeOnComplete: true")
async def test_job_is_gone_after_its_completion(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    job = await js.add("q", removeOnComplete=True)
    await wait_until(lambda: made.of(JobCompleted))
    assert await js.job("q", job["id"]) == {"job": None}
    assert await js.queue("q", "getCompletedCount") == 0


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        pytest.param(2, 2, marks=conform("Auto-removal", "removeOnComplete: a count")),
        pytest.param({"count": 3}, 3, marks=conform("Auto-removal", "removeOnComplete: {count}")),
        pytest.param(
            {"age": 3600, "count": 4, "limit": 10}, 4, marks=conform("Auto-removal", "removeOnComplete: {age, count}")
        ),
    ],
    ids=["count", "rule", "age"],
)
async def test_only_so_many_completed_jobs_are_kept(js: Js, make_worker: MakeWorker, rule: Any, left: int) -> None:
    made = await make_worker(acts)
    jobs = [{"name": "n", "data": {}, "opts": {"jobId": f"j{i}", "removeOnComplete": rule}} for i in range(6)]
    await js.queue("q", "addBulk", jobs)
    await wait_until(lambda: len(made.of(JobCompleted)) == 6)
    assert await js.queue("q", "getCompletedCount") == left
    assert (await js.job("q", "j5"))["id"] == "j5"


@conform("Auto-removal", "removeOnFail")
async def test_only_so_many_failed_jobs_are_kept(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    for index in range(4):
        job = await js.add("q", [["fail", "no"]], jobId=f"j{index}", removeOnFail=2)
        assert "reason" in await js.wait("q", job["id"])
    assert await js.queue("q", "getFailedCount") == 2
    assert (await js.job("q", "j3"))["failedReason"] == "no"


# --------------------------------------------------------------- deduplication


@conform("Deduplication", "simple: until the job is over")
async def test_second_job_is_dropped_until_the_first_is_over(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    first = await js.add("q", [["sleep", 200]], deduplication={"id": "d"})
    second = await js.add("q", deduplication={"id": "d"})
    assert second["id"] == first["id"]
    await js.wait("q", first["id"])
    third = await js.add("q", deduplication={"id": "d"})
    assert third["id"] != first["id"]
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)


@conform("Deduplication", "throttle: for a time")
async def test_second_job_is_dropped_for_a_time_even_after_the_first_is_over(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    first = await js.add("q", deduplication={"id": "d", "ttl": 60_000})
    await js.wait("q", first["id"])
    second = await js.add("q", deduplication={"id": "d", "ttl": 60_000})
    assert second["id"] == first["id"]
    await asyncio.sleep(0.1)
    await wait_until(lambda: len(made.of(JobCompleted)) == 1)


@conform("Deduplication", "debounce: the last one wins", since=6)
async def test_last_of_several_delayed_jobs_is_run(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    rule = {"id": "d", "ttl": 500, "extend": True, "replace": True}
    for number in range(3):
        job = await js.add("q", [["return", number]], delay=500, deduplication=rule)
    assert await js.wait("q", job["id"]) == {"result": 2}
    assert await js.queue("q", "getCompletedCount") == 1


@conform("Deduplication", "keepLastIfActive", since=6)
async def test_last_job_that_came_while_one_ran_is_run_after_it(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    rule = {"id": "d", "keepLastIfActive": True}
    await js.add("q", [["sleep", 300]], deduplication=rule)
    await wait_until(lambda: made.of(JobActive))
    for number in range(2):
        await js.add("q", [["return", number]], deduplication=rule)
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert made.of(JobCompleted)[1].result == 1


# ----------------------------------------------------------- the queue's own verbs


@conform("Queue", "pause, resume")
async def test_paused_queue_starts_nothing_and_resumes_at_once(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts, drain_delay_s=30)
    await js.queue("q", "pause")
    job = await js.add("q")
    await asyncio.sleep(0.2)
    assert not made.of(JobActive)
    await js.queue("q", "resume")
    assert "result" in await js.wait("q", job["id"], 10_000)


@conform("Queue", "drain, clean, obliterate")
async def test_queue_that_node_empties_is_empty_for_us(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    for job_id in ("a", "b"):
        await js.wait("q", (await js.add("q", jobId=job_id))["id"])
    assert sorted(await js.queue("q", "clean", 0, 10, "completed")) == ["a", "b"]
    await js.queue("q", "pause")
    await js.add("q", jobId="c")
    await js.queue("q", "drain")
    assert await js.queue("q", "getJobCounts", "waiting", "paused") == {"waiting": 0, "paused": 0}
    await js.queue("q", "obliterate")
    assert await js.queue("q", "count") == 0
    await js.wait("q", (await js.add("q", jobId="d"))["id"])
    assert [e.job_id for e in made.of(JobCompleted)] == ["a", "b", "d"]


@conform("Queue", "retryJobs, promoteJobs, job.retry, job.promote")
async def test_jobs_that_node_brings_back_are_run(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    for job_id in ("a", "b"):
        await js.wait("q", (await js.add("q", [["fail", "no"]], jobId=job_id))["id"])
        await js.job("q", job_id, "updateData", {})
    await js.job("q", "a", "retry")
    await wait_until(lambda: len(made.of(JobCompleted)) == 1)
    await js.queue("q", "retryJobs")
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    for job_id in ("c", "d", "e"):
        await js.add("q", jobId=job_id, delay=60_000)
    await js.job("q", "c", "promote")
    await wait_until(lambda: len(made.of(JobCompleted)) == 3)
    await js.job("q", "d", "changeDelay", 50)
    await wait_until(lambda: len(made.of(JobCompleted)) == 4)
    await js.queue("q", "promoteJobs")
    await wait_until(lambda: len(made.of(JobCompleted)) == 5)
    assert [e.job_id for e in made.of(JobCompleted)] == ["a", "b", "c", "d", "e"]
