"""What a processor logs says which job it is about, without the processor's help."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import Queue
from opentelemetry.sdk.trace import TracerProvider

from config.schema import LogConfig
from tasks.email_send import EmailSend
from tests.conftest import MakeWorker, wait_until
from workers.broker import spans
from workers.broker.events import JobCompleted
from workers.contract import JobContext, TransientError, retry_all
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy
from workers.telemetry import logs

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MAIL = {"type": "email-send", "to": ["a@example.com"], "subject": "S", "text": "T"}
#: As a library of somebody else's has it.
library = logging.getLogger("somebody.elses.library")


@pytest.fixture
def written(restored_logging: None) -> io.StringIO:
    """What this process logs."""
    out = io.StringIO()
    logs.configure(LogConfig(format="json", level="info"), stream=out)
    return out


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


class Chatty:
    """Logs from the event loop and from a thread, while another job does the same; its first attempt fails."""

    def __init__(self, jobs: int) -> None:
        self._all_here = asyncio.Barrier(jobs)

    async def __call__(self, task: EmailSend, ctx: JobContext) -> None:
        await self._all_here.wait()
        library.info("in the loop", extra={"about": task.id})
        await asyncio.to_thread(library.info, "in a thread", extra={"about": task.id})
        if ctx.attempt == 1:
            raise TransientError("once more")


def records(written: io.StringIO) -> list[dict[str, Any]]:
    """What the library wrote."""
    found = [json.loads(line) for line in written.getvalue().splitlines()]
    return [record for record in found if record["logger"] == library.name]


async def _run(make_worker: MakeWorker, queue: Any, **opts: Any) -> None:
    """Two jobs at once, two attempts each."""
    plan = Plan(
        isolation=Inline(Chatty(2)), classify=retry_all, ladder=Ladder.timeout(60.0), retry=RetryPolicy(attempts=2)
    )
    limits = Limits(max_data_bytes=10_000, unknown_delay_s=30, unknown_give_up_s=3600)
    made = await make_worker(Executor({"email-send": plan}, limits).execute, slots=2)
    for name in ("a", "b"):
        await queue.add(f"mail-{name}", {**MAIL, "id": name}, {"jobId": f"job-{name}", **opts})
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)


async def test_log_line_of_a_processor_names_its_job_and_attempt(
    make_worker: MakeWorker, queue: Any, written: io.StringIO
) -> None:
    await _run(make_worker, queue)
    lines = records(written)
    told = [(line["about"], line["job_id"], line["job_name"], line["attempt"], line["event"]) for line in lines]
    assert sorted(told) == [
        (name, f"job-{name}", f"mail-{name}", attempt, event)
        for name in ("a", "b")
        for attempt in (1, 2)
        for event in ("in a thread", "in the loop")
    ]
    assert {line["queue"] for line in lines} == {"q"}
    assert not any("trace_id" in line for line in lines), "no span is recorded"


async def test_log_line_of_a_processor_has_the_trace_of_its_job(
    make_worker: MakeWorker, queue: Any, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "_tracer", TracerProvider().get_tracer("test"))
    await _run(make_worker, queue, tm=json.dumps({"traceparent": f"00-{TRACE}-{PARENT}-01"}))
    lines = records(written)
    assert len(lines) == 8
    assert {line["trace_id"] for line in lines} == {TRACE}
    spans_told = {(line["job_id"], line["attempt"], line["span_id"]) for line in lines}
    assert len(spans_told) == len({span_id for *_, span_id in spans_told}) == 4, "a span for each attempt"
    assert PARENT not in {span_id for *_, span_id in spans_told}
