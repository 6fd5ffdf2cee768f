"""The consumer span of a job, joined to the trace that BullMQ for Node put into the job.

Node stores the propagator's carrier as a JSON string in `opts.tm` and opts out with `opts.omc` (npm bullmq 5 and 6,
`Job.ts`); its own worker opens `process <queue>` as a child of that context.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from workers.broker.activation import Activation
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry

_tracer = trace.get_tracer("fleet.worker")
#: Characters of a carrier that are looked at; a W3C context with baggage is far shorter.
_MAX_CARRIER = 16_384


def producer_context(opts: Mapping[str, Any]) -> Context:
    """The context that the producer left in the job; empty without one, or where it can't be read."""
    telemetry = opts.get("telemetry")
    carrier = opts.get("tm") or (telemetry.get("metadata") if isinstance(telemetry, dict) else None)
    if opts.get("omc") or not isinstance(carrier, str) or len(carrier) > _MAX_CARRIER:
        return Context()
    try:
        fields = json.loads(carrier)
    except (ValueError, RecursionError):
        return Context()
    if not isinstance(fields, dict):
        return Context()
    texts = {k.lower(): v for k, v in fields.items() if isinstance(v, str)}
    return propagate.extract(texts, context=Context())


def start(job: Activation, worker: str, *, links_only: bool) -> Span:
    """Start `process <queue>`: a child of the producer's span and linked to it, or with `links_only` a root."""
    context = producer_context(job.opts)
    remote = trace.get_current_span(context).get_span_context()
    return _tracer.start_span(
        f"process {job.queue}",
        context=Context() if links_only else context,
        kind=SpanKind.CONSUMER,
        links=[Link(remote)] if remote.is_valid else [],
        attributes={
            # OpenTelemetry semantic conventions 1.44, messaging
            "messaging.system": "bullmq",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": job.queue,
            "messaging.message.id": job.id,
            # bullmq-otel's own names, so that one query finds Node's and our spans
            "bullmq.queue.name": job.queue,
            "bullmq.queue.operation": "process",
            "bullmq.worker.name": worker,
            "bullmq.job.id": job.id,
            "bullmq.job.name": job.name,
            "bullmq.job.attempts.made": job.attempts_made,
            "bullmq.job.processed.timestamp": job.processed_on,
        },
    )


def finish(span: Span, ending: Ending) -> None:
    """Write the ending on the span. Node leaves failed spans UNSET; ours say ERROR, so that a backend finds them."""
    match ending:
        case Completed():
            span.add_event("job completed")
        case Failed() | Retry():
            span.add_event("job failed", {"bullmq.job.failed.reason": ending.reason[:1000]})
            span.set_attribute("error.type", ending.error)
            span.set_status(Status(StatusCode.ERROR, ending.reason[:200]))
        case Delayed() | HandedBack() | Lost():
            span.add_event("job " + type(ending).__name__.lower(), {"reason": ending.reason[:1000]})
    span.end()


def trace_id(span: Span) -> str:
    """32 hex digits, or empty without a recording trace."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
