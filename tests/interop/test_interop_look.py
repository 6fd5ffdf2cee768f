"""What we say of queues and jobs is what Node's getters say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import MakeWorker, wait_until
from tests.interop.acts import acts
from tests.interop.bridge import Js, eventually
from workers.broker.activation import Activation
from workers.broker.endings import Ending, HandedBack
from workers.broker.endpoint import Endpoint
from workers.broker.event_stream import QueueEvent
from workers.broker.events import JobCompleted, JobDelayed, JobFailed
from workers.broker.hold import Hold
from workers.broker.job_view import JobView
from workers.broker.metrics_reader import ENDED
from workers.queue_service.filter import parse
from workers.queue_service.looking import Looking

pytestmark = pytest.mark.node
conform = pytest.mark.conform

#: Fields of Node's Job, by what they are called in our output.
SAME = (
    *("id", "name", "data", "opts", "returnvalue", "failedReason", "attemptsMade", "attemptsStarted", "stalledCounter"),
    *("stacktrace", "progress", "processedBy", "timestamp", "delay", "priority", "processedOn", "finishedOn"),
    "deduplicationId",
)
CARRIER = json.dumps({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})


@pytest.fixture
async def looking(endpoint: Endpoint) -> AsyncIterator[Looking]:
    client = endpoint.commands()
    looking = Looking(endpoint, client, ["q"], timeout_s=20)
    yield looking
    await looking.close()
    await client.aclose()


async def every_state(js: Js, make_worker: MakeWorker) -> dict[str, str]:
    """A job of Node's in each state, by state; some with all that a job can have."""
    steps = [["progress", {"progress": 0.5}], ["log", "a"], ["log", "é😀"], ["return", [1, "é"]]]
    done = with_colon(js, "done:1")
    await js.add("q", steps, jobId=done)
    again: dict[str, Any] = {
        "attempts": 2,
        "backoff": {"type": "fixed", "delay": 1},
        "telemetry": {"metadata": CARRIER},
    }
    await js.queue("q", "add", "n", {"do": [["fail", "no é"]], "id": "123"}, {"jobId": "task-123", **again})
    await js.flow("add", {"name": "parent", "queueName": "q", "opts": {"jobId": "waits"}, "children": [CHILD]})
    made = await make_worker(acts_or_stays, name="ours")
    await wait_until(lambda: len(made.of(JobCompleted)) == 1 and len(made.of(JobFailed)) == 1)
    await js.add("q", jobId="runs")
    await eventually(lambda: is_state(js, "runs", "active"))
    waiting = await js.add("q", name="n2")
    await js.add("q", jobId="p", priority=7, deduplication={"id": "once", "ttl": 60_000})
    await js.add("q", jobId="d", delay=3_600_000)
    return {
        "completed": done,
        "failed": "task-123",
        "active": "runs",
        "waiting": waiting["id"],
        "prioritized": "p",
        "delayed": "d",
        "waiting-children": "waits",
    }


CHILD = {"name": "child", "queueName": "kids", "data": {}, "opts": {"jobId": "kid"}}


def with_colon(js: Js, job_id: str) -> str:
    """Node's producers write such ids; npm bullmq 6 refuses them."""
    return job_id if js.major == 5 else job_id.replace(":", "-")


async def acts_or_stays(job: Activation, hold: Hold) -> Ending:
    """One job is active for as long as the test lasts."""
    if job.id == "runs":
        await hold.interrupted.wait()
        return HandedBack(reason="the test is over")
    return await acts(job, hold)


async def is_state(js: Js, job_id: str, state: str) -> bool:
    return bool(await js.job("q", job_id, "getState") == state)


def shown_by_node(job: dict[str, Any]) -> dict[str, Any]:
    """Node's job as we show it: what it leaves out of a job is null there, too."""
    return {name: job[name] for name in SAME}


