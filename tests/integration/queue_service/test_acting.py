"""Acts through the service on a real server: what is done, what is refused and why, and what the audit is told."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import MakeWorker, Server, wait_until
from tests.fault_plan import Match, named
from tests.faults import FaultProxy
from tests.integration.broker.test_job_acts import HOUR_MS, run, stand
from tests.integration.queue_service.conftest import MakeActing, Queues
from workers.broker import act_scripts
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted
from workers.queue_service import bulk
from workers.queue_service.acting import Acting
from workers.queue_service.actor import Actor
from workers.queue_service.errors import (
    InvalidRequestError,
    QueueServiceError,
    QueueUnavailableError,
    RefusedError,
    UnknownJobError,
    UnknownQueueError,
)
from workers.queue_service.filter import parse
from workers.queue_service.report import Act

ANN = Actor("ann", via="cli")
USER = Actor("web", via="http", user_id="u1")
MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}


async def data_of(redis: Redis, prefix: str, job_id: str, queue: str = "q") -> Any:
    return json.loads(await redis.hget(f"{prefix}:{queue}:{job_id}", "data") or "null")


# ---------------------------------------------------------------------- single jobs


async def test_single_acts_report_and_are_told(
    acting: Acting, queue: Any, redis: Redis, prefix: str, acts_told: list[Act]
) -> None:
    failed = await queue.add("n", {"status": "Failed"})
    await run(redis, prefix, failed.id, "failed")
    report = await acting.retry("q", failed.id, reset_attempts=True, actor=ANN)
    assert (report.action, report.matched, report.done, report.job_ids) == ("retry", 1, 1, (failed.id,))
    delayed = await queue.add("n", {}, {"delay": HOUR_MS})
    assert (await acting.change_delay("q", delayed.id, 2 * HOUR_MS, actor=ANN)).done == 1
    assert (await acting.promote("q", delayed.id, actor=ANN)).done == 1
    assert (await acting.change_priority("q", delayed.id, 9, actor=ANN)).done == 1
    assert await stand(queue, delayed.id) == "prioritized"
    moved = await acting.move("q", delayed.id, "other", actor=ANN)
    assert moved.job_ids == (delayed.id,)
    assert (await acting.remove("other", delayed.id, actor=ANN)).done == 1
    told = [(act.action, act.queue, act.target, act.outcome, act.done, dict(act.arguments)) for act in acts_told]
    assert told == [
        ("retry", "q", failed.id, "done", 1, {"reset_attempts": True}),
        ("change-delay", "q", delayed.id, "done", 1, {"delay_ms": 2 * HOUR_MS}),
        ("promote", "q", delayed.id, "done", 1, {}),
        ("change-priority", "q", delayed.id, "done", 1, {"priority": 9}),
        ("move", "q", delayed.id, "done", 1, {"to": "other"}),
        ("remove", "other", delayed.id, "done", 1, {"children": True}),
    ]
    assert {act.actor for act in acts_told} == {ANN}


async def test_act_on_a_job_that_has_moved_on_names_its_state(
    acting: Acting, queue: Any, redis: Redis, prefix: str, acts_told: list[Act]
) -> None:
    job = await queue.add("n", {})
    await run(redis, prefix, job.id, "completed")
    for act in (
        acting.promote("q", job.id, actor=ANN),
        acting.cancel("q", job.id, actor=ANN),
        acting.change_priority("q", job.id, 1, actor=ANN),
        acting.change_delay("q", job.id, 1, actor=ANN),
        acting.move("q", job.id, "other", actor=ANN),
    ):
        with pytest.raises(RefusedError, match=f"job {job.id} of queue q: it is completed now: only "):
            await act
    assert [act.outcome for act in acts_told] == ["refused"] * 5
    assert await stand(queue, job.id) == "completed"


async def test_what_is_not_there_is_named(acting: Acting, queue: Any) -> None:
    await queue.add("n", {})
    with pytest.raises(UnknownJobError, match="there is no job none in queue q"):
        await acting.retry("q", "none", actor=ANN)
    with pytest.raises(UnknownQueueError, match="there is no queue nowhere"):
        await acting.retry("nowhere", "none", actor=ANN)
    with pytest.raises(UnknownQueueError, match="there is no queue nowhere"):
        await acting.pause_queue("nowhere", actor=ANN)
    with pytest.raises(UnknownQueueError, match="there is no queue nowhere"):
        await acting.move("q", "1", "nowhere", actor=ANN)


@pytest.mark.parametrize("queue_name", ["", "a:b", "x\x1b[31m", "q" * 300])
async def test_names_that_no_queue_has_are_refused_unasked(acting: Acting, queue_name: str) -> None:
    with pytest.raises(InvalidRequestError, match="queue: expected a name"):
        await acting.retry(queue_name, "1", actor=ANN)


async def test_values_out_of_bounds_are_refused_with_their_field(acting: Acting, queue: Any) -> None:
    job = await queue.add("n", {})
    cases = {
        "job_id": acting.retry("q", "", actor=ANN),
        "priority": acting.change_priority("q", job.id, 2**21 + 1, actor=ANN),
        "delay_ms": acting.change_delay("q", job.id, -1, actor=ANN),
        "to": acting.move("q", job.id, "q", actor=ANN),
        "state": acting.clean("q", "running", actor=ANN),
        "older": acting.clean("q", "failed", older_s=-1, actor=ANN),
        "limit": acting.clean("q", "failed", limit=10**9, actor=ANN),
        "action": acting.bulk("explode", "q", parse(), actor=ANN),
        "status": acting.change_task_status("1", "Exploding", "u1", actor=ANN),
        "task_id": acting.change_task_status("", "Paused", "u1", actor=ANN),
    }
    for field, act in cases.items():
        with pytest.raises(InvalidRequestError) as refused:
            await act
        assert refused.value.field == field


async def test_audit_that_raises_is_not_felt(make_acting: MakeActing, queue: Any) -> None:
    def broken(act: Act) -> None:
        raise OSError("full")

    acting = make_acting()
    acting._desk.auditor._sink = broken
    job = await queue.add("n", {}, {"delay": HOUR_MS})
    assert (await acting.promote("q", job.id, actor=ANN)).done == 1


# ------------------------------------------------------------------------- ownership


async def test_users_act_on_their_own_jobs_and_on_nothing_else(acting: Acting, queue: Any) -> None:
    mine = await queue.add("n", {"input": {"userData": {"id": "u1"}}})
    others = await queue.add("n", {"userId": "u2", "input": {"userData": {"id": "u1"}}})
    nobodys = await queue.add("n", [1])
    assert (await acting.cancel("q", mine.id, actor=USER)).done == 1
    for job in (others, nobodys):
        with pytest.raises(RefusedError, match=f"job {job.id} is not yours"):
            await acting.cancel("q", job.id, actor=USER)
        assert await stand(queue, job.id) == "waiting"
    for act in (
        acting.pause_queue("q", actor=USER),
        acting.drain("q", actor=USER),
        acting.clean("q", "failed", actor=USER),
        acting.bulk("remove", "q", parse(), dry_run=False, actor=USER),
    ):
        with pytest.raises(RefusedError, match="only operators"):
            await act


# ------------------------------------------------------------------------------ data


async def test_data_are_checked_and_compared(acting: Acting, queue: Any, redis: Redis, prefix: str) -> None:
    job = await queue.add("n", MAIL)
    new = {**MAIL, "subject": "New é"}
    with pytest.raises(InvalidRequestError, match=r"^data.to: expected") as refused:
        await acting.change_data("q", job.id, {**MAIL, "to": 5}, actor=ANN)
    assert refused.value.field == "data.to"
    with pytest.raises(InvalidRequestError, match="no JSON"):
        await acting.change_data("q", job.id, {**MAIL, "x": {1, 2}}, actor=ANN)
    with pytest.raises(InvalidRequestError, match="more than the"):
        await acting.change_data("q", job.id, {**MAIL, "text": "x" * (5 * 2**20)}, actor=ANN)
    with pytest.raises(RefusedError, match="its data have been changed meanwhile"):
        await acting.change_data("q", job.id, new, expected={**MAIL, "subject": "other"}, actor=ANN)
    assert await data_of(redis, prefix, job.id) == MAIL
    assert (await acting.change_data("q", job.id, new, expected=MAIL, actor=ANN)).done == 1
    text = await redis.hget(f"{prefix}:q:{job.id}", "data")
    assert (await acting.change_data("q", job.id, MAIL, expected=text, actor=ANN)).done == 1
    await run(redis, prefix, job.id, "active")
    with pytest.raises(RefusedError, match="it is running now"):
        await acting.change_data("q", job.id, new, actor=ANN)


async def test_data_of_a_type_that_only_node_knows_may_be_changed(
    acting: Acting, queue: Any, redis: Redis, prefix: str
) -> None:
    strange, bare = await queue.add("n", {"type": "theirs", "a": 1}), await queue.add("n", [1])
    await acting.change_data("q", strange.id, {"type": "theirs", "a": 2}, actor=ANN)
    await acting.change_data("q", bare.id, [2], actor=ANN)
    assert [await data_of(redis, prefix, job.id) for job in (strange, bare)] == [{"type": "theirs", "a": 2}, [2]]
    with pytest.raises(InvalidRequestError, match="other"):
        await acting.change_data("q", strange.id, {"type": "other"}, actor=ANN)


async def test_replay_takes_other_data_if_they_are_what_their_type_says(
    acting: Acting, queue: Any, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    job = await queue.add("n", MAIL, {"jobId": "m"})
    await run(redis, prefix, job.id, "failed")
    with pytest.raises(InvalidRequestError, match="to"):
        await acting.replay("q", "m", data={**MAIL, "to": "nobody"}, actor=ANN)
    report = await acting.replay("q", "m", data={**MAIL, "subject": "again"}, actor=ANN)
    assert report.job_ids == ("m-replay-1",)
    assert (await data_of(redis, prefix, "m-replay-1"))["subject"] == "again"
    made = await make_worker()
    await wait_until(lambda: made.of(JobCompleted))
    assert (await stand(queue, "m"), await stand(queue, "m-replay-1")) == ("failed", "completed")


# ------------------------------------------------------------------ the queue as a whole


async def test_pause_and_resume_say_whether_it_was_so_already(acting: Acting, queue: Any) -> None:
    assert [(await acting.pause_queue("q", actor=ANN)).done for _ in range(2)] == [1, 0]
    assert await queue.isPaused()
    assert [(await acting.resume_queue("q", actor=ANN)).done for _ in range(2)] == [1, 0]
    assert not await queue.isPaused()


async def test_drain_removes_what_waits_and_leaves_the_schedules(
    acting: Acting, queue: Any, redis: Redis, prefix: str
) -> None:
    await queue.upsertJobScheduler("yearly", {"pattern": "0 3 1 1 *"}, "n", {})
    active = await queue.add("n", {})
    await run(redis, prefix, active.id, "active")
    for opts in ({}, {}, {"priority": 3}, {"delay": HOUR_MS}):
        await queue.add("n", {}, opts)
    dry = await acting.drain("q", delayed=True, dry_run=True, actor=ANN)
    assert (dry.dry_run, dry.matched, dry.done) == (True, 4, 0)
    assert (await acting.drain("q", limit=1, actor=ANN)).more
    assert (await acting.drain("q", actor=ANN)).done == 2
    assert (await acting.drain("q", delayed=True, actor=ANN)).done == 1
    counts = await queue.getJobCounts("wait", "prioritized", "delayed", "active")
    assert counts == {"wait": 0, "prioritized": 0, "delayed": 1, "active": 1}


async def test_drain_takes_pages(
    acting: Acting, queue: Any, redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.queue_service.cleaning.PAGE", 10)
    await queue.addBulk([{"name": "n", "data": {}} for _ in range(35)])
    report = await acting.drain("q", limit=25, actor=ANN)
    assert (report.done, report.more, len(report.job_ids)) == (25, True, 25)
    report = await acting.drain("q", actor=ANN)
    assert (report.done, report.more) == (10, False)
    assert [key async for key in redis.scan_iter(match=f"{prefix}:q:[0-9]*")] == []


@pytest.mark.parametrize("state", ["completed", "failed"])
async def test_clean_removes_what_ended_long_ago(
    acting: Acting, queue: Any, redis: Redis, prefix: str, state: str
) -> None:
    jobs = [await queue.add("n", {}) for _ in range(4)]
    for job in jobs:
        await run(redis, prefix, job.id, state)
    now = (await redis.time())[0] * 1000
    await redis.zadd(f"{prefix}:q:{state}", {jobs[3].id: now})
    dry = await acting.clean("q", state, older_s=3600, limit=2, dry_run=True, actor=ANN)
    assert (dry.matched, dry.more, dry.done) == (2, True, 0)
    report = await acting.clean("q", state, older_s=3600, limit=2, actor=ANN)
    assert (report.done, report.more) == (2, True)
    assert (await acting.clean("q", state, older_s=3600, actor=ANN)).done == 1
    assert [await stand(queue, job.id) for job in jobs][3] == state
    stored: Any = await redis.xrange(f"{prefix}:q:events")
    heard = [fields for _, fields in stored if fields["event"] == "cleaned"]
    assert [fields["count"] for fields in heard] == ["2", "1"]


async def test_clean_finds_old_jobs_behind_newer_ones(acting: Acting, queue: Any, redis: Redis, prefix: str) -> None:
    """BullMQ's own clean looks at the first `limit` alone."""
    jobs = [await queue.add("n", {}, {"delay": HOUR_MS * n}) for n in (1, 2, 3)]
    await redis.hset(f"{prefix}:q:{jobs[2].id}", "timestamp", "1600000000000")
    dry = await acting.clean("q", "delayed", older_s=3600, limit=1, dry_run=True, actor=ANN)
    assert dry.job_ids == (jobs[2].id,)
    assert (await acting.clean("q", "delayed", older_s=3600, limit=1, actor=ANN)).job_ids == (jobs[2].id,)
    assert (await acting.clean("q", "delayed", actor=ANN)).done == 2


