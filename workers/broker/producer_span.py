"""The producer span of jobs that are added here, and the context that their consumers' spans join.

As BullMQ for Node does it (npm bullmq 5 and 6 with bullmq-otel): the spans are called `add <queue>.<job name>`,
`addBulk <queue>`, `addFlow <queue>` and `addNode <queue>`, and the propagator's carrier goes into each job's options as
JSON text under `tm`, unless `omc` says no.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

log = logging.getLogger(__name__)

_tracer = trace.get_tracer("fleet.producer")
#: Names of jobs that are written on the span of many.
MAX_NAMES = 20


@contextmanager
def adding(queue: str, name: str) -> Iterator[Span]:
    """The span around the adding of one job: a child of the present one. Tracing that fails leaves the job alone."""
    with _span("add", queue, f"{queue}.{name}", {"bullmq.job.name": name}) as span:
        yield span


@contextmanager
def adding_bulk(queue: str, names: Sequence[str]) -> Iterator[Span]:
    """The span around the adding of many jobs to one queue, which is the parent of all their consumers' spans.

    Args:
        names: of all the jobs.
    """
    few = list(dict.fromkeys(names))[:MAX_NAMES]
    counted = {"bullmq.job.bulk.names": few, "bullmq.job.bulk.count": len(names)}
    with _span("addBulk", queue, queue, {"messaging.batch.message_count": len(names), **counted}) as span:
        yield span


@contextmanager
def adding_flow(queue: str, name: str) -> Iterator[Span]:
    """The span around the adding of a flow, by its root's queue and name. Spans that start within are its children."""
    with _span("addFlow", queue, queue, {"bullmq.flow.name": name}) as span, _current(span):
        yield span


@contextmanager
def adding_node(queue: str, name: str, job_id: str) -> Iterator[Span]:
    """The span around one job of a flow and its children, whose spans start within."""
    about = {"bullmq.job.name": name, "bullmq.job.id": job_id, "messaging.message.id": job_id}
    with _span("addNode", queue, queue, about) as span, _current(span):
        yield span


def joined(span: Span, opts: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the span's context in them, where there is any and they don't say otherwise."""
    carrier = None if "tm" in opts or opts.get("omc") else carried(span)
    return {**opts, "tm": carrier} if carrier is not None else dict(opts)


def carried(span: Span) -> str | None:
    """The span's context, as jobs carry it. None: there is none."""
    carrier: dict[str, str] = {}
    try:
        propagate.inject(carrier, trace.set_span_in_context(span))
    except Exception:  # a propagator of someone else's (OTEL_PROPAGATORS)
        log.exception("no trace context could be given to a job")
    return json.dumps(carrier) if carrier else None


def added(span: Span, job_id: str) -> None:
    """The job has this id."""
    try:
        span.set_attributes({"messaging.message.id": job_id, "bullmq.job.id": job_id})
    except Exception:
        log.exception("a span could not be told the job's id")


@contextmanager
def _span(operation: str, queue: str, target: str, about: Mapping[str, Any]) -> Iterator[Span]:
    span = _started(operation, queue, target, about)
    try:
        yield span
    except BaseException as error:
        _end(span, error)
        raise
    _end(span, None)


@contextmanager
def _current(span: Span) -> Iterator[None]:
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        yield


def _started(operation: str, queue: str, target: str, about: Mapping[str, Any]) -> Span:
    try:
        return _tracer.start_span(
            f"{operation} {target}",
            kind=SpanKind.PRODUCER,
            attributes={
                # OpenTelemetry semantic conventions 1.44, messaging
                "messaging.system": "bullmq",
                "messaging.operation.name": operation,
                "messaging.operation.type": "send",
                "messaging.destination.name": queue,
                # bullmq-otel's own names
                "bullmq.queue.name": queue,
                "bullmq.queue.operation": operation,
                **about,
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
