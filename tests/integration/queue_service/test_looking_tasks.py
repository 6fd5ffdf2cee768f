"""Tasks are found by whatever id they have, and told as they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from bullmq import FlowProducer, Queue
from redis.asyncio import Redis

from tasks.status import TaskStatus
from tests.conftest import MakeWorker, Server, wait_until
from tests.faults import FaultProxy
from tests.round_trips import RoundTrips
from tests.seeded import seed
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted, JobFailed
from workers.broker.hold import Hold
from workers.queue_service.errors import (
    InvalidRequestError,
    QueueUnavailableError,
    UnknownJobError,
    UnknownQueueError,
)
from workers.queue_service.looking import LogPage, Looking
from workers.queue_service.task_search import MAX_IDS

QUEUES = ("email-send", "notification-create", "run-start", "llm-completion")
MakeLooking = Callable[..., Looking]


@pytest.fixture
async def make_looking(endpoint: Endpoint) -> AsyncIterator[MakeLooking]:
    made: list[tuple[Looking, Redis]] = []
    default = endpoint

    def make(where: Endpoint | None = None, timeout_s: float = 20) -> Looking:
        client = (where or default).commands()
        made.append((Looking(where or default, client, QUEUES, timeout_s=timeout_s), client))
        return made[-1][0]

    yield make
    for looking, client in made:
        await looking.close()
        await client.aclose()


@pytest.fixture
def looking(make_looking: MakeLooking) -> Looking:
    return make_looking()


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Callable[[str], Any]]:
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            made[name] = Queue(name, {"connection": redis_url, "prefix": prefix})
        return made[name]

    yield get
    for each in made.values():
        await each.close()


@pytest.mark.parametrize(
    ("job_id", "data", "asked"),
    [
        ("task-123456", {"id": "123456"}, ["123456", "task-123456"]),
        ("u1:reset-password", {"id": "u1:reset-password"}, ["u1:reset-password"]),
        ("a-b", {"id": "a:b"}, ["a:b", "a-b"]),  # a child of a flow
        ("plain", {}, ["plain"]),
        ("+15550100-4711", {"id": "+15550100-4711"}, ["+15550100-4711"]),
        (None, {"id": "987654321098765432"}, ["987654321098765432", "1"]),  # a notification: BullMQ counts
        (None, {"id": "é\"'\\😀"}, ["é\"'\\😀"]),
    ],
)
async def test_task_is_found_by_its_own_id_and_by_its_jobs(
    looking: Looking, queue: Callable[[str], Any], job_id: str | None, data: dict[str, Any], asked: list[str]
) -> None:
    job = await queue("notification-create").add("n", data, {} if job_id is None else {"jobId": job_id})
    for each in asked:
        for where in (None, "notification-create"):
            found = await looking.get_task_details(each, where)
            assert (found.job.queue, found.job.id, found.job.state) == ("notification-create", job.id, "waiting")
            assert (found.status, found.node_status, found.others) == (TaskStatus.SCHEDULED, "Waiting", ())


async def test_task_written_by_python_is_found_by_its_data(
    looking: Looking, redis: Redis, queue: Callable[[str], Any], prefix: str
) -> None:
    job = await queue("email-send").add("n", {})
    await redis.hset(f"{prefix}:email-send:{job.id}", "data", json.dumps({"id": "é 1"}))  # escaped, with spaces
    assert (await looking.get_task_details("é 1")).job.id == job.id


async def test_own_task_comes_before_a_job_that_only_has_the_id(looking: Looking, queue: Callable[[str], Any]) -> None:
    counted = await queue("notification-create").add("n", {"id": "555000111222333444"})
    assert counted.id == "1"
    await queue("run-start").add("n", {"id": "1"}, {"jobId": "task-1"})
    found = await looking.get_task_details("1")
    assert (found.job.queue, found.job.id) == ("run-start", "task-1")
    assert [(other.queue, other.id, other.task_id) for other in found.others] == [
        ("notification-create", "1", "555000111222333444")
    ]
    assert (await looking.get_task_details("1", "notification-create")).job.task_id == "555000111222333444"


async def test_search_by_data_looks_through_a_bounded_number(looking: Looking, redis: Redis, prefix: str) -> None:
    await seed(redis, prefix, "notification-create", "completed", 2000, now_ms=1_800_000_000_000)
    assert (await looking.get_task_details("x1999")).looked_at == 250
    with pytest.raises(UnknownJobError, match="no task or job 'x5' in 4 queues, and 250 recent jobs do not name it"):
        await looking.get_task_details("x5")
    await seed(redis, prefix, "notification-create", "waiting", 2000, first=3000, now_ms=1_800_000_000_000)
    for near in ("x3000", "x4999"):  # those that are next, and those that came last
        assert (await looking.get_task_details(near)).job.state == "waiting"


@pytest.mark.parametrize("bad", ["", "x" * 2000])
async def test_what_is_no_id_is_refused(looking: Looking, bad: str) -> None:
    for look in (looking.get_task_details(bad), looking.get_task_statuses([bad]), looking.job("email-send", bad)):
        with pytest.raises(InvalidRequestError, match="id: expected 1 to 1,024 characters"):
            await look


async def test_hostile_id_is_shown_harmless(looking: Looking) -> None:
    with pytest.raises(UnknownJobError) as unknown:
        await looking.get_task_details("\x1b[31m\n<b>" + "é" * 500)
    assert "\x1b" not in str(unknown.value) and "\n" not in str(unknown.value) and len(str(unknown.value)) < 1000


async def test_queue_is_also_known_by_what_node_calls_it(looking: Looking, queue: Callable[[str], Any]) -> None:
    await queue("run-start").add("n", {"id": "r"}, {"jobId": "r"})
    assert (await looking.get_task_details("r", "run")).job.queue == "run-start"
    with pytest.raises(UnknownJobError):
        await looking.get_task_details("r", "swarm")
    with pytest.raises(UnknownQueueError):
        await looking.get_task_details("r", "nowhere")
    with pytest.raises(InvalidRequestError):
        await looking.get_task_details("r", "a:b")


async def test_queues_of_others_are_looked_through_too(looking: Looking, queue: Callable[[str], Any]) -> None:
    await queue("theirs").add("n", {"id": "t"}, {"jobId": "t"})
    assert (await looking.get_task_details("t")).job.queue == "theirs"


async def test_details_of_a_job_that_failed_with_log_trace_and_progress(
    looking: Looking, queue: Callable[[str], Any], make_worker: MakeWorker
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        await hold.progress({"status": "running", "progress": 0.5, "currentStep": "send"})
        for number in range(5):
            await hold.log(f"line {number}")
        return Failed(reason="no such host", error="ValueError", stack="ValueError: no such host\n  at mail.py:1")

    carrier = json.dumps({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    data = {"id": "42", "type": "email-send"}
    await queue("email-send").add("email-send", data, {"jobId": "task-42", "attempts": 3, "tm": carrier})
    made = await make_worker(work, queue="email-send")
    await wait_until(lambda: made.of(JobFailed))
    found = await looking.get_task_details("42")
    assert (found.status, found.node_status, found.logs) == (TaskStatus.FAILED, "Failed", 5)
    told = found.json()
    assert told["progress"] == {"status": "running", "progress": 0.5, "currentStep": "send"}
    assert told["attempts"] == {"made": 1, "started": 1, "of": 3}
    assert told["failedReason"] == "no such host" and told["stacktrace"] == ["ValueError: no such host\n  at mail.py:1"]
    assert told["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert told["createdAt"] <= told["processedAt"] <= told["finishedAt"]
    assert told["job"]["processedBy"] == "w0"


async def test_log_is_read_in_pages(looking: Looking, redis: Redis, queue: Callable[[str], Any], prefix: str) -> None:
    job = await queue("email-send").add("n", {})
    assert (await looking.logs("email-send", job.id)) == LogPage((), 0, 0)
    lines = [f"line {number}" for number in range(250)]
    await redis.rpush(f"{prefix}:email-send:{job.id}:logs", *lines)
    found: list[str] = []
    start: int | None = 0
    while start is not None:
        page = await looking.logs("email-send", job.id, start=start)
        assert page.total == 250
        found += page.lines
        start = page.next
    assert found == lines
    await redis.rpush(f"{prefix}:email-send:{job.id}:logs", "x" * 10_000_000)
    (last,) = (await looking.logs("email-send", job.id, start=250)).lines
    assert len(last) < 20_000 and last.endswith("…")
    with pytest.raises(UnknownJobError):
        await looking.logs("email-send", "nope")
    for given in ({"start": -1}, {"limit": 0}, {"limit": 1001}, {"start": "0"}):
        with pytest.raises(InvalidRequestError):
            await looking.logs("email-send", job.id, **given)


async def test_children_are_told_by_kind_and_in_pages(
    looking: Looking, redis_url: str, prefix: str, make_worker: MakeWorker
) -> None:
    flows = FlowProducer({"connection": redis_url, "prefix": prefix})
    done = [{"name": "c", "queueName": "email-send", "data": {"n": n}, "opts": {"jobId": f"c:{n}"}} for n in range(3)]
    left = [{"name": "c", "queueName": "llm-completion", "data": {}} for _ in range(1200)]
    ignored = [
        {"name": "f", "queueName": "email-send", "opts": {"ignoreDependencyOnFailure": True, "jobId": "ignored"}}
    ]
    failing = [{"name": "f", "queueName": "email-send", "opts": {"failParentOnFailure": True, "jobId": "failing"}}]
    await flows.add({"name": "p", "queueName": "run-start", "opts": {"jobId": "p"}, "children": done + ignored + left})
    await flows.add({"name": "p", "queueName": "run-start", "opts": {"jobId": "p2"}, "children": failing + left[:1]})
    await flows.close()

    async def work(job: Activation, hold: Hold) -> Ending:
        if job.name == "f":
            return Failed(reason="no", error="E")
        return Completed(result={"n": job.data["n"], "text": "x" * 100})

    made = await make_worker(work, queue="email-send")
    await wait_until(lambda: len(made.of(JobCompleted)) == 3 and len(made.of(JobFailed)) == 2)
    found = await looking.get_task_details("p")
    assert {kind: children.total for kind, children in found.children.items()} == {
        "processed": 3,
        "unprocessed": 1200,
        "ignored": 1,
        "failed": 0,
    }
    processed = {child.key.id: child.value["n"] for child in found.children["processed"].items}
    assert processed == {"c:0": 0, "c:1": 1, "c:2": 2}
    (child,) = found.children["ignored"].items
    assert (child.key.id, child.value) == ("ignored", "no")
    (failed,) = (await looking.get_task_details("p2")).children["failed"].items
    assert failed.key.id == "failing"
    parent = (await looking.get_task_details("c:1")).job.parent
    assert parent is not None and (parent.queue, parent.id) == ("run-start", "p")

    seen: set[str] = set()
    cursor = None
    while True:
        page = await looking.children("run-start", "p", "unprocessed", cursor=cursor, limit=100)
        seen |= {child.key.id for child in page.items}
        assert len(page.items) < 400
        cursor = page.cursor
        if cursor is None:
            break
    assert len(seen) == 1200
    for given in ({"kind": "all"}, {"kind": "failed", "cursor": "x"}, {"kind": "failed", "limit": 0}):
        with pytest.raises(InvalidRequestError):
            await looking.children("run-start", "p", **given)


async def test_statuses_are_nodes_answers_in_the_order_asked(looking: Looking, queue: Callable[[str], Any]) -> None:
    await queue("run-start").add("n", {"id": "10", "status": "Scheduled"}, {"jobId": "task-10"})
    await queue("llm-completion").add("n", {"id": "11"}, {"jobId": "task-11", "priority": 5})
    await queue("email-send").add("n", {"id": "u:mail"}, {"jobId": "u:mail", "delay": 60_000})
    await queue("email-send").add("n", {"id": "s", "status": "suggested"}, {"jobId": "s"})
    ids = ["s", "nope", "11", "10", "u:mail", "task-10", "s"]
    found = [answer.json() for answer in await looking.get_task_statuses(ids)]
    assert found == [
        {"id": "s", "status": "Suggested", "queueName": "email-send"},
        {"id": "nope", "status": None},
        {"id": "11", "status": "Prioritized", "queueName": "llm-completion"},
        {"id": "10", "status": "Scheduled", "queueName": "run-start"},
        {"id": "u:mail", "status": "Delayed", "queueName": "email-send"},
        {"id": "task-10", "status": "Scheduled", "queueName": "run-start"},
        {"id": "s", "status": "Suggested", "queueName": "email-send"},
    ]
    only = await looking.get_task_statuses(["10", "11"], "run")
    assert [(answer.id, answer.status) for answer in only] == [("10", "Scheduled"), ("11", None)]
    assert await looking.get_task_statuses([]) == []


async def test_each_state_has_its_answer(looking: Looking, redis: Redis, prefix: str) -> None:
    states = {
        "active": "Active",
        "waiting": "Waiting",
        "paused": "Waiting",
        "prioritized": "Prioritized",
        "delayed": "Delayed",
        "waiting-children": "Waiting-children",
        "completed": "Completed",
        "failed": "Failed",
    }
    data = '{"userId":"u%d"}%.0s'
    for place, state in enumerate(states):
        await seed(redis, prefix, "run-start", state, 1, first=1000 + place, now_ms=1_800_000_000_000, data=data)
    await redis.hset(f"{prefix}:run-start:orphan", "name", "n")
    ids = [str(1000 + place) for place in range(len(states))]
    answers = await looking.get_task_statuses([*ids, "orphan"])
    assert [answer.status for answer in answers] == [*states.values(), None]
    for job_id, state in zip(ids, states, strict=True):
        assert (await looking.job("run-start", job_id)).state == state
    assert (await looking.job("run-start", "orphan")).state == "unknown"


async def test_thousand_statuses_are_one_round_trip(
    make_looking: MakeLooking, valkey: Server, redis: Redis, prefix: str
) -> None:
    await seed(redis, prefix, "email-send", "waiting", 5000, now_ms=1_800_000_000_000)
    await seed(redis, prefix, "run-start", "completed", 5000, first=10_000, now_ms=1_800_000_000_000)
    async with RoundTrips(valkey.port) as trips:
        looking = make_looking(Endpoint(url=trips.url, prefix=prefix))
        await looking.queues()
        before = trips.count
        ids = [str(number) for number in range(4501, 5501)]
        answers = await looking.get_task_statuses(ids)
        assert trips.count == before + 1
    assert [answer.status for answer in answers] == ["Waiting"] * 500 + [None] * 500
    with pytest.raises(InvalidRequestError, match=f"ids: expected a list of at most {MAX_IDS:,}"):
        await looking.get_task_statuses(["a"] * (MAX_IDS + 1))
    with pytest.raises(InvalidRequestError, match="ids"):
        await looking.get_task_statuses("abc")


async def test_data_too_large_for_a_look_leave_bullmqs_state(looking: Looking, queue: Callable[[str], Any]) -> None:
    for number in range(12):
        data = {"status": "Running", "id": f"b{number}", "text": "x" * (2**20)}
        await queue("run-start").add("n", data, {"jobId": f"b{number}"})
    await queue("run-start").add("n", {"status": "Running", "id": "small"}, {"jobId": "small"})
    answers = await looking.get_task_statuses(["small", *(f"b{number}" for number in range(12))])
    assert [answer.status for answer in answers] == ["Running", *["Waiting"] * 12]
    assert len((await looking.get_task_details("b3")).job.data["text"]) == 2**20


async def test_redis_that_is_away_is_told_at_once(
    make_looking: MakeLooking, make_server: Callable[..., Server]
) -> None:
    server = make_server()
    looking = make_looking(Endpoint(url=server.url))
    assert await looking.get_task_statuses(["1"]) != []
    server.stop()
    for look in (
        looking.get_task_details("1"),
        looking.get_task_statuses(["1"]),
        looking.get_queue_status(),
        looking.jobs("run-start"),
        looking.job("run-start", "1"),
        looking.logs("run-start", "1"),
        looking.throughput("run-start"),
        looking.jobs("unknown"),
    ):
        with pytest.raises(QueueUnavailableError, match="Redis can't be looked at"):
            await look
    server.start()
    assert await looking.get_task_statuses(["1"]) != []


async def test_redis_that_is_silent_is_given_up(make_looking: MakeLooking, valkey: Server, prefix: str) -> None:
    proxy = FaultProxy(valkey.port)
    async with proxy:
        looking = make_looking(Endpoint(url=proxy.url, prefix=prefix), 0.2)
        await looking.get_queue_status()
        proxy.black_hole()
        with pytest.raises(QueueUnavailableError, match=r"no answer within 0.2 s \(redis.command_timeout\)"):
            await looking.get_queue_status()
        proxy.heal()