async def test_clean_of_active_jobs_takes_those_alone_that_no_worker_has(
    acting: Acting, queue: Any, redis: Redis, prefix: str
) -> None:
    held, lost = [await queue.add("n", {}) for _ in range(2)]
    for job in (held, lost):
        await run(redis, prefix, job.id, "active")
    await redis.set(f"{prefix}:q:{held.id}:lock", "t")
    report = await acting.clean("q", "active", actor=ANN)
    assert report.job_ids == (lost.id,)
    assert "running" in report.skipped[held.id]
    await redis.delete(f"{prefix}:q:{held.id}:lock")


# ------------------------------------------------------------------------------- bulk


async def test_bulk_finds_first_and_acts_only_when_told_to(
    acting: Acting, queue: Any, redis: Redis, prefix: str, acts_told: list[Act]
) -> None:
    jobs = [await queue.add("mail" if n % 2 else "sms", {"user": n % 3}) for n in range(12)]
    for job in jobs:
        await run(redis, prefix, job.id, "failed", failedReason="smtp: refused" if int(job.id) < 9 else "other")
    wanted = parse(name="mail", error="SMTP", where=["data.user=1"])
    meant = {job.id for n, job in enumerate(jobs) if n % 2 and n % 3 == 1 and int(job.id) < 9}
    dry = await acting.bulk("retry", "q", wanted, actor=ANN)
    assert (dry.dry_run, dry.matched, dry.done, set(dry.job_ids)) == (True, len(meant), 0, meant)
    assert await redis.zcard(f"{prefix}:q:failed") == 12
    report = await acting.bulk("retry", "q", wanted, dry_run=False, actor=ANN)
    assert (report.done, set(report.job_ids), report.more) == (len(meant), meant, False)
    assert set(await redis.lrange(f"{prefix}:q:wait", 0, -1)) == meant
    assert [(act.outcome, act.done, act.target) for act in acts_told] == [
        ("dry-run", 0, str(wanted)),
        ("done", len(meant), str(wanted)),
    ]