def shown_by_us(view: JobView) -> dict[str, Any]:
    told = view.json()
    return {name: told[name] for name in SAME}


@conform("Getters", "getJob, getJobState, getJobCounts: ours and Node's agree")
async def test_each_job_is_shown_as_node_shows_it(js: Js, looking: Looking, make_worker: MakeWorker) -> None:
    ids = await every_state(js, make_worker)
    for state, job_id in ids.items():
        ours, theirs = await looking.job("q", job_id), await js.job("q", job_id)
        assert ours.state == state == await js.job("q", job_id, "getState")
        assert shown_by_us(ours) == shown_by_node(theirs)
        assert not ours.problems
    counts = await js.queue("q", "getJobCounts")
    stats = (await looking.get_queue_status(["q"]))["q"].stats
    assert {name: stats.counts.get(name, 0) for name in counts} == counts
    assert counts["active"] == counts["completed"] == counts["failed"] == counts["waiting-children"] == 1
    traced = await looking.get_task_details("123")
    assert traced.json()["traceId"] == "0af7651916cd43dd8448eb211c80319c"


@conform("Getters", "getJobs of each state: ours and Node's agree")
async def test_each_state_lists_the_jobs_that_node_lists(js: Js, looking: Looking, make_worker: MakeWorker) -> None:
    await every_state(js, make_worker)
    for number in range(25):
        await js.add("q", jobId=f"w{number}")
        await js.add("q", jobId=f"p{number}", priority=1 + number % 4)
        await js.add("q", jobId=f"d{number}", delay=1_000_000 + number % 5)
    for state in ("active", "waiting", "prioritized", "delayed", "waiting-children", "completed", "failed"):
        for order, asc in (("newest", False), ("oldest", True)):
            theirs = await js.queue("q", "getJobs", [state], 0, -1, asc)
            found: list[str] = []
            cursor = None
            while True:
                page = await looking.jobs("q", parse(state=state), cursor=cursor, limit=7, order=order)  # type: ignore[arg-type]
                found += [view.id for view in page.items]
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == [job["id"] for job in theirs]


