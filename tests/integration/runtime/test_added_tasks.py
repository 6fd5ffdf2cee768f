"""Tasks that runs add, through worker and executor on a real server: as jobs, and as children to wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import Queue
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis

from tasks.base import Task
from tasks.email_send import EmailSend
from tests.conftest import wait_until
from tests.integration.runtime.process_rig import MAIL, NOTES, Fleet, Wave, jobs_of, raises
from workers.broker import producer_span, spans
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted, JobDelayed, JobFailed
from workers.contract import JobContext, PermanentError, TransientError, UserError, WaitForChildren
from workers.runtime.failure_note import NEUTRAL


@pytest.fixture
async def fleet(endpoint: Endpoint) -> AsyncIterator[Fleet]:
    fleet = Fleet(endpoint)
    yield fleet
    await fleet.stop()


@pytest.fixture
async def mails(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("email-send", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (producer_span, spans):
        monkeypatch.setattr(module, "_tracer", provider.get_tracer("test"))
    return exporter


async def test_parent_waits_for_the_children_that_it_added_and_reads_what_they_returned(
    fleet: Fleet, mails: Any, redis: Redis, prefix: str
) -> None:
    async def parent(task: EmailSend, ctx: JobContext) -> Any:
        values = await ctx.children_values()
        if len(values) == 2:
            return values
        ids = [await ctx.add(Wave(id=name, height=3), child=True) for name in ("614402200000777", "b:1")]
        assert ids == ["task-614402200000777", "b-1"]
        return WaitForChildren()

    async def child(task: Wave, ctx: JobContext) -> Any:
        return {"height": task.height, "by": ctx.job_id}

    await fleet.serve(parent)
    await mails.add("email-send", MAIL, {"jobId": "m1"})
    await wait_until(lambda: fleet.of(JobDelayed))
    assert await redis.zrange(f"{prefix}:email-send:waiting-children", 0, -1) == ["m1"]
    await fleet.serve(child, Wave)
    await wait_until(lambda: [e for e in fleet.of(JobCompleted) if e.queue == "email-send"])
    (done,) = [e for e in fleet.of(JobCompleted) if e.queue == "email-send"]
    assert done.result == {
        f"{prefix}:wave:task-614402200000777": {"height": 3, "by": "task-614402200000777"},
        f"{prefix}:wave:b-1": {"height": 3, "by": "b-1"},
    }


async def test_run_that_is_repeated_adds_its_children_once(fleet: Fleet, mails: Any) -> None:
    runs = 0

    async def parent(task: EmailSend, ctx: JobContext) -> Any:
        nonlocal runs
        runs += 1
        if values := await ctx.children_values():
            return list(values.values())
        await ctx.add(Wave(id="a", height=runs), child=True)
        if runs == 1:
            raise TransientError("once more")
        return WaitForChildren()

    async def child(task: Wave, ctx: JobContext) -> int:
        return task.height

    await mails.add("email-send", MAIL, {"attempts": 2})
    await fleet.serve(parent)
    await wait_until(lambda: fleet.of(JobDelayed))
    await fleet.serve(child, Wave)
    await wait_until(lambda: [e for e in fleet.of(JobCompleted) if e.queue == "email-send"])
    assert [e.result for e in fleet.of(JobCompleted)] == [1, [1]]


async def test_parent_fails_with_its_child_and_both_are_followed(
    fleet: Fleet, mails: Any, redis: Redis, prefix: str
) -> None:
    async def parent(task: EmailSend, ctx: JobContext) -> Any:
        await ctx.add(Wave(id="a", user_id="615", height=3), child=True)
        return WaitForChildren()

    await mails.add("email-send", MAIL, {"jobId": "m1", "attempts": 5})
    await fleet.serve(parent)
    await fleet.serve(raises(UserError("no sea")), Wave)
    await wait_until(lambda: len(fleet.of(JobFailed)) == 2)
    child, failed = fleet.of(JobFailed)
    assert (child.failure, failed.failure, failed.reason) == ("user", "permanent", f"child {prefix}:wave:a failed")
    notes: Any = await wait_until(lambda: jobs_of(redis, prefix, NOTES, 2))
    assert [(n["data"]["userId"], n["data"]["description"]) for n in notes] == [("615", "no sea"), ("614", NEUTRAL)]


async def test_task_that_no_queue_carries_fails_its_job_for_good(fleet: Fleet, mails: Any) -> None:
    async def process(task: EmailSend, ctx: JobContext) -> Any:
        await ctx.add(Task(id="x", type="teleport"))

    await mails.add("email-send", MAIL, {"attempts": 5})
    await fleet.serve(process)
    await wait_until(lambda: fleet.of(JobFailed))
    assert fleet.of(JobFailed)[0].reason == "type: no queue carries task type 'teleport': set queues.teleport"


async def test_trace_goes_from_the_job_over_what_it_adds(
    fleet: Fleet, mails: Any, redis: Redis, prefix: str, exported: InMemorySpanExporter
) -> None:
    async def process(task: EmailSend, ctx: JobContext) -> Any:
        await ctx.add(Wave(id="a", height=3))
        raise PermanentError("no")

    async def child(task: Wave, ctx: JobContext) -> None:
        return None

    await fleet.serve(process)
    await mails.add("email-send", MAIL, {})
    await wait_until(lambda: jobs_of(redis, prefix, NOTES, 1))
    await fleet.serve(child, Wave)
    await wait_until(lambda: len(exported.get_finished_spans()) == 4)
    by_name = {span.name: span for span in exported.get_finished_spans()}
    job = by_name["process email-send"]
    assert job.context is not None
    assert {span.context.trace_id for span in by_name.values() if span.context} == {job.context.trace_id}
    for name, parent in (
        ("add wave.wave", "process email-send"),
        ("process wave", "add wave.wave"),
        (f"add {NOTES}.{NOTES}", "process email-send"),
    ):
        span, above = by_name[name], by_name[parent]
        assert span.parent is not None and above.context is not None
        assert span.parent.span_id == above.context.span_id, name
