"""One trace from Node's producer span to our consumer span, seen by a receiver that both send to."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from tests.interop.conftest import Node
from tests.otlp_receiver import CONSUMER, ERROR, OtlpReceiver, otlp_receiver
from workers.broker import spans
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, Failed, Retry
from workers.broker.events import JobCompleted
from workers.broker.hold import Hold

pytestmark = pytest.mark.node


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
async def provider(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TracerProvider]:
    """Our side's; the global one could be set only once."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=receiver.url), schedule_delay_millis=50))
    monkeypatch.setattr(spans, "_tracer", provider.get_tracer("fleet.worker"))
    yield provider
    await asyncio.to_thread(provider.shutdown)


@pytest.mark.conform("Telemetry", "trace context of bullmq-otel", since=6)
async def test_trace_goes_from_the_node_producer_through_every_attempt(
    node: Node, receiver: OtlpReceiver, provider: TracerProvider, make_worker: MakeWorker
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        if job.id == "twice" and not job.attempts_made:
            return Retry(reason="once more", error="E", delay_ms=10)
        return Completed(result=None) if job.id != "never" else Failed(reason="no", error="E")

    made = await make_worker(work)
    jobs: list[dict[str, Any]] = [
        {"queue": "q", "name": "n", "opts": {"jobId": name, "attempts": 2}} for name in ("once", "twice", "never")
    ]
    jobs.append({"queue": "q", "name": "n", "opts": {"jobId": "apart", "telemetry": {"omitContext": True}}})
    lines = await node.run("trace.mjs", {"endpoint": receiver.url}, jobs)
    added = {line["id"]: line for line in lines}
    await wait_until(lambda: len(made.of(JobCompleted)) == 3)
    await wait_until(lambda: len(receiver.named("process q")) == 5)
    process = receiver.named("process q")
    for name, runs in (("once", 1), ("twice", 2), ("never", 1)):
        ours = [span for span in process if span.trace == added[name]["traceId"]]
        assert len(ours) == runs, name
        producer = [span for span in receiver.spans if span.id == added[name]["spanId"]]
        assert [span.name for span in producer] == ["add q.n"], "Node's own span has arrived too"
        for span in ours:
            assert span.parent == added[name]["spanId"]
            assert span.links == [added[name]["spanId"]]
            assert span.kind == CONSUMER
    assert added["apart"]["traceId"] is None
    (alone,) = [span for span in process if span.trace not in {line["traceId"] for line in lines}]
    assert (alone.parent, alone.links) == ("", [])
    (failed,) = [span for span in process if span.trace == added["never"]["traceId"]]
    assert failed.status == ERROR


async def test_span_is_a_child_of_the_context_that_node_stored_with_the_job(
    node: Node,
    bullmq: int,
    receiver: OtlpReceiver,
    provider: TracerProvider,
    make_worker: MakeWorker,
    redis: Redis,
    prefix: str,
) -> None:
    """Both majors write `opts.telemetry` as `tm` and `omc` (Job.optsAsJSON), whoever made the context."""
    await make_worker()
    trace_id, producer = os.urandom(16).hex(), os.urandom(8).hex()
    carrier = json.dumps({"traceparent": f"00-{trace_id}-{producer}-01"})
    telemetries: dict[str, dict[str, Any]] = {
        "joined": {"metadata": carrier},
        "apart": {"metadata": carrier, "omitContext": True},
    }
    jobs = [
        {"queue": "q", "name": "n", "opts": {"jobId": name, "telemetry": telemetry}}
        for name, telemetry in telemetries.items()
    ]
    await node.run("add.mjs", {"bullmq": bullmq}, jobs)
    await wait_until(lambda: len(receiver.named("process q")) == 2)
    stored: Any = await redis.hget(f"{prefix}:q:joined", "opts")
    assert json.loads(stored)["tm"] == carrier
    ours = {span.attributes["messaging.message.id"]: span for span in receiver.named("process q")}
    joined, apart = ours["joined"], ours["apart"]
    assert (joined.trace, joined.parent, joined.links) == (trace_id, producer, [producer])
    assert joined.kind == CONSUMER
    assert (apart.parent, apart.links) == ("", [])
    assert apart.trace != trace_id