@conform("Getters", "getJobLogs: ours and Node's agree")
async def test_log_is_the_one_that_node_reads(js: Js, looking: Looking, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    job = await js.add("q", [["log", f"line {n} é😀"] for n in range(7)])
    await js.wait("q", job["id"])
    for start, limit in ((0, 100), (2, 3), (5, 9), (7, 1)):
        theirs = await js.queue("q", "getJobLogs", job["id"], start, start + limit - 1)
        ours = await looking.logs("q", job["id"], start=start, limit=limit)
        assert (list(ours.lines), ours.total) == (theirs["logs"], theirs["count"])


@conform("Getters", "getMetrics of our workers' jobs: ours and Node's agree")
async def test_metrics_are_those_that_node_reads(js: Js, looking: Looking, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    for number in range(12):
        await js.add("q", [["unrecoverable", "no"]] if number < 5 else None)
    await wait_until(lambda: len(made.of(JobCompleted)) == 7 and len(made.of(JobFailed)) == 5)
    ours = await looking.throughput("q", minutes=10)
    for ended, count in zip(ENDED, (7, 5), strict=True):
        theirs = await js.queue("q", "getMetrics", ended)
        assert ours.totals[ended] == theirs["meta"]["count"] == count == sum(ours.per_minute[ended])


@conform("Getters", "metrics that a Node worker keeps")
async def test_metrics_of_a_worker_in_node_are_read(js: Js, looking: Looking) -> None:
    await js.work("q", metrics={"maxDataPoints": 100})
    for _ in range(6):
        await js.wait("q", (await js.add("q"))["id"])
    theirs = await js.queue("q", "getMetrics", "completed")
    ours = await looking.throughput("q")
    assert ours.totals["completed"] == theirs["meta"]["count"] == 6 == sum(ours.per_minute["completed"])


@conform("Getters", "jobs of a Node worker without metrics are counted while they are kept")
async def test_throughput_of_a_worker_in_node_without_metrics(js: Js, looking: Looking) -> None:
    await js.work("q")
    for _ in range(4):
        await js.wait("q", (await js.add("q"))["id"])
    ours = await looking.throughput("q")
    assert ours.totals["completed"] == 0 and ours.last[5]["completed"] == 4


@conform("Getters", "getDependencies, getDependenciesCount: ours and Node's agree")
async def test_children_are_those_that_node_reads(
    js: Js, looking: Looking, make_worker: MakeWorker, prefix: str
) -> None:
    def kid(name: str, do: list[Any], **opts: Any) -> dict[str, Any]:
        return {"name": name, "queueName": "kids", "data": {"do": do}, "opts": {"jobId": name, **opts}}

    first_id = with_colon(js, "a:1")
    children = [
        kid(first_id, [["return", {"x": "é"}]]),
        kid("b", [["return", None]]),
        kid("c", [["unrecoverable", "no"]], ignoreDependencyOnFailure=True),
        {**kid("left", []), "queueName": "nobody"},
    ]
    flow = {"name": "p", "queueName": "q", "opts": {"jobId": "p"}, "children": children}
    bad = [kid("f", [["unrecoverable", "bad"]], failParentOnFailure=True), {**kid("l2", []), "queueName": "nobody"}]
    failing = {"name": "p", "queueName": "q", "opts": {"jobId": "p2"}, "children": bad}
    await js.flow("addBulk", [flow, failing])
    made = await make_worker(acts, queue="kids")
    await wait_until(lambda: len(made.of(JobCompleted)) == 2 and len(made.of(JobFailed)) == 2)
    for parent in ("p", "p2"):
        theirs = await js.job("q", parent, "getDependencies")
        counts = await js.job("q", parent, "getDependenciesCount")
        found = (await looking.get_task_details(parent)).children
        assert {kind: each.total for kind, each in found.items()} == {kind: counts[kind] for kind in found}
        assert {child.key.key: child.value for child in found["processed"].items} == theirs["processed"]
        assert {child.key.key: child.value for child in found["ignored"].items} == theirs["ignored"]
        assert sorted(child.key.key for child in found["unprocessed"].items) == sorted(theirs["unprocessed"])
        assert sorted(child.key.key for child in found["failed"].items) == sorted(theirs["failed"] or [])
    first = await looking.job("kids", first_id)
    assert first.parent is not None and (first.parent.queue, first.parent.id) == ("q", "p")
    assert (await js.job("kids", first_id))["parent"]["id"] == "p"


@conform("Getters", "getWorkers: workers of both sides, told apart")
async def test_workers_of_both_sides_are_seen_and_told_apart(
    js: Js, looking: Looking, make_worker: MakeWorker, prefix: str
) -> None:
    await make_worker(acts, name="ours")
    await js.work("q", name="theirs")

    async def both() -> bool:
        return len((await looking.get_queue_status(["q"]))["q"].workers) == 2

    await eventually(both)
    status = (await looking.get_queue_status(["q"]))["q"]
    assert [(worker.side, worker.name) for worker in status.workers] == [("fleet", "ours"), ("node", "theirs")]
    assert [worker.name for worker in status.competitors] == ["theirs"]
    theirs = {(worker["rawname"], worker["addr"]) for worker in await js.queue("q", "getWorkers")}
    assert {(f"{prefix}:cQ==:w:{worker.name}", worker.address) for worker in status.workers} == theirs


@conform("Getters", "getCountsPerPriority: ours and Node's agree")
async def test_priorities_are_those_that_node_counts(js: Js, looking: Looking) -> None:
    for priority in (0, 0, 3, 3, 3, 1, 2_097_151):
        await js.add("q", priority=priority)
    ours = await looking.priorities("q")
    theirs = await js.queue("q", "getCountsPerPriority", [0, 1, 3, 2_097_151])
    assert ours == {int(priority): count for priority, count in theirs.items()} == {0: 2, 1: 1, 3: 3, 2_097_151: 1}


@conform("Getters", "isPaused, and the counts of a paused queue")
async def test_paused_queue_is_seen_and_its_jobs_are_listed(js: Js, looking: Looking) -> None:
    await js.add("q", jobId="before")
    await js.queue("q", "pause")
    await js.add("q", jobId="after")
    status = (await looking.get_queue_status(["q"]))["q"].stats
    assert status.is_paused is await js.queue("q", "isPaused") is True
    counts = await js.queue("q", "getJobCounts")
    assert {name: status.counts.get(name, 0) for name in counts} == counts
    assert status.waiting + status.paused == 2
    listed = (await looking.jobs("q", parse(state="waiting,paused"))).items
    assert {view.id for view in listed} == {"before", "after"}
    for job_id in ("before", "after"):
        assert await js.job("q", job_id, "getState") == "waiting"
        answers = await looking.get_task_statuses([job_id])
        assert answers[0].status == "Waiting"


def node_statuses(ids: list[str], jobs: dict[str, tuple[Any, str]]) -> list[dict[str, Any]]:
    """ManagedQueue.getTaskStatuses of the Node stack, with what its Queue says of each job."""
    answers: list[dict[str, Any]] = []
    for task_id in ids:
        if task_id not in jobs:
            answers.append({"id": task_id, "status": None})
            continue
        data, state = jobs[task_id]
        said = data.get("status") or state
        answers.append({"id": task_id, "status": said[0].upper() + said[1:].lower(), "queueName": "q"})
    return answers


@conform("Getters", "getTaskStatuses of the Node stack, with job.getState")
async def test_statuses_are_nodes_answers(js: Js, looking: Looking, make_worker: MakeWorker) -> None:
    ids = await every_state(js, make_worker)
    scheduled = with_colon(js, "s:1")
    for job_id, status in ((scheduled, "Scheduled"), ("s2", "canceling")):
        await js.queue("q", "add", "n", {"id": job_id, "status": status}, {"jobId": job_id})
    asked = [*ids.values(), scheduled, "nobody", "s2"]
    jobs = {}
    for job_id in asked:
        job = await js.job("q", job_id)
        if job.get("id") is not None:
            jobs[job_id] = (job["data"], await js.job("q", job_id, "getState"))
    ours = [answer.json() for answer in await looking.get_task_statuses(asked)]
    assert ours == node_statuses(asked, jobs)
    assert [answer.status for answer in await looking.get_task_statuses(["123"])] == ["Failed"]  # Node: null


@conform("Events", "the events that QueueEvents hears, and their ids")
async def test_events_are_those_that_node_hears(js: Js, looking: Looking, make_worker: MakeWorker) -> None:
    await js.listen("q")
    async with looking.events(["q"], {"q": "0-0"}) as events:
        made = await make_worker(acts)
        await js.add("q", [["progress", 5], ["return", {"x": 1}]])
        await js.add("q", [["delay_once", 5]])
        await js.add("q", [["unrecoverable", "no"]])
        await wait_until(lambda: len(made.of(JobCompleted)) == 2 and made.of(JobFailed) and made.of(JobDelayed))
        await eventually(lambda: heard(js, "drained"))
        found: list[QueueEvent] = []
        while sum(event.event in ("completed", "failed") for event in found) < 3:
            found.append(await anext(events))
    for name in ("added", "active", "progress", "completed", "failed", "delayed"):
        ours = [{"jobId": event.job_id, **event.fields} for event in found if event.event == name]
        theirs = js.heard(name)
        if name == "delayed" and js.major == 5:  # which leaves the time a text
            theirs = [{**each, "delay": int(each["delay"])} for each in theirs]
        assert ours == theirs


async def heard(js: Js, name: str) -> bool:
    return bool(js.heard(name))
