"""Delays, back-off, schedulers, limits and pauses: ours keep time as a Node worker does that runs the same jobs beside
us, on a queue of its own. Both sides feel the load of the machine alike, so what is compared is the difference.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import MakeWorker, wait_until
from tests.interop.acts import acts
from tests.interop.bridge import Js, eventually
from workers.broker.events import JobActive, JobCompleted, JobDelayed, WorkerError

pytestmark = pytest.mark.node
conform = pytest.mark.conform

#: How much later than Node's worker ours may be, ms: less than the stock worker was at its best, far more than a busy
#: machine makes of it.
SLACK_MS = 500
OURS, NODES = "ours", "nodes"
#: The longest block: who waits it out, instead of being woken, fails.
IDLE_S = 10.0


Add = Callable[[str], Awaitable[None]]


async def on_both(js: Js, add: Add, jobs: int, finished: str = "completed") -> tuple[list[Any], list[Any]]:
    """Add the same jobs to both queues; when all are over, the jobs of each as Node sees them, in their order."""
    await asyncio.gather(add(OURS), add(NODES))

    async def over() -> bool:
        counts = [await js.queue(queue, "getJobCountByTypes", finished) for queue in (OURS, NODES)]
        return bool(min(counts) >= jobs)

    await eventually(over, timeout_s=30)
    sides = [await js.queue(queue, "getJobs", [finished], 0, -1, True) for queue in (OURS, NODES)]
    return sides[0], sides[1]


def lasted(jobs: list[Any]) -> int:
    """Ms from the first start to the last end."""
    return int(max(job["finishedOn"] for job in jobs) - min(job["processedOn"] for job in jobs))


@conform("Delays", "started on time")
async def test_delayed_jobs_start_when_nodes_do(js: Js, make_worker: MakeWorker) -> None:
    """The stock worker rounds up to whole seconds: these would start 300 to 950 ms late."""
    delays = (50, 100, 200, 300, 500, 700, 1200)
    await make_worker(acts, queue=OURS, slots=4, drain_delay_s=IDLE_S)
    await js.work(NODES, concurrency=4)

    async def add(queue: str) -> None:
        for delay in delays:
            await js.add(queue, delay=delay)

    ours, nodes = await on_both(js, add, len(delays))
    late = [max(job["processedOn"] - job["timestamp"] - job["opts"]["delay"] for job in side) for side in (ours, nodes)]
    assert min(job["processedOn"] - job["timestamp"] - job["opts"]["delay"] for job in ours) >= 0, "none is early"
    assert late[0] <= late[1] + SLACK_MS


@conform("Delays", "a later, shorter delay comes first")
async def test_job_with_a_shorter_delay_wakes_us_before_the_one_we_wait_for(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts, drain_delay_s=IDLE_S)
    await js.add("q", jobId="long", delay=60_000)
    await asyncio.sleep(0.1)
    await js.add("q", jobId="short", delay=200)
    await wait_until(lambda: made.of(JobCompleted), timeout_s=5)
    assert [event.job_id for event in made.of(JobCompleted)] == ["short"]


@conform("Delays", "order of delayed jobs of one millisecond")
async def test_jobs_that_fall_due_together_start_in_the_order_in_which_they_were_added(
    js: Js, make_worker: MakeWorker
) -> None:
    jobs = [{"name": "n", "data": {}, "opts": {"jobId": f"j{i}", "delay": 200, "timestamp": 1}} for i in range(20)]
    await js.queue("q", "addBulk", jobs)
    made = await make_worker(acts)
    await wait_until(lambda: len(made.of(JobCompleted)) == 20)
    assert [event.job_id for event in made.of(JobActive)] == [f"j{i}" for i in range(20)]


@conform("Retries", "backoff in time")
async def test_retries_take_as_long_as_nodes(js: Js, make_worker: MakeWorker) -> None:
    """The stock worker took 2.2 s for these waits of 100 and 200 ms."""
    await make_worker(acts, queue=OURS, drain_delay_s=IDLE_S)
    await js.work(NODES)

    async def add(queue: str) -> None:
        await js.add(queue, [["fail_times", 2]], attempts=3, backoff={"type": "exponential", "delay": 100})

    ours, nodes = await on_both(js, add, 1)
    took = [side[0]["finishedOn"] - side[0]["timestamp"] for side in (ours, nodes)]
    assert 300 <= took[0] <= took[1] + SLACK_MS


@conform("Job schedulers", "every")
async def test_scheduler_ticks_as_often_as_with_node(js: Js, make_worker: MakeWorker) -> None:
    """The stock worker fires every 1.0 to 1.1 s."""
    made = await make_worker(acts, queue=OURS, drain_delay_s=IDLE_S)
    await js.work(NODES)
    for queue in (OURS, NODES):
        await js.queue(queue, "upsertJobScheduler", "tick", {"every": 300}, {"name": "tick", "data": {}})
    began = time.monotonic()
    await asyncio.sleep(2.5)
    for queue in (OURS, NODES):
        await js.queue(queue, "removeJobScheduler", "tick")
    ticks = [len(made.of(JobCompleted)), len(js.told("completed", NODES))]
    most = (time.monotonic() - began) / 0.3 + 2
    assert ticks[1] - 2 <= ticks[0] <= most, ticks
    assert len({event.job_id for event in made.of(JobCompleted)}) == ticks[0], "each tick is a job of its own"


@conform("Job schedulers", "cron pattern with seconds")
async def test_pattern_is_followed_and_the_next_run_is_planned(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts, drain_delay_s=IDLE_S)
    await js.queue("q", "upsertJobScheduler", "cron", {"pattern": "* * * * * *"}, {"name": "cron", "data": {}})
    await wait_until(lambda: len(made.of(JobCompleted)) >= 2, timeout_s=10)
    scheduler = await js.queue("q", "getJobScheduler", "cron")
    assert scheduler["pattern"] == "* * * * * *" and scheduler["next"] % 1000 == 0
    await js.queue("q", "removeJobScheduler", "cron")
    assert await js.queue("q", "getDelayedCount") == 0


@conform("Job schedulers", "limit")
async def test_scheduler_ends_with_its_limit(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts, drain_delay_s=IDLE_S)
    await js.queue("q", "upsertJobScheduler", "few", {"every": 100, "limit": 3}, {"name": "few", "data": {}})
    await wait_until(lambda: len(made.of(JobCompleted)) == 3)
    await asyncio.sleep(0.3)
    await wait_until(lambda: len(made.of(JobCompleted)) == 3)


@conform("Job schedulers", "data and options of the template; retries of a tick")
async def test_each_tick_has_the_templates_data_and_attempts(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts, drain_delay_s=IDLE_S)
    template = {"name": "tick", "data": {"do": [["fail_times", 1], ["return", 7]]}, "opts": {"attempts": 2}}
    await js.queue("q", "upsertJobScheduler", "tick", {"every": 200}, template)
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    await js.queue("q", "removeJobScheduler", "tick")
    assert [event.result for event in made.of(JobCompleted)[:2]] == [7, 7]
    assert await js.queue("q", "getFailedCount") == 0


@conform("Job schedulers", "the older `repeat` option", until=5)
async def test_older_repeatable_jobs_go_on_too(js: Js, make_worker: MakeWorker) -> None:
    """Its keys are hashes or `name:id:end:tz:pattern`, where a scheduler's is its id."""
    made = await make_worker(acts, drain_delay_s=IDLE_S)
    await js.queue("q", "add", "again", {}, {"repeat": {"every": 200}})
    await wait_until(lambda: len(made.of(JobCompleted)) >= 3)
    (repeatable,) = await js.queue("q", "getRepeatableJobs")
    await js.queue("q", "removeRepeatableByKey", repeatable["key"])
    assert not made.of(WorkerError)


