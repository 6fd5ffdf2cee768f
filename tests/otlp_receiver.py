"""An OTLP receiver of the test's own, to which our processes and Node's send their spans."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

#: `Span.SpanKind` and `Status.StatusCode` of opentelemetry/proto/trace/v1/trace.proto.
CONSUMER, ERROR = 5, 2


@dataclass(frozen=True, kw_only=True)
class ReceivedSpan:
    """A span as it came over the wire."""

    trace: str
    """32 hex digits."""
    id: str
    """16 hex digits, like `parent` and `links`."""
    parent: str
    """Empty for a root."""
    name: str
    kind: int
    links: list[str]
    status: int
    resource: dict[str, str]
    """The attributes of who sent it that are texts."""
    attributes: dict[str, str]
    """Those that are texts."""
    text: str
    """All of it, to search for what must not be in it."""


class OtlpReceiver:
    """OTLP over HTTP: protobuf, as Python sends it, and JSON, as Node does."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.base = ""
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""

    @property
    def url(self) -> str:
        """Where traces are taken."""
        return f"{self.base}/v1/traces"

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        if "json" in request.content_type:
            self.spans += _from_json(json.loads(body))
            return web.json_response({})
        message = ExportTraceServiceRequest()
        message.ParseFromString(body)
        self.spans += _from_protobuf(message)
        return web.Response(content_type="application/x-protobuf")


def _from_json(message: dict[str, Any]) -> list[ReceivedSpan]:
    def texts(attributes: list[dict[str, Any]]) -> dict[str, str]:
        return {each["key"]: each["value"].get("stringValue", "") for each in attributes}

    return [
        ReceivedSpan(
            trace=span["traceId"],
            id=span["spanId"],
            parent=span.get("parentSpanId", ""),
            name=span["name"],
            kind=span["kind"],
            links=[link["spanId"] for link in span.get("links", [])],
            status=span.get("status", {}).get("code", 0),
            resource=texts(resource["resource"]["attributes"]),
            attributes=texts(span["attributes"]),
            text=json.dumps(span),
        )
        for resource in message["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _from_protobuf(message: ExportTraceServiceRequest) -> list[ReceivedSpan]:
    def texts(attributes: Any) -> dict[str, str]:
        return {each.key: each.value.string_value for each in attributes}

    return [
        ReceivedSpan(
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            name=span.name,
            kind=span.kind,
            links=[link.span_id.hex() for link in span.links],
            status=span.status.code,
            resource=texts(resource.resource.attributes),
            attributes=texts(span.attributes),
            text=str(span),
        )
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[OtlpReceiver]:
    """Listens on loopback within the block."""
    receiver = OtlpReceiver()
    app = web.Application()
    app.router.add_post("/v1/traces", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()
