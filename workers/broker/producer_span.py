"""The producer span of a job that is added here, and the context that its consumer's span joins.

As BullMQ for Node does it (npm bullmq 5 and 6 with bullmq-otel): the span is called `add <queue>.<job name>`, and the
propagator's carrier goes into the job's options as JSON text under `tm`, unless `omc` says no.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

log = logging.getLogger(__name__)

_tracer = trace.get_tracer("fleet.producer")


@contextmanager
def adding(queue: str, name: str) -> Iterator[Span]:
    """The span around the adding of one job: a child of the present one. Tracing that fails leaves the job alone."""
    span = _started(queue, name)
    try:
        yield span
    except BaseException as error:
        _end(span, error)
        raise
    _end(span, None)


def joined(span: Span, opts: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the span's context in them, where there is any and they don't say otherwise."""
    if "tm" in opts or opts.get("omc"):
        return dict(opts)
    carrier: dict[str, str] = {}
    try:
        propagate.inject(carrier, trace.set_span_in_context(span))
    except Exception:  # a propagator of someone else's (OTEL_PROPAGATORS)
        log.exception("no trace context could be given to a job")
    return {**opts, "tm": json.dumps(carrier)} if carrier else dict(opts)


def added(span: Span, job_id: str) -> None:
    """The job has this id."""
    try:
        span.set_attributes({"messaging.message.id": job_id, "bullmq.job.id": job_id})
    except Exception:
        log.exception("a span could not be told the job's id")


def _started(queue: str, name: str) -> Span:
    try:
        return _tracer.start_span(
            f"add {queue}.{name}",
            kind=SpanKind.PRODUCER,
            attributes={
                # OpenTelemetry semantic conventions 1.44, messaging
                "messaging.system": "bullmq",
                "messaging.operation.name": "add",
                "messaging.operation.type": "send",
                "messaging.destination.name": queue,
                # bullmq-otel's own names
                "bullmq.queue.name": queue,
                "bullmq.queue.operation": "add",
                "bullmq.job.name": name,
            },
        )
    except Exception:
        log.exception("no span could be started")
        return trace.INVALID_SPAN


def _end(span: Span, error: BaseException | None) -> None:
    try:
        if error is not None:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
        span.end()
    except Exception:
        log.exception("a span could not be ended")