@conform("Rate limit", "limiter of the worker")
async def test_limiter_lets_jobs_through_as_nodes_does(js: Js, make_worker: MakeWorker) -> None:
    """The stock worker took 10.06 s for these, Node's 1.01 s."""
    limiter = {"max": 5, "duration": 500}
    await make_worker(acts, queue=OURS, limiter=limiter, drain_delay_s=IDLE_S)
    await js.work(NODES, limiter=limiter)

    async def add(queue: str) -> None:
        await js.queue(queue, "addBulk", [{"name": "n", "data": {}} for _ in range(15)])

    ours, nodes = await on_both(js, add, 15)
    assert 900 <= lasted(ours) <= lasted(nodes) + SLACK_MS


@conform("Rate limit", "setGlobalRateLimit", since=6)
async def test_rate_of_the_queue_is_kept(js: Js, make_worker: MakeWorker) -> None:
    for queue in (OURS, NODES):
        await js.queue(queue, "setGlobalRateLimit", 5, 500)
    await make_worker(acts, queue=OURS, drain_delay_s=IDLE_S)
    await js.work(NODES)

    async def add(queue: str) -> None:
        await js.queue(queue, "addBulk", [{"name": "n", "data": {}} for _ in range(15)])

    ours, nodes = await on_both(js, add, 15)
    assert 900 <= lasted(ours) <= lasted(nodes) + SLACK_MS


