"""One trace from Node's producer span to our consumer span, seen by an OTLP receiver that both send to."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.conftest import MakeWorker, wait_until
from tests.interop.conftest import Node
from workers.broker import spans
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, Failed, Retry
from workers.broker.events import JobCompleted
from workers.broker.hold import Hold

pytestmark = pytest.mark.node


class Receiver:
    """OTLP over HTTP, protobuf and JSON."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        message = ExportTraceServiceRequest()
        if "json" in request.content_type:
            for resource in json.loads(body)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    self.spans += [
                        {
                            "trace": s["traceId"],
                            "id": s["spanId"],
                            "parent": s.get("parentSpanId", ""),
                            "name": s["name"],
                        }
                        for s in scope["spans"]
                    ]
            return web.json_response({})
        message.ParseFromString(body)
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [
                    {
                        "trace": s.trace_id.hex(),
                        "id": s.span_id.hex(),
                        "parent": s.parent_span_id.hex(),
                        "name": s.name,
                        "kind": s.kind,
                        "links": [link.span_id.hex() for link in s.links],
                        "status": s.status.code,
                    }
                    for s in scope.spans
                ]
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/v1/traces", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield receiver
    await runner.cleanup()


@pytest.mark.conform("Telemetry", "trace context of bullmq-otel", since=6)
async def test_trace_goes_from_the_node_producer_through_every_attempt(
    node: Node, receiver: Receiver, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=receiver.url), schedule_delay_millis=50))
    monkeypatch.setattr(spans, "_tracer", provider.get_tracer("fleet.worker"))

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
    await wait_until(lambda: len([s for s in receiver.spans if s["name"] == "process q"]) == 5)
    provider.shutdown()
    process = [span for span in receiver.spans if span["name"] == "process q"]
    for name, runs in (("once", 1), ("twice", 2), ("never", 1)):
        ours = [span for span in process if span["trace"] == added[name]["traceId"]]
        assert len(ours) == runs, name
        producer = [span for span in receiver.spans if span["id"] == added[name]["spanId"]]
        assert [span["name"] for span in producer] == ["add q.n"], "Node's own span has arrived too"
        for span in ours:
            assert span["parent"] == added[name]["spanId"]
            assert span["links"] == [added[name]["spanId"]]
            assert span["kind"] == 5, "CONSUMER"
    assert added["apart"]["traceId"] is None
    (alone,) = [span for span in process if span["trace"] not in {line["traceId"] for line in lines}]
    assert (alone["parent"], alone["links"]) == ("", [])
    (failed,) = [span for span in process if span["trace"] == added["never"]["traceId"]]
    assert failed["status"] == 2, "ERROR"
