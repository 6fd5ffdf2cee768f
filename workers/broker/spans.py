"""The consumer span of a job, joined to the trace that BullMQ for Node put into the job.

Node stores the propagator's carrier as a JSON string in `opts.tm` and opts out with `opts.omc` (npm bullmq 5 and 6,
`Job.ts`); its own worker opens `process <queue>` as a child of that context.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from workers.broker.activation import Activation
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.memory import JobMemory
from workers.broker.result import clean

log = logging.getLogger(__name__)

_tracer = trace.get_tracer("fleet.worker")
#: Characters of a carrier that are looked at; a W3C context with baggage is far shorter.
_MAX_CARRIER = 16_384
#: Characters of a reason on a span.
_MAX_REASON, _MAX_STATUS = 1000, 200
#: Characters of a stack on a span.
_MAX_STACK = 4_096


def producer_context(opts: Mapping[str, Any]) -> Context:
    """The context that the producer left in the job; empty without one, or where it can't be read."""
    nested = opts.get("telemetry")  # producers in Python may write the options as they are named in the API
    telemetry = nested if isinstance(nested, dict) else {}
    carrier = opts.get("tm") or telemetry.get("metadata")
    omitted = opts.get("omc") or telemetry.get("omitContext")
    if omitted or not isinstance(carrier, str) or len(carrier) > _MAX_CARRIER:
        return Context()
    try:
        fields = json.loads(carrier)
        if not isinstance(fields, dict):
            return Context()
        texts = {k.lower(): v for k, v in fields.items() if isinstance(v, str)}
        return propagate.extract(texts, context=Context())
    except Exception:  # not JSON, or a propagator (OTEL_PROPAGATORS) that raises on what it can't read
        return Context()


def start(job: Activation, worker: str, *, links_only: bool) -> Span:
    """Start `process <queue>`: a child of the producer's span and linked to it, or with `links_only` a root.

    Never raises: where the SDK does, the job runs without a span.
    """
    try:
        return _started(job, worker, links_only)
    except Exception:
        log.exception("no span could be started")
        return trace.INVALID_SPAN


def _started(job: Activation, worker: str, links_only: bool) -> Span:
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


def rung(span: Span, name: str, after_s: float, attempt: int) -> None:
    """Write on a job's span that its run has reached a rung of its ladder. Never raises."""
    try:
        span.add_event(f"ladder {name}", {"fleet.rung.after_s": round(after_s, 3), "fleet.rung.attempt": attempt})
    except Exception:
        log.exception("a span could not be told of a rung")


def blocked(span: Span, blocked_s: float, stack: str) -> None:
    """Write on a job's span that it kept the event loop from turning for so many seconds, and where. Never raises."""
    try:
        if span.is_recording():  # a task that the job left behind may be the one
            fields: dict[str, float | str] = {"fleet.loop.blocked_s": round(blocked_s, 3)}
            span.add_event("loop blocked", {**fields, "code.stacktrace": clean(stack, _MAX_STACK)})
    except Exception:
        log.exception("a span could not be told that its job blocked the event loop")


def finish(
    span: Span, ending: Ending, describe: Callable[[str], str] = str, *, memory: JobMemory | None = None
) -> None:
    """Write the ending on the span. Node leaves failed spans UNSET; ours say ERROR, so that a backend finds them.

    Never raises.

    Args:
        describe: how a reason may be shown: without secrets.
        memory: what the run needed, where it had a process of its own.
    """
    try:
        if memory is not None:
            span.set_attributes(_memory(memory))
        _tell(span, ending, describe)
        span.end()
    except Exception:
        log.exception("a span could not be ended")


def _tell(span: Span, ending: Ending, describe: Callable[[str], str]) -> None:
    match ending:
        case Completed():
            span.add_event("job completed")
        case Failed() | Retry():
            span.add_event("job failed", {"bullmq.job.failed.reason": clean(describe(ending.reason), _MAX_REASON)})
            span.set_attributes({"error.type": ending.error, "fleet.job.failure": ending.failure})
            span.set_status(Status(StatusCode.ERROR, clean(describe(ending.reason), _MAX_STATUS)))
        case Delayed() | HandedBack() | Lost():
            name = f"job {type(ending).__name__.lower()}"
            span.add_event(name, {"reason": clean(describe(ending.reason), _MAX_REASON)})


def _memory(memory: JobMemory) -> dict[str, int]:
    """Bytes of the process that ran this job alone. The jobs of one event loop share theirs: those have none."""
    numbers = {
        "fleet.job.memory.before": memory.before,
        "fleet.job.memory.after": memory.after,
        "fleet.job.memory.delta": memory.delta,
    }
    return numbers if memory.peak is None else {**numbers, "fleet.job.memory.peak": memory.peak}


def trace_id(span: Span) -> str:
    """32 hex digits, or empty without a recording trace."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
