"""Jobs that are added here, on a real server: once, as children, in their trace, through lost replies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from tests.fault_plan import named
from tests.faults import FaultProxy
from workers.broker import producer_span
from workers.broker.activation import Activation
from workers.broker.client import NotSentError, ReplyLostError
from workers.broker.endings import Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobFailed
from workers.broker.hold import Hold, Parent
from workers.broker.producer import AddRefusedError, JobAdder, adder


@pytest.fixture
async def jobs(endpoint: Endpoint) -> AsyncIterator[JobAdder]:
    client = endpoint.commands()
    yield JobAdder(client, endpoint.prefix)
    await client.aclose()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(producer_span, "_tracer", provider.get_tracer("fleet.producer"))
    return exporter


async def stored(redis: Redis, key: str) -> dict[str, Any]:
    row: Any = await redis.hgetall(key)
    return {k: json.loads(v) if k in ("data", "opts", "parent") else v for k, v in row.items()}


async def test_job_is_stored_as_node_stores_it(jobs: JobAdder, redis: Redis, prefix: str) -> None:
    data = {"type": "wave", "text": "é😀\ud800", "huge": 2**70}
    assert await jobs.add("q", "wave", data, {"jobId": "a", "attempts": 3}) == "a"
    assert await jobs.add("q", "wave", {}, {}) == "2", "the counter's"
    row = await stored(redis, f"{prefix}:q:a")
    assert (row["name"], row["data"], row["opts"]["attempts"]) == ("wave", data, 3)
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == ["2", "a"]


async def test_second_job_of_an_id_is_none(jobs: JobAdder, redis: Redis, prefix: str) -> None:
    await jobs.add("q", "n", {"v": 1}, {"jobId": "a"})
    assert await jobs.add("q", "n", {"v": 2}, {"jobId": "a"}) == "a"
    assert (await stored(redis, f"{prefix}:q:a"))["data"] == {"v": 1}
    assert await redis.llen(f"{prefix}:q:wait") == 1


@pytest.mark.parametrize(
    ("data", "opts", "words"),
    [
        ({"v": float("nan")}, {}, "Out of range float values"),
        ({"v": {1}}, {}, "Object of type set"),
        ({}, {"jobId": "\ud800"}, "surrogates not allowed"),
        ({}, {"failParentOnFailure": True, "removeDependencyOnFailure": True}, "one at most: fpof, rdof"),
    ],
)
async def test_job_that_bullmq_does_not_take_is_refused(jobs: JobAdder, data: Any, opts: Any, words: str) -> None:
    with pytest.raises(AddRefusedError, match=words):
        await jobs.add("q", "n", data, opts)


# -------------------------------------------------------------------------- children


@pytest.fixture
async def parent(jobs: JobAdder, prefix: str) -> Parent:
    await jobs.add("parents", "n", {}, {"jobId": "p"})
    return Parent("p", f"{prefix}:parents")


async def test_child_becomes_a_dependency_once(jobs: JobAdder, redis: Redis, prefix: str, parent: Parent) -> None:
    for _ in range(2):
        assert await jobs.add("kids", "n", {}, {"jobId": "a"}, parent) == "a"
    row = await stored(redis, f"{prefix}:kids:a")
    assert row["parentKey"] == f"{prefix}:parents:p"
    assert row["parent"] == {"id": "p", "queueKey": f"{prefix}:parents", "fpof": True}
    assert await redis.smembers(f"{prefix}:parents:p:dependencies") == {f"{prefix}:kids:a"}
    assert await redis.llen(f"{prefix}:kids:wait") == 1


async def test_child_of_a_parent_that_is_gone_is_refused(jobs: JobAdder, redis: Redis, prefix: str) -> None:
    with pytest.raises(AddRefusedError, match=f"Missing key for parent job {prefix}:parents:gone"):
        await jobs.add("kids", "n", {}, {"jobId": "a"}, Parent("gone", f"{prefix}:parents"))
    assert not await redis.exists(f"{prefix}:kids:a")


async def test_child_of_another_parent_is_refused(jobs: JobAdder, prefix: str, parent: Parent) -> None:
    await jobs.add("parents", "n", {}, {"jobId": "other"})
    await jobs.add("kids", "n", {}, {"jobId": "a"}, Parent("other", f"{prefix}:parents"))
    with pytest.raises(AddRefusedError, match="cannot be replaced"):
        await jobs.add("kids", "n", {}, {"jobId": "a"}, parent)


async def test_child_that_has_failed_before_is_refused_instead_of_waited_for_without_end(
    jobs: JobAdder, redis: Redis, prefix: str, parent: Parent, make_worker: MakeWorker
) -> None:
    async def fails(job: Activation, hold: Hold) -> Ending:
        return Failed(reason="no", error="E")

    await jobs.add("kids", "n", {}, {"jobId": "a"})
    made = await make_worker(fails, queue="kids")
    await wait_until(lambda: made.of(JobFailed))
    with pytest.raises(AddRefusedError, match="child a of queue kids was added before and has failed: retry it first"):
        await jobs.add("kids", "n", {}, {"jobId": "a"}, parent)
    assert not await redis.exists(f"{prefix}:parents:p:dependencies")


# ---------------------------------------------------------------------------- outages


async def test_reply_that_is_lost_is_told_and_adding_again_adds_nothing(
    proxied: Endpoint, proxy: FaultProxy, redis: Redis, prefix: str
) -> None:
    client = proxied.commands()
    jobs = JobAdder(client, prefix)
    await jobs.add("q", "n", {}, {"jobId": "first"})
    proxy.drop_reply(named("addJobs"))
    with pytest.raises(ReplyLostError):
        await jobs.add("q", "n", {"v": 1}, {"jobId": "a"})
    assert await redis.llen(f"{prefix}:q:wait") == 2, "it was added"
    assert await jobs.add("q", "n", {"v": 1}, {"jobId": "a"}) == "a"
    assert await redis.llen(f"{prefix}:q:wait") == 2
    await client.aclose()


async def test_server_that_is_away_was_not_told() -> None:
    client = Endpoint(url="redis://127.0.0.1:1", connect_timeout_s=0.5).commands()
    with pytest.raises(NotSentError):
        await JobAdder(client).add("q", "n", {}, {})
    await client.aclose()


# ------------------------------------------------------------------------------ traces


async def test_producer_span_goes_with_the_job(
    jobs: JobAdder, redis: Redis, prefix: str, exported: InMemorySpanExporter, parent: Parent
) -> None:
    exported.clear()
    await jobs.add("q", "wave", {}, {"jobId": "a"}, parent)
    (span,) = exported.get_finished_spans()
    assert (span.name, span.kind) == ("add q.wave", SpanKind.PRODUCER)
    assert span.attributes is not None and span.context is not None
    assert span.attributes["messaging.message.id"] == "a"
    carrier = json.loads((await stored(redis, f"{prefix}:q:a"))["opts"]["tm"])
    assert carrier["traceparent"].startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")


async def test_without_a_tracer_the_job_carries_no_context(jobs: JobAdder, redis: Redis, prefix: str) -> None:
    await jobs.add("q", "n", {}, {"jobId": "a"})
    assert "tm" not in (await stored(redis, f"{prefix}:q:a"))["opts"]


async def test_producer_with_a_connection_of_its_own_adds_too(redis_url: str, redis: Redis, prefix: str) -> None:
    async with adder(redis_url, prefix) as add:
        assert await add("q", "n", {"v": 1}, {"jobId": "a"}) == "a"
    assert (await stored(redis, f"{prefix}:q:a"))["data"] == {"v": 1}
