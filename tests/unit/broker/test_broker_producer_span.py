"""The producer span: a child of what runs, in the job's options as Node writes it, and never in the job's way."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from workers.broker import producer_span, spans


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(producer_span, "_tracer", provider.get_tracer("test"))
    return exporter


def only(exported: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exported.get_finished_spans()
    return span


def test_span_is_named_and_marked_as_nodes(exported: InMemorySpanExporter) -> None:
    with producer_span.adding("mail", "send") as span:
        producer_span.added(span, "7")
    done = only(exported)
    assert (done.name, done.kind, done.status.status_code) == ("add mail.send", SpanKind.PRODUCER, StatusCode.UNSET)
    assert dict(done.attributes or {}) == {
        "messaging.system": "bullmq",
        "messaging.operation.name": "add",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": "7",
        "bullmq.queue.name": "mail",
        "bullmq.queue.operation": "add",
        "bullmq.job.name": "send",
        "bullmq.job.id": "7",
    }


def test_consumer_joins_what_the_options_carry(exported: InMemorySpanExporter) -> None:
    with producer_span.adding("mail", "send") as span:
        opts = producer_span.joined(span, {"attempts": 2})
    found = trace.get_current_span(spans.producer_context(opts)).get_span_context()
    assert (found.trace_id, found.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)
    assert opts["attempts"] == 2


def test_span_is_a_child_of_the_present_one(exported: InMemorySpanExporter) -> None:
    with (
        trace.use_span(TracerProvider().get_tracer("t").start_span("job")) as outer,
        producer_span.adding("mail", "send"),
    ):
        pass
    done = only(exported)
    assert done.parent is not None and done.parent.span_id == outer.get_span_context().span_id


@pytest.mark.parametrize("opts", [{"tm": "their own"}, {"omc": True}])
def test_options_that_say_otherwise_stay_as_they_are(exported: InMemorySpanExporter, opts: dict[str, Any]) -> None:
    with producer_span.adding("mail", "send") as span:
        assert producer_span.joined(span, opts) == opts


def test_without_tracing_nothing_is_carried() -> None:
    given = {"attempts": 2}
    with producer_span.adding("mail", "send") as span:
        opts = producer_span.joined(span, given)
    assert opts == {"attempts": 2}
    assert opts is not given


def test_failure_is_on_the_span_without_its_words(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="hunter2"), producer_span.adding("mail", "send"):
        raise ValueError("hunter2")
    done = only(exported)
    assert done.status.status_code is StatusCode.ERROR
    assert (done.attributes or {})["error.type"] == "ValueError"
    assert "hunter2" not in done.to_json()


class Broken:
    """A tracer, span and propagator that all fail."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)


def test_tracing_that_fails_leaves_the_job_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken: Any = Broken()
    monkeypatch.setattr(producer_span, "_tracer", broken)
    with producer_span.adding("mail", "send"):
        pass
    monkeypatch.setattr(producer_span, "_started", lambda *asked: broken)
    monkeypatch.setattr(propagate, "inject", broken.__getattr__)
    with producer_span.adding("mail", "send") as span:
        assert producer_span.joined(span, {"attempts": 2}) == {"attempts": 2}
        producer_span.added(span, "7")
    assert [record.message for record in caplog.records] == [
        "no span could be started",
        "no trace context could be given to a job",
        "a span could not be told the job's id",
        "a span could not be ended",
    ]


def test_context_is_json_text(exported: InMemorySpanExporter) -> None:
    with producer_span.adding("mail", "send") as span:
        carrier = producer_span.joined(span, {})["tm"]
    assert isinstance(carrier, str)
    assert set(json.loads(carrier)) == {"traceparent"}
