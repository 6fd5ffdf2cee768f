"""Flows on a real server: whole or not at all, over several queues, added again without harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from tests.integration.queue_service.adding_rig import adding, exported, mail, sms, stored
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobActive, JobCompleted, JobFailed
from workers.broker.hold import Hold, Parent
from workers.queue_service.add_options import AddOptions, Deduplication
from workers.queue_service.added import FlowAdded
from workers.queue_service.adding import Adding
from workers.queue_service.errors import InvalidRequestError, QueueFull, RefusedError
from workers.queue_service.flow import FlowNode


@pytest.fixture
async def service(endpoint: Endpoint) -> AsyncIterator[Adding]:
    async with adding(endpoint) as service:
        yield service


def node(task: Any, *children: FlowNode, **fields: Any) -> FlowNode:
    return FlowNode(task=task, children=children, **fields)


def shape(added: FlowAdded) -> Any:
    """(queue, id, state of the duplicate), and the children's."""
    one = added.added
    return (one.queue, one.job_id, one.state if one.duplicate else None, [shape(each) for each in added.children])


async def keys(redis: Redis, prefix: str) -> list[str]:
    return sorted([key async for key in redis.scan_iter(f"{prefix}:*")])


THREE = node(sms("top"), node(mail("mid:1"), node(sms("leaf"))), node(mail("614402200000777")))


async def test_tree_is_added_over_its_queues(service: Adding, redis: Redis, prefix: str) -> None:
    assert shape(await service.flow(THREE)) == (
        "sms-message",
        "top",
        None,
        [
            ("email-send", "mid-1", None, [("sms-message", "leaf", None, [])]),
            ("email-send", "task-614402200000777", None, []),
        ],
    )
    base = prefix
    assert await redis.zrange(f"{base}:sms-message:waiting-children", 0, -1) == ["top"]
    assert await redis.zrange(f"{base}:email-send:waiting-children", 0, -1) == ["mid-1"]
    assert await redis.lrange(f"{base}:sms-message:wait", 0, -1) == ["leaf"]
    assert await redis.smembers(f"{base}:sms-message:top:dependencies") == {
        f"{base}:email-send:mid-1",
        f"{base}:email-send:task-614402200000777",
    }
    row = await stored(redis, f"{base}:email-send:mid-1")
    assert row["parent"] == {"id": "top", "queueKey": f"{base}:sms-message", "fpof": True}
    assert (row["parentKey"], row["opts"]["fpof"]) == (f"{base}:sms-message:top", True)


async def test_node_without_an_id_gets_one(service: Adding) -> None:
    added = await service.flow(node(mail(""), node(sms(""))))
    assert len(added.added.job_id) == len(added.children[0].added.job_id) == 32


async def test_tree_is_worked_off_from_its_leaves(service: Adding, make_worker: MakeWorker) -> None:
    order: list[str] = []

    async def run(job: Activation, hold: Hold) -> Ending:
        order.append(job.id)
        return Completed(result={"values": await hold.children_values()})

    for queue in ("sms-message", "email-send"):
        await make_worker(run, queue=queue)
    await service.flow(THREE)
    await wait_until(lambda: len(order) == 4)
    assert order.index("leaf") < order.index("mid-1") and order[-1] == "top"


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("fail", "child"), ("ignore", None), ("continue", None), ("remove", None)],
)
async def test_failure_of_a_child_does_to_its_parent_what_was_asked(
    service: Adding, redis: Redis, prefix: str, make_worker: MakeWorker, mode: Any, reason: str | None
) -> None:
    async def fails(job: Activation, hold: Hold) -> Ending:
        return Failed(reason="no", error="E")

    told: list[Any] = []

    async def parent(job: Activation, hold: Hold) -> Ending:
        told.append(await hold.children_failures())
        return Completed(result=None)

    await service.flow(node(sms("p"), node(mail("k"), on_failure=mode)))
    await make_worker(fails, queue="email-send")
    made = await make_worker(parent, queue="sms-message")
    if reason:
        await wait_until(lambda: made.of(JobFailed))
        assert made.of(JobFailed)[0].reason == f"child {prefix}:email-send:k failed"
        return
    await wait_until(lambda: made.of(JobCompleted))
    assert told == [{} if mode == "remove" else {f"{prefix}:email-send:k": "no"}]


