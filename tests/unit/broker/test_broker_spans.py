"""The consumer span: joined to the producer's trace in all the forms it is written in, and never in the job's way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from workers.broker import spans
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.memory import JobMemory

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
CARRIER = json.dumps({"traceparent": TRACEPARENT, "tracestate": "rojo=1,congo=2", "baggage": "user=7"})


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What was exported; the provider is this test's own, since the global one can be set only once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "_tracer", provider.get_tracer("test"))
    return exporter


def job(**fields: Any) -> Activation:
    values = {"queue": "mail", "id": "7", "token": "t", "name": "send", "processed_on": 1700000000000}
    return Activation(**{**values, **fields})


def remote(opts: Any) -> trace.SpanContext:
    return trace.get_current_span(spans.producer_context(opts)).get_span_context()


# ---------------------------------------------------------------- reading the carrier


def test_context_of_the_producer_is_read_with_state_and_baggage() -> None:
    context = spans.producer_context({"tm": CARRIER, "attempts": 2})
    found = trace.get_current_span(context).get_span_context()
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, PARENT)
    assert found.is_remote and found.trace_flags.sampled
    assert found.trace_state.get("congo") == "2"
    assert baggage.get_baggage("user", context) == "7"


@pytest.mark.parametrize(
    "opts",
    [
        {"tm": CARRIER},
        {"tm": json.dumps({"TraceParent": TRACEPARENT})},
        {"tm": json.dumps({"traceparent": TRACEPARENT, "tracestate": 5, "x": None})},
        {"tm": json.dumps({"traceparent": TRACEPARENT, "tracestate": "=,;", "baggage": "%%=;;,"})},
        {"telemetry": {"metadata": CARRIER}},
        {"tm": "", "telemetry": {"metadata": CARRIER}},
        {"tm": CARRIER, "omc": False},
    ],
)
def test_every_form_of_the_carrier_is_read(opts: dict[str, Any]) -> None:
    assert f"{remote(opts).trace_id:032x}" == TRACE


@pytest.mark.parametrize(
    "opts",
    [
        {},
        {"tm": None},
        {"tm": 5},
        {"tm": {"traceparent": TRACEPARENT}},
        {"tm": "{nope"},
        {"tm": "[]"},
        {"tm": "null"},
        {"tm": json.dumps([TRACEPARENT])},
        {"tm": json.dumps({"traceparent": 5})},
        {"tm": json.dumps({"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"})},
        {"tm": json.dumps({"traceparent": TRACEPARENT + "-x"})},
        {"tm": "[" * 16_000},
        {"tm": json.dumps({"traceparent": TRACEPARENT, "pad": "x" * 16_384})},
        {"tm": CARRIER, "omc": True},
        {"telemetry": CARRIER},
        {"telemetry": [CARRIER]},
        {"telemetry": {"metadata": CARRIER, "omitContext": True}},
    ],
    ids=range(17),
)
def test_what_is_no_carrier_or_is_not_to_be_used_gives_no_context(opts: dict[str, Any]) -> None:
    assert not remote(opts).is_valid


def test_propagator_that_raises_gives_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def extract(*args: Any, **kwargs: Any) -> Any:
        raise KeyError("b3")

    monkeypatch.setattr("opentelemetry.propagate.extract", extract)
    assert not remote({"tm": CARRIER}).is_valid


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
names = st.sampled_from(["traceparent", "tracestate", "baggage", "Baggage", "x"])
carriers = st.dictionaries(names, anything | st.just(TRACEPARENT)).map(json.dumps) | st.text() | anything


@given(
    st.fixed_dictionaries(
        {}, optional={"tm": carriers, "omc": anything, "telemetry": st.dictionaries(st.just("metadata"), carriers)}
    )
)
def test_any_options_give_a_context(opts: dict[str, Any]) -> None:
    spans.producer_context(opts)


# ------------------------------------------------------------------------ the span


def ended(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def test_span_is_a_child_of_the_producers_and_linked_to_it(exported: InMemorySpanExporter) -> None:
    span = spans.start(job(opts={"tm": CARRIER}, attempts_made=1), "w1", links_only=False)
    assert spans.trace_id(span) == TRACE
    spans.finish(span, Completed(result=1))
    done = ended(exported)
    assert (done.name, done.kind) == ("process mail", SpanKind.CONSUMER)
    assert done.parent is not None and f"{done.parent.span_id:016x}" == PARENT
    assert [f"{link.context.span_id:016x}" for link in done.links] == [PARENT]
    attributes = dict(done.attributes or {})
    assert attributes["messaging.destination.name"] == attributes["bullmq.queue.name"] == "mail"
    assert attributes["messaging.message.id"] == attributes["bullmq.job.id"] == "7"
    assert (attributes["bullmq.worker.name"], attributes["bullmq.job.name"]) == ("w1", "send")
    assert attributes["bullmq.job.attempts.made"] == 1


def test_span_with_links_only_is_a_trace_of_its_own(exported: InMemorySpanExporter) -> None:
    span = spans.start(job(opts={"tm": CARRIER}), "w1", links_only=True)
    assert spans.trace_id(span) not in ("", TRACE)
    spans.finish(span, Completed(result=1))
    done = ended(exported)
    assert done.parent is None
    assert [f"{link.context.trace_id:032x}" for link in done.links] == [TRACE]


@pytest.mark.parametrize("links_only", [True, False])
def test_span_without_a_producer_is_a_root_without_links(exported: InMemorySpanExporter, links_only: bool) -> None:
    with trace.use_span(trace.NonRecordingSpan(remote({"tm": CARRIER}))):  # what this process happens to be in
        spans.finish(spans.start(job(), "w1", links_only=links_only), Completed(result=1))
    done = ended(exported)
    assert done.parent is None
    assert not done.links


@pytest.mark.parametrize(
    ("ending", "event", "status"),
    [
        (Completed(result=1), "job completed", StatusCode.UNSET),
        (Failed(reason="no", error="E"), "job failed", StatusCode.ERROR),
        (Retry(reason="no", error="E", delay_ms=1), "job failed", StatusCode.ERROR),
        (Delayed(delay_ms=1, reason="no"), "job delayed", StatusCode.UNSET),
        (HandedBack(reason="no"), "job handedback", StatusCode.UNSET),
        (Lost(reason="no"), "job lost", StatusCode.UNSET),
    ],
)
def test_ending_is_written_on_the_span(
    exported: InMemorySpanExporter, ending: Ending, event: str, status: StatusCode
) -> None:
    spans.finish(spans.start(job(), "w", links_only=False), ending)
    done = ended(exported)
    assert [each.name for each in done.events] == [event]
    assert done.status.status_code is status
    assert (dict(done.attributes or {}).get("error.type") == "E") is (status is StatusCode.ERROR)


def test_kind_of_failure_is_beside_the_name_of_the_exception(exported: InMemorySpanExporter) -> None:
    spans.finish(spans.start(job(), "w", links_only=False), Failed(reason="no", error="SMTPError", failure="user"))
    attributes = dict(ended(exported).attributes or {})
    assert (attributes["error.type"], attributes["fleet.job.failure"]) == ("SMTPError", "user")


@pytest.mark.parametrize(
    ("memory", "numbers"),
    [
        (JobMemory(40, 39, 64), {"before": 40, "after": 39, "delta": -1, "peak": 64}),
        (JobMemory(40, 41), {"before": 40, "after": 41, "delta": 1}),
        (None, {}),
    ],
)
def test_memory_of_an_isolated_job_is_on_its_span(
    exported: InMemorySpanExporter, memory: JobMemory | None, numbers: dict[str, int]
) -> None:
    spans.finish(spans.start(job(), "w", links_only=False), Completed(result=1), memory=memory)
    prefix = "fleet.job.memory."
    attributes = dict(ended(exported).attributes or {})
    assert {name.removeprefix(prefix): v for name, v in attributes.items() if name.startswith(prefix)} == numbers


def test_block_of_the_loop_is_an_event_with_its_stack(exported: InMemorySpanExporter) -> None:
    span = spans.start(job(), "w", links_only=False)
    spans.blocked(span, 1.23456, "in parse\ud800" + "x" * 100_000)
    spans.finish(span, Completed(result=1))
    (event, _) = ended(exported).events
    assert event.name == "loop blocked"
    assert (event.attributes or {})["fleet.loop.blocked_s"] == 1.235
    stack = str((event.attributes or {})["code.stacktrace"])
    assert stack.startswith("in parse?x") and len(stack) == 4096


def test_block_after_the_end_of_its_job_is_not_on_the_span(
    exported: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    span = spans.start(job(), "w", links_only=False)
    spans.finish(span, Completed(result=1))
    spans.blocked(span, 1.0, "in parse")
    assert [event.name for event in ended(exported).events] == ["job completed"]
    assert not caplog.records


def test_span_that_raises_when_told_of_a_block_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenSpan(trace.NonRecordingSpan):
        def is_recording(self) -> bool:
            raise RuntimeError("processor")

    spans.blocked(BrokenSpan(trace.INVALID_SPAN_CONTEXT), 1.0, "")
    assert [record.message for record in caplog.records] == [
        "a span could not be told that its job blocked the event loop"
    ]


def test_hostile_words_do_not_spoil_the_export(exported: InMemorySpanExporter) -> None:
    hostile = "\ud800" + "x" * 100_000
    spans.finish(spans.start(job(), "w", links_only=False), Failed(reason=hostile, error="E"))
    assert len(encode_spans([ended(exported)]).SerializeToString()) < 10_000


def test_sdk_that_raises_costs_the_span_and_not_the_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def start_span(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("sampler")

    class BrokenSpan(trace.NonRecordingSpan):
        def end(self, end_time: int | None = None) -> None:
            raise RuntimeError("processor")

    monkeypatch.setattr(spans, "_tracer", Broken())
    span = spans.start(job(), "w", links_only=False)
    assert spans.trace_id(span) == ""
    spans.finish(span, Completed(result=1))
    spans.finish(BrokenSpan(trace.INVALID_SPAN_CONTEXT), Completed(result=1))
    assert [record.message for record in caplog.records] == ["no span could be started", "a span could not be ended"]


def test_without_a_provider_there_is_no_trace_id() -> None:
    assert spans.trace_id(trace.INVALID_SPAN) == ""
