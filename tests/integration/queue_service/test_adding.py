"""Tasks become jobs on a real server: one at a time and many; duplicates are told; nothing is half done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tasks.email_send import EmailSend
from tests.conftest import MakeWorker, wait_until
from tests.integration.queue_service.adding_rig import adding, exported, mail, sms, stored
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobActive, JobCompleted, JobFailed
from workers.broker.hold import Hold, Parent
from workers.queue_service.add_options import AddOptions, Deduplication
from workers.queue_service.added import Added
from workers.queue_service.adding import MAX_ITEMS, Adding
from workers.queue_service.errors import (
    InvalidRequestError,
    QueueFull,
    RefusedError,
    UnknownQueueError,
)

DAY = {"age": 86_400, "count": 5000}
EXAMPLES = json.loads((Path(__file__).parents[3] / "workers" / "dev" / "example_jobs.json").read_text())


@pytest.fixture
async def service(endpoint: Endpoint) -> AsyncIterator[Adding]:
    async with adding(endpoint) as service:
        yield service


# ------------------------------------------------------------------------------ one


async def test_task_is_stored_as_nodes_producers_store_it(service: Adding, redis: Redis, prefix: str) -> None:
    task = EmailSend(id="614402200000777", to=["é@example.com"], subject="s", text="t")
    assert await service.add(task) == Added("email-send", "task-614402200000777", "614402200000777")
    row = await stored(redis, f"{prefix}:email-send:task-614402200000777")
    assert row.pop("timestamp").isdigit()
    assert row == {
        "name": "email-send",
        "data": {**mail("614402200000777"), "to": ["é@example.com"]},
        "opts": {
            "attempts": 2,
            "backoff": {"type": "exponential", "delay": 50},
            "removeOnComplete": DAY,
            "removeOnFail": DAY,
            "jobId": "task-614402200000777",
        },
        "delay": "0",
        "priority": "0",
    }


async def test_kinds_of_jobs_go_to_their_lists(service: Adding, redis: Redis, prefix: str) -> None:
    await service.add(mail("first"))
    await service.add(mail("last"), AddOptions(lifo=True))
    await service.add(mail("ranked"), AddOptions(priority=3))
    await service.add(mail("later"), AddOptions(delay_ms=60_000))
    base = f"{prefix}:email-send"
    assert await redis.lrange(f"{base}:wait", 0, -1) == ["first", "last"]
    assert await redis.zrange(f"{base}:prioritized", 0, -1) == ["ranked"]
    assert await redis.zrange(f"{base}:delayed", 0, -1) == ["later"]


async def test_task_without_an_id_gets_the_counters(service: Adding) -> None:
    added = [await service.add(mail("")) for _ in range(2)]
    assert [each.job_id for each in added] == ["1", "2"]
    assert not any(each.duplicate for each in added)


async def test_swarm_goes_where_nodes_workers_look_for_it(service: Adding) -> None:
    (swarm, *_) = [job["data"] for job in EXAMPLES if job["data"]["type"] == "swarm-execution"]
    added = await service.add(swarm)
    assert (added.queue, added.task_id) == ("llm-completion", swarm["id"])


async def test_queue_may_be_named_if_it_carries_the_type(service: Adding) -> None:
    assert (await service.add(sms(), AddOptions(queue="sms-message"))).queue == "sms-message"
    with pytest.raises(InvalidRequestError, match="queue: email-send carries no tasks of type 'sms-message'"):
        await service.add(sms(), AddOptions(queue="email-send"))
    with pytest.raises(UnknownQueueError, match="queue 'nope' is not configured"):
        await service.add(sms(), AddOptions(queue="nope"))


# ----------------------------------------------------------------------- duplicates


async def in_state(state: str, service: Adding, make_worker: MakeWorker) -> None:
    """Have job `a` of email-send in this state."""
    go = asyncio.Event()

    async def run(job: Activation, hold: Hold) -> Ending:
        if state == "active":
            await go.wait()
        return Failed(reason="no", error="E") if state == "failed" else Completed(result=None)

    options = {"delayed": AddOptions(delay_ms=60_000), "prioritized": AddOptions(priority=5)}
    await service.add(mail("a"), options.get(state, AddOptions()))
    if state in ("active", "completed", "failed"):
        made = await make_worker(run, queue="email-send")
        kind = {"active": JobActive, "completed": JobCompleted, "failed": JobFailed}[state]
        await wait_until(lambda: made.of(kind))


@pytest.mark.leaves_locks
@pytest.mark.parametrize("state", ["waiting", "delayed", "prioritized", "active", "completed", "failed"])
async def test_duplicate_is_told_with_the_state_of_the_job_that_is_there(
    service: Adding, redis: Redis, prefix: str, make_worker: MakeWorker, state: str
) -> None:
    await in_state(state, service, make_worker)
    added = await service.add(mail("a", subject="another"))
    assert added == Added("email-send", "a", "a", True, state, "id")
    assert (await stored(redis, f"{prefix}:email-send:a"))["data"] == mail("a")


async def test_by_simple_deduplication_one_is_added_until_it_has_ended(
    service: Adding, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    options = AddOptions(deduplication=Deduplication(id="d"))
    assert await service.add(mail("a"), options) == Added("email-send", "a", "a")
    assert await service.add(mail("b"), options) == Added("email-send", "a", "b", True, "waiting", "deduplication")
    counted = await service.add(mail(""), options)
    assert (counted.job_id, counted.duplicate, counted.by) == ("a", True, "deduplication")
    assert await redis.get(f"{prefix}:email-send:de:d") == "a"
    made = await make_worker(queue="email-send")
    await wait_until(lambda: made.of(JobCompleted))
    assert not (await service.add(mail("c"), options)).duplicate


async def test_throttle_holds_for_its_time_whether_the_job_has_ended_or_not(
    service: Adding, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    options = AddOptions(deduplication=Deduplication(id="d", mode="throttle", ttl_ms=60_000))
    made = await make_worker(queue="email-send")
    await service.add(mail("a"), options)
    await wait_until(lambda: made.of(JobCompleted))
    again = await service.add(mail("b"), options)
    assert (again.duplicate, again.state) == (True, "completed")
    assert 0 < await redis.pttl(f"{prefix}:email-send:de:d") <= 60_000


async def test_of_debounced_jobs_the_last_one_counts(service: Adding, redis: Redis, prefix: str) -> None:
    options = AddOptions(deduplication=Deduplication(id="d", mode="debounce", ttl_ms=60_000), delay_ms=60_000)
    assert not any([(await service.add(mail(name), options)).duplicate for name in "abc"])
    assert await redis.zrange(f"{prefix}:email-send:delayed", 0, -1) == ["c"]
    assert await redis.get(f"{prefix}:email-send:de:d") == "c"


async def test_debounce_that_does_not_replace_keeps_the_first_and_extends(
    service: Adding, redis: Redis, prefix: str
) -> None:
    options = AddOptions(deduplication=Deduplication(id="d", mode="debounce", ttl_ms=60_000, replace=False))
    await service.add(mail("a"), options)
    await redis.pexpire(f"{prefix}:email-send:de:d", 5_000)
    assert (await service.add(mail("b"), options)).duplicate
    assert await redis.pttl(f"{prefix}:email-send:de:d") > 5_000


async def test_of_those_that_come_while_one_runs_the_last_is_added_when_it_ends(
    service: Adding, make_worker: MakeWorker
) -> None:
    go, seen = asyncio.Event(), list[str]()

    async def run(job: Activation, hold: Hold) -> Ending:
        seen.append(job.data["id"])
        await go.wait()
        return Completed(result=None)

    options = AddOptions(deduplication=Deduplication(id="d", mode="keep_last_if_active"))
    await service.add(mail("a"), options)
    waiting = await service.add(mail("b"), options)
    assert (waiting.duplicate, waiting.state, waiting.held) == (True, "waiting", False)
    made = await make_worker(run, queue="email-send")
    await wait_until(lambda: seen)
    held = [await service.add(mail(name), options) for name in "cd"]
    assert [(each.duplicate, each.state, each.held) for each in held] == [(True, "active", True)] * 2
    go.set()
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert seen == ["a", "d"]


# -------------------------------------------------------------------------- children


async def test_child_is_added_for_its_parent_and_refused_without_one(
    service: Adding, redis: Redis, prefix: str
) -> None:
    await service.add(sms("p"))
    parent = Parent("p", f"{prefix}:sms-message")
    assert (await service.add(mail("k:1"), parent=parent)).job_id == "k-1"
    row = await stored(redis, f"{prefix}:email-send:k-1")
    assert row["parent"] == {"id": "p", "queueKey": f"{prefix}:sms-message", "fpof": True}
    assert row["opts"]["parent"] == {"id": "p", "queue": f"{prefix}:sms-message"}
    assert (await service.add(mail("k:1"), parent=parent)).duplicate
    with pytest.raises(RefusedError, match="Missing key for parent job"):
        await service.add(mail("x"), parent=Parent("gone", f"{prefix}:sms-message"))
    await service.add(sms("q"))
    with pytest.raises(RefusedError, match="cannot be replaced"):
        await service.add(mail("k:1"), parent=Parent("q", f"{prefix}:sms-message"))
    assert not await redis.exists(f"{prefix}:email-send:x")


# ------------------------------------------------------------------------------ many


async def test_many_tasks_are_added_in_order_over_their_queues(service: Adding, redis: Redis, prefix: str) -> None:
    items: list[Any] = [mail(f"m{n}") if n % 2 else sms(f"s{n}") for n in range(1000)]
    items += [EmailSend.model_validate(mail("object")), (mail("told"), AddOptions(priority=7))]
    added = await service.add_bulk(items)
    names = [f"m{n}" if n % 2 else f"s{n}" for n in range(1000)]
    assert [each.task_id for each in added] == [*names, "object", "told"]
    assert not any(each.duplicate for each in added)
    waiting: Any = await redis.lrange(f"{prefix}:email-send:wait", 0, -1)
    assert waiting[::-1] == [*(f"m{n}" for n in range(1, 1000, 2)), "object"]
    assert await redis.llen(f"{prefix}:sms-message:wait") == 500
    assert await redis.zrange(f"{prefix}:email-send:prioritized", 0, -1) == ["told"]


async def test_duplicates_among_many_are_told_each(service: Adding) -> None:
    await service.add(mail("m1"))
    added = await service.add_bulk([mail("m0"), mail("m1"), mail("m2"), mail("m0")])
    assert [(each.job_id, each.duplicate, each.state) for each in added] == [
        ("m0", False, None),
        ("m1", True, "waiting"),
        ("m2", False, None),
        ("m0", True, "waiting"),
    ]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (mail("m", to=["a@example.com", 7]), "items[300].data.to.1"),
        ({"type": "teleport"}, "items[300].type"),
        (None, "items[300].task"),
        ((mail("m"), AddOptions(priority=-1)), "items[300].priority"),
        ((mail("m"), None), "items[300].options"),
        (mail("m", text=float("nan")), "items[300].data"),
    ],
)
async def test_nothing_is_added_where_one_is_wrong(
    service: Adding, redis: Redis, prefix: str, bad: Any, field: str
) -> None:
    items = [mail(f"m{n}") for n in range(400)]
    items[300] = bad
    with pytest.raises(InvalidRequestError) as refused:
        await service.add_bulk(items)
    assert refused.value.field == field
    assert [key async for key in redis.scan_iter(f"{prefix}:*")] == []


@pytest.mark.parametrize(
    "items", ["text", {"a": 1}, iter(()), None, [{}] * (MAX_ITEMS + 1)], ids=lambda v: type(v).__name__
)
async def test_what_is_no_list_or_too_long_is_refused(service: Adding, items: Any) -> None:
    with pytest.raises(InvalidRequestError, match="items: expected"):
        await service.add_bulk(items)


async def test_no_tasks_are_no_work(service: Adding, redis: Redis, prefix: str) -> None:
    assert await service.add_bulk([]) == []
    assert [key async for key in redis.scan_iter(f"{prefix}:*")] == []


async def test_loop_goes_on_while_many_are_checked(service: Adding) -> None:
    turns = 0

    async def ticks() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(ticks())
    await service.add_bulk([mail(f"m{n}") for n in range(2000)])
    ticking.cancel()
    assert turns > 20


# ------------------------------------------------------------------------ full queues


async def test_full_queue_takes_no_more_and_says_when_to_come_back(
    endpoint: Endpoint, redis: Redis, prefix: str
) -> None:
    async with adding(endpoint, email_send={"limits": {"depth": 5}}) as service:
        with pytest.raises(RefusedError, match="6 jobs at once are more than may wait there, 5"):
            await service.add_bulk([mail(f"m{n}") for n in range(6)])
        await service.add_bulk([mail(f"m{n}") for n in range(3)])
    async with adding(endpoint, email_send={"limits": {"depth": 5}}) as service:
        with pytest.raises(QueueFull, match="3 waiting and 3 to be added, limit 5") as full:
            await service.add_bulk([sms("s"), *(mail(f"n{n}") for n in range(3))])
        assert full.value.retry_after_s
        assert not await redis.exists(f"{prefix}:sms-message:s"), "nothing of it was added"
        await service.add_bulk([mail("n0"), mail("n1")])
    async with adding(endpoint, email_send={"limits": {"depth": 5}}) as service:
        for refused in (service.add(mail("x")), service.add_bulk([mail("x")])):
            with pytest.raises(QueueFull, match="5 waiting, limit 5"):
                await refused
        assert not (await service.add(sms("s"))).duplicate


async def test_depth_of_the_queue_goes_into_the_generic_rule(endpoint: Endpoint, redis: Redis, prefix: str) -> None:
    generic = {"task": {"timeout": "1s", "priority": "generic"}, "limits": {"depth": 10_000}}
    async with adding(endpoint, email_send=generic) as service:
        await service.add_bulk([mail(f"m{n}") for n in range(500)])
    async with adding(endpoint, email_send=generic) as service:
        await service.add(mail("late"))
    assert int((await stored(redis, f"{prefix}:email-send:m0"))["priority"]) == 110
    assert int((await stored(redis, f"{prefix}:email-send:late"))["priority"]) == 115


# ------------------------------------------------------------------------------ traces


async def test_jobs_of_one_call_share_its_span(
    service: Adding, redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exported(monkeypatch) as spans:
        await service.add_bulk([mail("m0"), mail("m1"), sms("s"), (mail("own"), AddOptions(raw={"tm": '{"x":"y"}'}))])
        await service.add_bulk([(mail("apart"), AddOptions(raw={"omc": True}))])
    done = sorted(spans.get_finished_spans(), key=lambda span: (span.name, span.start_time or 0))
    assert [span.name for span in done] == ["addBulk email-send", "addBulk email-send", "addBulk sms-message"]
    bulk = done[0]
    assert bulk.attributes is not None and bulk.context is not None
    assert bulk.attributes["bullmq.job.bulk.count"] == 3
    assert bulk.attributes["bullmq.job.bulk.names"] == ("email-send",)
    ids = f"00-{bulk.context.trace_id:032x}-{bulk.context.span_id:016x}"
    tms = [
        (await stored(redis, f"{prefix}:email-send:{name}"))["opts"].get("tm") for name in ("m0", "m1", "own", "apart")
    ]
    assert [ids in (tm or "") for tm in tms] == [True, True, False, False]
    assert tms[2:] == ['{"x":"y"}', None]