# ----------------------------------------------------------------- added again


async def test_flow_that_is_added_again_is_told_and_changes_nothing(service: Adding, redis: Redis, prefix: str) -> None:
    await service.flow(THREE)
    before = {key: await redis.dump(key) for key in await keys(redis, prefix) if not key.endswith((":events", ":id"))}
    assert shape(await service.flow(THREE)) == ("sms-message", "top", "waiting-children", [])
    after = {key: await redis.dump(key) for key in await keys(redis, prefix) if not key.endswith((":events", ":id"))}
    assert after == before


async def test_flow_that_is_added_again_after_a_child_was_ignored_is_not_stuck(
    service: Adding, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    """BullMQ's own would add the failed child to what the parent waits for, for ever."""

    async def fails(job: Activation, hold: Hold) -> Ending:
        return Failed(reason="no", error="E")

    flow = node(
        sms("p"), node(mail("bad"), on_failure="ignore"), node(mail("late"), options=AddOptions(delay_ms=60_000))
    )
    await service.flow(flow)
    made = await make_worker(fails, queue="email-send")
    await wait_until(lambda: made.of(JobFailed))
    assert shape(await service.flow(flow)) == ("sms-message", "p", "waiting-children", [])
    assert await redis.smembers(f"{prefix}:sms-message:p:dependencies") == {f"{prefix}:email-send:late"}


async def test_children_that_have_completed_do_not_start_their_parent_before_the_others_are_there(
    service: Adding, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    """BullMQ's own would, where the completed one is listed first."""
    await service.add(mail("done"))
    made = await make_worker(queue="email-send")
    await wait_until(lambda: made.of(JobCompleted))
    flow = node(sms("p"), node(mail("done")), node(mail("late"), options=AddOptions(delay_ms=60_000)))
    assert shape(await service.flow(flow))[3] == [
        ("email-send", "done", "completed", []),
        ("email-send", "late", None, []),
    ]
    assert await redis.zrange(f"{prefix}:sms-message:waiting-children", 0, -1) == ["p"]
    assert list(await redis.hgetall(f"{prefix}:sms-message:p:processed")) == [f"{prefix}:email-send:done"]


async def test_parent_whose_children_have_all_completed_starts(
    service: Adding, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    await service.add(mail("done"))
    made = await make_worker(queue="email-send")
    await wait_until(lambda: made.of(JobCompleted))
    await service.flow(node(sms("p"), node(mail("done"))))
    assert await redis.lrange(f"{prefix}:sms-message:wait", 0, -1) == ["p"]


async def test_inner_node_that_is_there_brings_its_own_children(service: Adding, redis: Redis, prefix: str) -> None:
    await service.flow(node(mail("mid"), node(sms("old"))))
    added = await service.flow(node(sms("top"), node(mail("mid"), node(sms("new"))), node(mail("other"))))
    assert shape(added)[3] == [("email-send", "mid", "waiting-children", []), ("email-send", "other", None, [])]
    assert not await redis.exists(f"{prefix}:sms-message:new")
    assert await redis.smembers(f"{prefix}:email-send:mid:dependencies") == {f"{prefix}:sms-message:old"}
    assert (await stored(redis, f"{prefix}:email-send:mid"))["parentKey"] == f"{prefix}:sms-message:top"


async def test_root_that_is_deduplicated_is_told_and_adds_nothing(service: Adding, redis: Redis, prefix: str) -> None:
    options = AddOptions(deduplication=Deduplication(id="d"))
    await service.flow(node(sms("p1"), node(mail("k1")), options=options))
    added = await service.flow(node(sms("p2"), node(mail("k2")), options=options))
    assert shape(added) == ("sms-message", "p1", "waiting-children", [])
    assert added.added.by == "deduplication"
    assert not await redis.exists(f"{prefix}:email-send:k2", f"{prefix}:sms-message:p2")


# -------------------------------------------------------------------- refusals


async def test_child_that_has_failed_before_is_refused_and_nothing_is_added(
    service: Adding, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    async def fails(job: Activation, hold: Hold) -> Ending:
        return Failed(reason="no", error="E")

    await service.add(mail("bad"))
    made = await make_worker(fails, queue="email-send")
    await wait_until(lambda: made.of(JobFailed))
    with pytest.raises(RefusedError) as refused:
        await service.flow(node(sms("top"), node(sms("fine")), node(sms("mid"), node(mail("bad")))))
    said = "children[1].children[0]: child bad of queue email-send was added before and has failed: retry it first"
    assert str(refused.value) == said
    assert not [key for key in await keys(redis, prefix) if ":sms-message:" in key]


async def test_child_of_another_parent_is_refused_and_nothing_is_added(
    service: Adding, redis: Redis, prefix: str
) -> None:
    await service.add(sms("p"))
    await service.add(mail("k"), parent=Parent("p", f"{prefix}:sms-message"))
    with pytest.raises(RefusedError, match=r"children\[0\]: The parent job .* cannot be replaced"):
        await service.flow(node(sms("top"), node(mail("k"))))
    assert not await redis.exists(f"{prefix}:sms-message:top")


@pytest.mark.parametrize(
    ("root", "field"),
    [
        (node(sms("p"), node(mail("a")), node(mail("b", to=7))), "children[1].data.to"),
        (node(sms("p"), node(mail("a"), options=AddOptions(priority=-1))), "children[0].priority"),
        (node(sms("p"), node(mail("a"), options=AddOptions(job_id="a:b"))), "children[0].job_id"),
        (node(sms("p"), node(mail("a")), node(mail("a"))), "children[1].job_id"),
        (node({"type": "teleport"}, node(mail("a"))), "type"),
        (
            node(sms("p"), node(mail("a"), options=AddOptions(deduplication=Deduplication(id="d")))),
            "children[0].deduplication",
        ),
    ],
)
async def test_nothing_is_added_where_one_node_is_wrong(
    service: Adding, redis: Redis, prefix: str, root: FlowNode, field: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await service.flow(root)
    assert refused.value.field == field
    assert await keys(redis, prefix) == []


async def test_full_queue_of_one_node_keeps_the_whole_flow_out(endpoint: Endpoint, redis: Redis, prefix: str) -> None:
    async with adding(endpoint, email_send={"limits": {"depth": 2}}) as service:
        await service.add(mail("m"))
    async with adding(endpoint, email_send={"limits": {"depth": 2}}) as service:
        with pytest.raises(QueueFull):
            await service.flow(node(sms("p"), node(mail("a")), node(mail("b"))))
    assert not await redis.exists(f"{prefix}:sms-message:p")


async def test_flows_of_one_id_that_come_together_are_one(
    endpoint: Endpoint, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    async with adding(endpoint) as service:
        made = await asyncio.gather(*(service.flow(THREE) for _ in range(20)))
        assert sum(not each.added.duplicate for each in made) == 1
        worker = await make_worker(queue="sms-message")
        other = await make_worker(queue="email-send")
        await wait_until(lambda: len(worker.of(JobCompleted)) + len(other.of(JobCompleted)) == 4)
        assert len(worker.of(JobActive)) + len(other.of(JobActive)) == 4


# ---------------------------------------------------------------------- traces


async def test_each_node_is_in_the_trace_of_its_parent(
    service: Adding, redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exported(monkeypatch) as found:
        await service.flow(THREE)
    spans = {(span.attributes or {}).get("bullmq.job.id", "flow"): span for span in found.get_finished_spans()}
    assert [span.name for span in spans.values()].count("addNode email-send") == 2
    assert spans["flow"].name == "addFlow sms-message"
    for child, parent in (("top", "flow"), ("mid-1", "top"), ("leaf", "mid-1"), ("task-614402200000777", "top")):
        of = spans[child].parent
        assert of is not None and of.span_id == spans[parent].context.span_id, child  # type: ignore[union-attr]
    row = await stored(redis, f"{prefix}:sms-message:leaf")
    assert f"{spans['leaf'].context.span_id:016x}" in json.loads(row["opts"]["tm"])["traceparent"]  # type: ignore[union-attr]