@conform("Rate limit", "RateLimitError: by hand, from a job")
async def test_limit_that_a_job_meets_is_waited_out_as_in_node(js: Js, make_worker: MakeWorker) -> None:
    """Without a rate of its own Node's worker would run the job again at once, for ever; ours needs none."""
    await make_worker(acts, queue=OURS, drain_delay_s=IDLE_S)
    await js.work(NODES, limiter={"max": 100, "duration": 100})

    async def add(queue: str) -> None:
        await js.add(queue, [["rate_limit_once", 400]], attempts=1)
        await js.add(queue)

    ours, nodes = await on_both(js, add, 2)
    for jobs in (ours, nodes):
        limited = next(job for job in jobs if job["data"])
        assert (limited["attemptsMade"], limited["attemptsStarted"]) == (1, 2)
        assert limited["processedOn"] - limited["timestamp"] >= 400
    assert max(job["finishedOn"] - job["timestamp"] for job in ours) <= (
        max(job["finishedOn"] - job["timestamp"] for job in nodes) + SLACK_MS
    )


@conform("Rate limit", "queue.rateLimit, removeRateLimitKey")
async def test_limit_that_node_sets_and_lifts_is_seen(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts, limiter={"max": 100, "duration": 100}, max_limit_s=0.1, drain_delay_s=IDLE_S)
    await js.queue("q", "rateLimit", 3_600_000)
    assert await js.queue("q", "getRateLimitTtl") > 3_000_000
    await js.add("q")
    await asyncio.sleep(0.3)
    assert not made.of(JobActive)
    await js.queue("q", "removeRateLimitKey")
    await wait_until(lambda: made.of(JobCompleted))


@conform("Rate limit", "a limit of ours holds Node's workers")
async def test_node_keeps_to_the_limit_that_we_set(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    await js.work("q", limiter={"max": 100, "duration": 100})
    await made.worker.rate_limit(600)
    job = await js.add("q")
    await js.wait("q", job["id"])
    seen = await js.job("q", job["id"])
    assert seen["processedOn"] - seen["timestamp"] > 300


@conform("Global concurrency", "one at a time, over all workers")
async def test_full_queue_goes_on_as_fast_as_with_node(js: Js, make_worker: MakeWorker) -> None:
    """The stock worker took 10.2 s for these, Node's 0.61 s."""
    for queue in (OURS, NODES):
        await js.queue(queue, "setGlobalConcurrency", 1)
    for _ in range(2):
        await make_worker(acts, queue=OURS, slots=2, drain_delay_s=IDLE_S)
    await js.work(NODES, concurrency=4)

    async def add(queue: str) -> None:
        await js.queue(queue, "addBulk", [{"name": "n", "data": {"do": [["sleep", 200]]}} for _ in range(3)])

    ours, nodes = await on_both(js, add, 3)
    assert 600 <= lasted(ours) <= lasted(nodes) + SLACK_MS


@conform("Global concurrency", "shared by Node's workers and ours")
async def test_both_sides_together_keep_to_the_queues_concurrency(js: Js, make_worker: MakeWorker) -> None:
    await js.queue("q", "setGlobalConcurrency", 2)
    await make_worker(acts, slots=3, drain_delay_s=IDLE_S)
    await js.work("q", concurrency=3)
    jobs = [{"name": "n", "data": {"do": [["sleep", 100]]}, "opts": {"jobId": f"j{i}"}} for i in range(12)]
    await js.queue("q", "addBulk", jobs)

    async def over() -> bool:
        return bool(await js.queue("q", "getCompletedCount") == 12)

    await eventually(over)
    runs = [(job["processedOn"], job["finishedOn"]) for job in await js.queue("q", "getCompleted")]
    # a clock of milliseconds: an end and the next start may share one
    peak = max(sum(start < at + 1 <= end for start, end in runs) for at, _ in runs)
    assert peak <= 2


@conform("Queue", "resume wakes idle workers")
async def test_resumed_queue_starts_as_soon_as_with_node(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts, queue=OURS, drain_delay_s=IDLE_S)
    await js.work(NODES)
    for queue in (OURS, NODES):
        await js.queue(queue, "pause")

    async def add(queue: str) -> None:
        await js.add(queue)
        await asyncio.sleep(0.3)
        await js.queue(queue, "resume")

    ours, nodes = await on_both(js, add, 1)
    started = [side[0]["processedOn"] - side[0]["timestamp"] for side in (ours, nodes)]
    assert 250 <= started[0] <= started[1] + SLACK_MS


@conform("Delays", "moveToDelayed from a job")
async def test_job_that_puts_itself_off_starts_when_nodes_does(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts, queue=OURS, drain_delay_s=IDLE_S)
    await js.work(NODES)

    async def add(queue: str) -> None:
        await js.add(queue, [["delay_once", 300]])

    ours, nodes = await on_both(js, add, 1)
    assert [event.delay_s for event in made.of(JobDelayed)] == [0.3]
    took = [side[0]["finishedOn"] - side[0]["timestamp"] for side in (ours, nodes)]
    assert 300 <= took[0] <= took[1] + SLACK_MS
