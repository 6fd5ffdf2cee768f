"""What Node's dashboards, QueueEvents and getters see of our workers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from tests.interop.acts import acts
from tests.interop.bridge import Js, eventually
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobActive, JobCompleted, JobProgress

pytestmark = pytest.mark.node
conform = pytest.mark.conform


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(50, marks=conform("Progress", "a number")),
        pytest.param({"page": 2, "of": "é"}, marks=conform("Progress", "an object")),
    ],
    ids=["number", "object"],
)
async def test_progress_is_heard_and_stored(js: Js, make_worker: MakeWorker, value: Any) -> None:
    made = await make_worker(acts)
    await js.listen("q")
    job = await js.add("q", [["progress", value]])
    await js.wait("q", job["id"])
    await wait_until(lambda: js.heard("progress"))
    assert [(e["jobId"], e["data"]) for e in js.heard("progress")] == [(job["id"], value)]
    assert (await js.job("q", job["id"]))["progress"] == value
    assert [event.value for event in made.of(JobProgress)] == [value]


@conform("Logs", "job.log, getJobLogs")
async def test_log_lines_are_read_by_node(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    job = await js.add("q", [["log", "one"], ["log", "two é😀"]])
    await js.wait("q", job["id"])
    assert await js.queue("q", "getJobLogs", job["id"]) == {"logs": ["one", "two é😀"], "count": 2}


@conform("Logs", "keepLogs")
async def test_only_so_many_log_lines_are_kept(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    job = await js.add("q", [["log", str(n)] for n in range(5)], keepLogs=2)
    await js.wait("q", job["id"])
    assert await js.queue("q", "getJobLogs", job["id"]) == {"logs": ["3", "4"], "count": 2}


@conform("Events", "added, waiting, active, completed, drained")
async def test_node_hears_a_jobs_life_in_order(js: Js, make_worker: MakeWorker) -> None:
    await js.listen("q")
    await make_worker(acts)
    job = await js.add("q", [["return", 7]])
    await js.wait("q", job["id"])
    await wait_until(lambda: js.heard("drained"))
    assert js.heard("added")[0]["jobId"] == js.heard("waiting")[0]["jobId"] == job["id"]
    assert js.heard("active") == [{"jobId": job["id"], "prev": "waiting"}]
    assert js.heard("completed") == [{"jobId": job["id"], "returnvalue": 7, "prev": "active"}]


@conform("Events", "paused, resumed, removed")
async def test_node_hears_of_the_queues_own_events(js: Js, make_worker: MakeWorker) -> None:
    await js.listen("q")
    await make_worker(acts)
    await js.queue("q", "pause")
    job = await js.add("q")
    await js.queue("q", "remove", job["id"])
    await js.queue("q", "resume")
    await wait_until(lambda: js.heard("resumed") and js.heard("removed"))
    assert len(js.heard("paused")) == 1 and js.heard("removed")[0]["jobId"] == job["id"]


@conform("Events", "stalled")
async def test_node_hears_that_we_found_a_stalled_job(
    js: Js, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    await js.listen("q")
    job = await js.add("q")
    await redis.rpoplpush(f"{prefix}:q:wait", f"{prefix}:q:active")
    made = await make_worker(acts, stalled_interval_ms=100)
    await wait_until(lambda: made.of(JobCompleted))
    await wait_until(lambda: js.heard("stalled"))
    assert js.heard("stalled") == [{"jobId": job["id"]}]
    assert (await js.job("q", job["id"]))["stalledCounter"] == 1


@conform("Metrics", "getMetrics")
async def test_node_reads_the_counts_that_we_keep(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    for do in ([], [], [["fail", "no"]]):
        await js.wait("q", (await js.add("q", do))["id"])
    completed, failed = [await js.queue("q", "getMetrics", kind) for kind in ("completed", "failed")]
    assert (completed["meta"]["count"], failed["meta"]["count"]) == (2, 1)
    assert completed["meta"]["prevTS"] > 1_700_000_000_000


@conform("Metrics", "exportPrometheusMetrics")
async def test_node_exports_what_we_worked_off(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    await js.wait("q", (await js.add("q"))["id"])
    text = await js.queue("q", "exportPrometheusMetrics")
    assert 'bullmq_job_count{queue="q", state="completed"} 1' in text


@conform("Workers", "getWorkers, getWorkersCount")
async def test_node_lists_our_workers_and_we_see_nodes(
    js: Js, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    await make_worker(acts, name="alpha")
    await make_worker(acts, name="beta:1@host")
    await js.work("q", name="gamma")

    async def names() -> list[str]:
        return sorted(worker["rawname"].partition(":w:")[2] for worker in await js.queue("q", "getWorkers"))

    async def all_three() -> bool:
        return await names() == ["alpha", "beta:1@host", "gamma"]

    await eventually(all_three)
    assert await js.queue("q", "getWorkersCount") == 3
    assert await js.queue("other", "getWorkersCount") == 0
    ours = {client["name"].rpartition(":w:")[0] for client in await redis.client_list() if ":w:" in client["name"]}
    assert len([name for name in ours if name.startswith(prefix)]) == 1, "both sides write the queue alike"


@conform("Workers", "processedBy")
async def test_node_sees_who_processed_a_job(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts, name="alpha")
    job = await js.add("q")
    await js.wait("q", job["id"])
    assert (await js.job("q", job["id"]))["processedBy"] == "alpha"


@conform("Getters", "counts and jobs by state")
async def test_counts_and_lists_are_right_while_we_work(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    await js.wait("q", (await js.add("q", jobId="done"))["id"])
    await js.wait("q", (await js.add("q", [["fail", "no"]], jobId="broken"))["id"])
    await js.add("q", [["sleep", 500]], jobId="running")
    await wait_until(lambda: len(made.of(JobActive)) == 3)
    await js.add("q", jobId="waiting")
    await js.add("q", jobId="ranked", priority=3)
    await js.add("q", jobId="later", delay=60_000)
    counts = await js.queue("q", "getJobCounts")
    expected = {"completed": 1, "failed": 1, "active": 1, "waiting": 1, "prioritized": 1, "delayed": 1}
    assert {name: counts[name] for name in expected} == expected
    for kind, job_id in (("getActive", "running"), ("getFailed", "broken"), ("getDelayed", "later")):
        assert [job["id"] for job in await js.queue("q", kind)] == [job_id]
    await wait_until(lambda: len(made.of(JobCompleted)) == 4)


@conform("Connections", "another prefix is another queue")
async def test_prefixes_do_not_mix(js: Js, make_worker: MakeWorker, endpoint: Endpoint) -> None:
    apart = Endpoint(url=endpoint.url, prefix=f"{endpoint.prefix}:apart")
    other = await make_worker(acts, endpoint=apart)
    job = await js.add("q")
    await asyncio.sleep(0.2)
    assert not other.of(JobActive)
    made = await make_worker(acts)
    await js.wait("q", job["id"])
    await wait_until(lambda: len(made.of(JobCompleted)) == 1)


@conform("Connections", "a hash tag as prefix, as Redis Cluster wants it")
async def test_hash_tag_prefix_is_shared_with_node(
    js: Js, make_worker: MakeWorker, endpoint: Endpoint, redis: Redis
) -> None:
    tagged = Js(js._bridge, f"{{{js.prefix}}}")
    try:
        made = await make_worker(acts, endpoint=Endpoint(url=endpoint.url, prefix=tagged.prefix))
        job = await tagged.add("q", [["return", 1]])
        assert await tagged.wait("q", job["id"]) == {"result": 1}
        await wait_until(lambda: len(made.of(JobCompleted)) == 1)
    finally:
        await tagged.close()