async def test_bulk_is_bounded_and_says_that_more_are_left(
    acting: Acting, queue: Any, redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PAGE", 50)
    await queue.addBulk([{"name": "n", "data": {}, "opts": {"delay": HOUR_MS}} for _ in range(260)])
    report = await acting.bulk("promote", "q", parse(), dry_run=False, limit=230, actor=ANN)
    assert (report.matched, report.done, report.more, len(report.job_ids)) == (230, 230, True, 100)
    report = await acting.bulk("promote", "q", parse(), dry_run=False, actor=ANN)
    assert (report.done, report.more) == (30, False)
    assert await redis.llen(f"{prefix}:q:wait") == 260


async def test_bulk_skips_with_reasons_what_it_may_not_do(
    acting: Acting, queue: Any, queues: Queues, redis: Redis, prefix: str
) -> None:
    held, waiting = await queue.add("n", {}), await queue.add("n", {}, {"jobId": "a"})
    await queues["other"].add("n", {}, {"jobId": "a"})
    await run(redis, prefix, held.id, "active", pb="node-1")
    await redis.set(f"{prefix}:q:{held.id}:lock", "t")
    report = await acting.bulk("remove", "q", parse(state="active"), dry_run=False, actor=ANN)
    assert (report.done, dict(report.skipped)) == (0, {held.id: "it is running (node-1): cancel it first"})
    report = await acting.bulk("move", "q", parse(), to="other", dry_run=False, actor=ANN)
    assert (report.done, report.skipped[waiting.id]) == (
        0,
        "a job of that id is in the other queue already, and is waiting",
    )
    report = await acting.bulk("cancel", "q", parse(), dry_run=False, actor=ANN)
    assert report.job_ids == ("a",)
    assert "none of ours (node-1)" in report.skipped[held.id]
    with pytest.raises(InvalidRequestError, match="to: "):
        await acting.bulk("move", "q", parse(), dry_run=False, actor=ANN)
    await redis.delete(f"{prefix}:q:{held.id}:lock")


async def test_bulk_replays_and_moves(acting: Acting, queue: Any, queues: Queues, redis: Redis, prefix: str) -> None:
    for n in range(3):
        job = await queue.add("n", {}, {"jobId": f"j{n}"})
        await run(redis, prefix, job.id, "failed")
    report = await acting.bulk("replay", "q", parse(), dry_run=False, actor=ANN)
    assert set(report.job_ids) == {f"j{n}-replay-1" for n in range(3)}
    report = await acting.bulk("move", "q", parse(state="failed"), to="other", dry_run=False, actor=ANN)
    assert set(report.job_ids) == {"j0", "j1", "j2"}
    assert await redis.llen(f"{prefix}:other:wait") == 3


# ------------------------------------------------------------------------ task status


def swarm(owner: str = "u1", **more: Any) -> dict[str, Any]:
    return {"type": "swarm-execution", "id": "12", "status": "Scheduled", "input": {"userData": {"id": owner}}, **more}


async def test_owner_changes_the_status_of_a_task_that_node_can_not_find(
    acting: Acting, queues: Queues, redis: Redis, prefix: str
) -> None:
    text = json.dumps(swarm(big=12345678901234567890), indent=1)
    job = await queues["llm-completion"].add("n", {}, {"jobId": "task-12"})
    await redis.hset(f"{prefix}:llm-completion:{job.id}", "data", text)
    for queue in (None, "llm-completion", "swarm"):
        change = await acting.change_task_status("12", "PAUSED", "u1", queue=queue, actor=USER)
        assert (change.outcome, change.queue, change.job_id) == ("written", "llm-completion", "task-12")
    stored = await redis.hget(f"{prefix}:llm-completion:{job.id}", "data")
    assert stored == text.replace("Scheduled", "paused")


async def test_task_whose_job_bullmq_counted_is_found_by_its_data(acting: Acting, queue: Any, redis: Redis) -> None:
    job = await queue.add("n", {"id": "12345", "userId": "u1"})
    change = await acting.change_task_status("12345", "running", "u1", actor=USER)
    assert (change.queue, change.job_id) == ("q", job.id)
    with pytest.raises(UnknownJobError):  # that is a job's number, and no task's id
        await acting.change_task_status(job.id, "running", "u1", actor=USER)


@pytest.mark.parametrize("owner", ["u2", "", None])
async def test_foreign_and_ownerless_tasks_are_refused(
    acting: Acting, queues: Queues, redis: Redis, prefix: str, owner: Any
) -> None:
    await queues["llm-completion"].add("n", swarm(owner), {"jobId": "task-12"})
    for user in ("u1", ""):
        with pytest.raises(RefusedError, match="task 12 is not yours"):
            await acting.change_task_status("12", "Suggested", user, actor=USER)
    assert await data_of(redis, prefix, "task-12", "llm-completion") == swarm(owner)


async def test_missing_task_is_a_success_where_it_was_to_be_over(acting: Acting, acts_told: list[Act]) -> None:
    for status in ("Completed", "failed", "SUGGESTED"):
        change = await acting.change_task_status("99", status, "u1", actor=USER)
        assert (change.outcome, change.job_id) == ("gone", None)
    for status in ("Running", "Canceling", "Paused", "Scheduled"):
        with pytest.raises(UnknownJobError):
            await acting.change_task_status("99", status, "u1", actor=USER)
    assert [act.outcome for act in acts_told] == ["done"] * 3 + ["refused"] * 4
    assert acts_told[0].arguments == {"status": "Completed", "user_id": "u1"}


@pytest.mark.parametrize(("status", "then"), [("Canceling", "failed"), ("Suggested", "suggested")])
async def test_task_that_waits_ends_when_its_status_asks_to_stop(
    acting: Acting, queues: Queues, redis: Redis, prefix: str, status: str, then: str
) -> None:
    await queues["llm-completion"].add("n", swarm(), {"jobId": "task-12", "attempts": 5})
    change = await acting.change_task_status("12", status, "u1", actor=USER)
    assert change.outcome == "ended"
    assert await stand(queues["llm-completion"], "task-12") == "failed"
    assert (await data_of(redis, prefix, "task-12", "llm-completion"))["status"] == then
    reason = await redis.hget(f"{prefix}:llm-completion:task-12", "failedReason")
    assert reason == f"cancelled by web: its status was set to {status}"
    again = await acting.change_task_status("12", status, "u1", actor=USER)
    assert again.outcome == "written"


async def test_task_that_runs_elsewhere_is_told_by_its_status_alone(
    acting: Acting, queues: Queues, redis: Redis, prefix: str
) -> None:
    await queues["llm-completion"].add("n", swarm(), {"jobId": "task-12"})
    await run(redis, prefix, "task-12", "active", queue="llm-completion", pb="node-3")
    await redis.set(f"{prefix}:llm-completion:task-12:lock", "uuid:1")
    change = await acting.change_task_status("12", "Suggested", "u1", actor=USER)
    assert (change.outcome, change.held_by) == ("written", "node-3")
    assert (await data_of(redis, prefix, "task-12", "llm-completion"))["status"] == "suggested"
    await redis.delete(f"{prefix}:llm-completion:task-12:lock")


# ------------------------------------------------------------------------------ faults


async def test_redis_that_is_away_fails_fast_and_says_that_nothing_was_changed(
    make_acting: MakeActing, prefix: str, acts_told: list[Act]
) -> None:
    acting = make_acting(Endpoint(url="redis://127.0.0.1:1/0", prefix=prefix))
    acts = {
        "retry": acting.retry("q", "1", actor=ANN),
        "pause": acting.pause_queue("q", actor=ANN),
        "cancel": acting.cancel("q", "1", actor=ANN),
        "change": acting.change_data("q", "1", {}, actor=ANN),
        "status": acting.change_task_status("1", "Paused", "u", queue="q", actor=ANN),
    }
    for act in acts.values():
        with pytest.raises(QueueUnavailableError, match="nothing was changed") as refused:
            await act
        assert refused.value.retry_after_s
    assert [act.outcome for act in acts_told] == ["failed"] * len(acts)


async def test_reply_that_is_lost_is_said_to_be(
    make_acting: MakeActing, valkey: Server, prefix: str, queue: Any, acts_told: list[Act]
) -> None:
    jobs = [await queue.add("n", {}, {"delay": HOUR_MS}) for _ in range(2)]
    async with FaultProxy(valkey.port) as proxy:
        acting = make_acting(Endpoint(url=proxy.url, prefix=prefix, command_timeout_s=5.0))
        await acting.promote("q", jobs[0].id, actor=ANN)  # the server knows the script now
        lost = proxy.drop_reply(named("EVALSHA"))
        with pytest.raises(QueueUnavailableError, match="whether it was done is not known"):
            await acting.promote("q", jobs[1].id, actor=ANN)
        assert lost.fired.is_set()
        assert acts_told[-1].outcome == "failed"
        await wait_until(partial(stands_at, queue, jobs[1].id, "waiting"))
        with pytest.raises(RefusedError, match="it is waiting now"):
            await acting.promote("q", jobs[1].id, actor=ANN)


async def test_bulk_that_is_cut_off_says_how_far_it_has_come(
    make_acting: MakeActing, valkey: Server, redis: Redis, prefix: str, queue: Any, acts_told: list[Act]
) -> None:
    await queue.addBulk([{"name": "n", "data": {}, "opts": {"delay": HOUR_MS}} for _ in range(250)])
    async with FaultProxy(valkey.port) as proxy:
        acting = make_acting(Endpoint(url=proxy.url, prefix=prefix, command_timeout_s=5.0))
        lost = proxy.break_at("before_write", promotes(), 150)
        with pytest.raises(QueueUnavailableError) as broken:
            await acting.bulk("promote", "q", parse(), dry_run=False, actor=ANN)
        assert lost.fired.is_set()
    assert "100 jobs were done, of 100 it is not known, 50 are left" in str(broken.value)
    assert acts_told[-1].outcome == "failed"
    # At one moment: what was sent may still be on its way through the broken connection.
    left, waiting = await redis.pipeline().zcard(f"{prefix}:q:delayed").llen(f"{prefix}:q:wait").execute()
    assert 50 <= left <= 150
    assert left + waiting == 250, "none is lost, none is there twice"


def promotes() -> Match:
    """The requests that promote a job."""
    sha = hashlib.sha1(act_scripts.script("promote").encode()).hexdigest().encode()
    return lambda request: request.name == "EVALSHA" and sha in request.words


async def stands_at(queue: Any, job_id: str, state: str) -> Any:
    return await stand(queue, job_id) == state


async def test_every_error_is_of_the_service_and_bounded(acting: Acting, queue: Any, redis: Redis, prefix: str) -> None:
    await redis.set(f"{prefix}:q:odd", "no hash")
    await redis.set(f"{prefix}:q:delayed", "no set")
    for act in (
        acting.retry("q", "odd", actor=ANN),
        acting.promote("q", "odd", actor=ANN),
        acting.cancel("q", "odd", actor=ANN),
        acting.clean("q", "delayed", actor=ANN),
        acting.remove("q", "x" * 1000 + "\x1b[2J", actor=ANN),
    ):
        with pytest.raises(QueueServiceError) as refused:
            await act
        text = str(refused.value)
        assert len(text) < 700 and text.isprintable(), text
