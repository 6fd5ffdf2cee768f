"""A job that blocks the loop of its worker, with a real server: named in the event, in the log and on its span."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from bullmq import Queue
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from config.schema import LogConfig
from tasks.email_send import EmailSend
from tests.conftest import MakeWorker, wait_until
from tests.unit.ops.service_contract import soon
from workers.broker import spans
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending
from workers.broker.events import JobCompleted, LoopBlocked
from workers.broker.hold import Hold
from workers.contract import JobContext, retry_all
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy
from workers.runtime.watchdog import Watchdog
from workers.telemetry import logs
from workers.telemetry.job_log import JobLog

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "text": "T"}
BLOCK_S = 0.7

Act = Callable[[], Awaitable[None]]


async def waits() -> None:
    time.sleep(BLOCK_S)  # noqa: ASYNC251  # what the processor does wrong


async def waits_in_a_child() -> None:
    await asyncio.create_task(waits())


async def backtracks() -> None:
    """Holds the GIL for a second or more, whatever the machine."""
    for length in range(20, 28):
        start = time.monotonic()
        re.match(r"(a+)+$", "a" * length + "b")
        if time.monotonic() - start > BLOCK_S:
            return
        await asyncio.sleep(0)


ACTS: dict[str, Act] = {each.__name__: each for each in (waits, waits_in_a_child, backtracks)}


async def process(task: EmailSend, ctx: JobContext) -> None:
    act = ACTS.get(task.subject)
    await (act() if act is not None else asyncio.sleep(0.01))


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "_tracer", provider.get_tracer("test"))
    return exporter


@pytest.fixture
def written(restored_logging: None) -> io.StringIO:
    out = io.StringIO()
    logs.configure(LogConfig(format="json", level="info"), stream=out)
    return out


@pytest.fixture
async def blocks(written: io.StringIO) -> AsyncIterator[list[LoopBlocked]]:
    """The blocks of this test's loop that are over; all of them are logged too."""
    told: list[LoopBlocked] = []
    job_log = JobLog()

    def emit(event: LoopBlocked) -> None:
        job_log(event)
        told.append(event)

    dog = Watchdog(emit, job_log)
    await dog.start()
    yield told
    await dog.stop(by=soon())


@pytest.mark.parametrize("act", ACTS)
async def test_job_that_blocks_is_named_among_innocent_ones(
    make_worker: MakeWorker,
    queue: Any,
    blocks: list[LoopBlocked],
    written: io.StringIO,
    exported: InMemorySpanExporter,
    act: str,
) -> None:
    plan = Plan(
        isolation=Inline(process), classify=retry_all, ladder=Ladder.timeout(60.0), retry=RetryPolicy(attempts=1)
    )
    limits = Limits(max_data_bytes=10_000, unknown_delay_s=30, unknown_give_up_s=3600)
    made = await make_worker(Executor({"email-send": plan}, limits).execute, slots=4)
    subjects = ["innocent"] * 5 + [act] + ["innocent"] * 5
    jobs = [await queue.add("n", {**MAIL, "subject": subject}) for subject in subjects]
    guilty = jobs[5].id
    await wait_until(lambda: len(made.of(JobCompleted)) == len(jobs))
    await wait_until(lambda: any(event.job_id for event in blocks))
    named = [event for event in blocks if event.job_id]
    assert {(event.queue, event.task_type, event.job_id) for event in named} == {("q", "email-send", guilty)}
    block = named[-1]
    assert block.blocked_s > BLOCK_S / 2
    assert f"in {act.removesuffix('_in_a_child')}\n" in block.stack
    records = [json.loads(line) for line in written.getvalue().splitlines()]
    told = [record for record in records if "event loop" in record["event"]]
    assert {record["job_id"] for record in told if "job_id" in record} == {guilty}
    assert block.trace_id in {record.get("trace_id") for record in told}
    with_event = [span for span in exported.get_finished_spans() if events_of(span)]
    assert [(span.attributes or {})["bullmq.job.id"] for span in with_event] == [guilty]
    assert act.removesuffix("_in_a_child") in events_of(with_event[0])[0]


def events_of(span: ReadableSpan) -> list[str]:
    """The stacks of its blocks."""
    events = [event for event in span.events if event.name == "loop blocked"]
    return [str((event.attributes or {})["code.stacktrace"]) for event in events]


async def test_what_the_runtime_does_for_a_job_counts_as_its_doing(
    make_worker: MakeWorker, queue: Any, blocks: list[LoopBlocked]
) -> None:
    async def execute(job: Activation, hold: Hold) -> Ending:
        time.sleep(BLOCK_S)  # noqa: ASYNC251  # as data would that takes long to read, before any processor
        return Completed(result=None)

    await make_worker(execute)
    job = await queue.add("n", MAIL)
    await wait_until(lambda: [event for event in blocks if event.job_id == job.id])
