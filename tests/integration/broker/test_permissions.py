"""The Redis user of the documentation: a worker's whole life passes with it, and what it lacks is said at start."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from bullmq import FlowProducer, Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, Server, wait_until
from workers.broker.activation import Activation
from workers.broker.client import ReplyLostError
from workers.broker.connection import ask
from workers.broker.endings import AwaitingChildren, Completed, Delayed, Ending, Failed, HandedBack, RateLimited, Retry
from workers.broker.endpoint import Endpoint
from workers.broker.events import (
    JobActive,
    JobCompleted,
    JobDelayed,
    JobFailed,
    JobHandedBack,
    JobRetrying,
    JobStalled,
    WorkerError,
)
from workers.broker.global_pause import GlobalPauses
from workers.broker.hold import Hold
from workers.broker.job_acts import JobActs
from workers.broker.permissions import HELPFUL, ON_KEYS, ON_NONE, denied, rule
from workers.broker.preflight import ServerRefusedError, examine
from workers.broker.queue_acts import QueueActs
from workers.broker.schedulers import NewSchedule, Schedulers
from workers.broker.stats import StatsReader

NAME, SECRET = "fleet", "s3cret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("acl"), "--appendonly", "no")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[Redis]:
    """The all-mighty user of an empty server; `fleet` is made with the documented rule."""
    async with Redis(port=server.port, decode_responses=True, protocol=2) as client:
        await client.flushall()
        await client.acl_log_reset()
        await permit(client, "reset", "on", f">{SECRET}", *rule("bull").split())
        yield client


async def permit(admin: Redis, *words: str) -> None:
    await admin.execute_command("ACL", "SETUSER", NAME, *words)  # type: ignore[no-untyped-call]


@pytest.fixture
def restricted(admin: Redis) -> Endpoint:
    port: int = admin.connection_pool.connection_kwargs["port"]
    return Endpoint(url=f"redis://{NAME}:{SECRET}@127.0.0.1:{port}/0")


@pytest.fixture
async def queue(admin: Redis) -> AsyncIterator[Any]:
    """The producer is someone else, with rights of its own."""
    queue = Queue("q", {"connection": admin})
    yield queue


async def life(job: Activation, hold: Hold) -> Ending:
    """Each job's name says how it ends, the first time."""
    await hold.restored()
    await hold.progress(50)
    await hold.log("half-way")
    await hold.checkpoint("half-way")
    again = job.fence > 1
    match job.name:
        case "fails":
            return Failed(reason="no", error="E", stack="S")
        case "retries-at-once" if not again:
            return Retry(reason="no", error="E", delay_ms=0, stack="S")
        case "retries-later" if not again:
            return Retry(reason="no", error="E", delay_ms=20, stack="S")
        case "is-delayed" if not again:
            return Delayed(delay_ms=20, reason="later")
        case "is-limited" if not again:
            return RateLimited(delay_ms=20, reason="slow down")
        case "parent" if not again:
            return AwaitingChildren(reason="children first")
        case "interrupted" if hold.interrupt is None:
            await hold.interrupted.wait()
            return HandedBack(reason="drain")
    return Completed(result=job.name)


async def denials(admin: Redis) -> list[str]:
    """What the server refused to `fleet`; redis-py offers its name to every server and lets that be refused."""
    port = admin.connection_pool.connection_kwargs["port"]
    # Unparsed: redis-py stumbles over the = of a worker's client name.
    log = await ask(("127.0.0.1", port), "ACL", "LOG", decode_responses=True, protocol=2)
    entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in log]
    return [f"{entry['reason']} {entry['object']}" for entry in entries if entry["object"] != "client|setinfo"]


async def test_whole_life_of_a_worker_passes_with_the_documented_user(
    make_worker: MakeWorker, admin: Redis, restricted: Endpoint, queue: Any
) -> None:
    client = restricted.commands()
    await examine(client, allow_eviction=False, prefix="bull")
    await queue.add("taken-over", {}, {"jobId": "orphan"})
    await admin.rpoplpush("bull:q:wait", "bull:q:active")  # its worker died
    await admin.delete("bull:q:marker")
    made = await make_worker(
        life, endpoint=restricted, slots=2, stalled_interval_ms=300, limiter={"max": 1000, "duration": 1000}
    )
    await wait_until(lambda: made.of(JobStalled))
    await admin.config_resetstat()
    keeps: dict[str, Any] = {"attempts": 3, "keepLogs": 1, "removeOnComplete": {"age": 60, "count": 3}}
    for name in ("completes", "fails", "retries-at-once", "retries-later", "is-delayed", "is-limited"):
        await queue.add(name, {}, keeps)
    await queue.add("delayed", {}, {"delay": 20, "removeOnComplete": True})
    await queue.add("first", {}, {"priority": 3, "deduplication": {"id": "x"}})
    await queue.add("last", {}, {"lifo": True})
    await queue.upsertJobScheduler("tick", {"every": 100}, "tick", {}, {})
    flows = FlowProducer({"connection": admin})
    children = [{"name": "child", "queueName": "q", "opts": {"removeOnComplete": True}} for _ in range(2)]
    await flows.add({"name": "parent", "queueName": "q", "children": children})
    ended = ("fails", "retries-at-once", "retries-later", "is-delayed", "is-limited", "delayed", "first", "last")

    def done() -> Counter[str]:
        return Counter(event.job_name for event in (*made.of(JobCompleted), *made.of(JobFailed)))

    await wait_until(lambda: all(done()[name] == 1 for name in (*ended, "parent")) and done()["child"] == 2)
    await wait_until(lambda: done()["tick"] >= 2)
    assert len(made.of(JobRetrying)) == 2
    assert len(made.of(JobDelayed)) == 3
    await queue.removeJobScheduler("tick")
    interrupted = await queue.add("interrupted", {})
    await wait_until(lambda: any(event.job_name == "interrupted" for event in made.of(JobActive)))
    await made.worker.stop(by=time.monotonic() + 1)
    assert len(made.of(JobHandedBack)) == 1 and made.worker.drained
    assert not made.of(WorkerError)
    stats = (await StatsReader(client, "bull").read(["q"]))["q"]
    assert stats.waiting == 1 and not stats.problems
    assert await admin.keys("fleet:*") == [f"fleet:bull:q:checkpoint:{interrupted.id}"]
    assert await denials(admin) == []
    await client.aclose()


async def test_acts_on_jobs_and_queues_pass_with_the_documented_user(
    admin: Redis, restricted: Endpoint, queue: Any
) -> None:
    client = restricted.commands()
    jobs, queues = JobActs(client, "bull"), QueueActs(client, "bull")
    await admin.hset("bull:q:meta", "version", "bullmq:5.53.2")  # the older layout takes more commands
    ids = [(await queue.add("n", {"a": 1}, {"delay": 3_600_000})).id for _ in range(8)]
    await queues.pause("q")
    answers = [*await jobs.promote("q", ids[:5]), *await jobs.change_delay("q", ids[5:6], 5)]
    await queues.resume("q")
    answers += await jobs.change_priority("q", ids[:1], 3, lifo=True)
    answers += await jobs.cancel("q", ids[:2], "no", texts=lambda data: ("{}", "{}"))
    answers += await jobs.retry("q", ids[:1], anew=True)
    await admin.rpush(f"bull:q:{ids[2]}:logs", "line")
    answers += await jobs.move("q", ids[2:3], "other")
    answers += await jobs.replay("q", ids[1:2])
    answers.append(await jobs.change_data("q", ids[3], '{"a":1}', "{}", ["waiting"]))
    answers += await jobs.remove("q", ids[3:4])
    assert {answer.word for answer in answers} == {"ok"}
    assert len((await queues.chosen("q", "delayed", 5, 2**53)).ids) == 3
    for place in ("wait", "delayed", "failed"):
        assert await queues.clean("q", place, 10)
    assert await queues.scheduled("q", ["delayed"]) == 0
    assert await denials(admin) == []
    await client.aclose()


async def test_schedules_and_pauses_pass_with_the_documented_user(admin: Redis, restricted: Endpoint) -> None:
    client = restricted.commands()
    schedulers, pauses, queues = Schedulers(client, "bull"), GlobalPauses(client, "bull"), QueueActs(client, "bull")
    daily = NewSchedule(queue="q", id="s", name="q", repeat={"pattern": "0 3 * * *", "tz": "UTC"}, data={"a": 1})
    often = NewSchedule(queue="q", id="t", name="q", repeat={"every": 60_000}, data={}, options={"priority": 3})
    for new in (daily, often, often):
        assert await schedulers.put(new, marked="m") == "ok"
    found = (await schedulers.page("q", 0, 10))[0]
    assert len(found) == 2 and await schedulers.marked("q") == {"s": "m", "t": "m"}
    read = (await schedulers.read("q", ["s"]))["s"]
    assert await schedulers.mark("q", "s", read, "-") == "ok"
    assert await schedulers.drop("q", "s") == await schedulers.remove("q", "t") == "ok"
    await queues.pause("q", by="ann")
    await pauses.look(["q"])
    await queues.resume("q")
    await queues.pause("q")
    assert await pauses.resume("q", (await pauses.look(["q"]))["q"])
    assert await denials(admin) == []
    await client.aclose()


async def test_lost_reply_is_buried_with_the_documented_user(admin: Redis, restricted: Endpoint) -> None:
    client: Any = restricted.commands()
    silent = await client.connection_pool.get_connection()  # its reply does not come
    await client.bury(ReplyLostError("lost", silent.fleet_client_id))
    assert silent.fleet_client_id not in {int(entry["id"]) for entry in await admin.client_list()}
    assert await denials(admin) == []
    await client.connection_pool.release(silent)
    await client.aclose()


@pytest.mark.parametrize("missing", [*ON_NONE, *ON_KEYS])
async def test_each_command_that_is_missing_is_named_at_start(admin: Redis, restricted: Endpoint, missing: str) -> None:
    await permit(admin, f"-{missing}")
    client = restricted.commands()
    with pytest.raises(ServerRefusedError) as refused:
        await examine(client, allow_eviction=False, prefix="bull")
    text = str(refused.value)
    assert f"+{missing}" in text or f"'{missing}'" in text
    assert 'workers/README.md, "The Redis user", lists all that it needs' in text
    assert SECRET not in text
    await client.aclose()


async def test_commands_that_only_help_are_missed_with_a_warning(
    make_worker: MakeWorker, admin: Redis, restricted: Endpoint, queue: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await permit(admin, *(f"-{command}" for command in HELPFUL))
    client = restricted.commands()
    await examine(client, allow_eviction=False, prefix="bull")
    await client.aclose()
    for command, loss in HELPFUL.items():
        assert f"the Redis user may not run {command.replace('|', ' ')}: {loss}" in caplog.messages
    made = await make_worker(endpoint=restricted)
    await queue.add("n", {})
    await queue.add("n", {}, {"delay": 100})
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert not made.of(WorkerError)
    stats = (await StatsReader(made.worker.backend.conn, "bull").read(["q"]))["q"]
    assert (stats.completed, stats.due, len(stats.problems)) == (2, 0, 1)
    assert "zcount" in stats.problems[0]


async def test_keys_of_fleets_own_are_missed_with_a_warning(
    make_worker: MakeWorker, admin: Redis, restricted: Endpoint, queue: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await permit(admin, "resetkeys", "~bull:*")
    client = restricted.commands()
    await examine(client, allow_eviction=False, prefix="bull")
    await client.aclose()
    assert "the Redis user may not use the keys fleet:bull:*: checkpoints of jobs" in caplog.text
    made = await make_worker(life, endpoint=restricted)
    await queue.add("n", {})
    await wait_until(lambda: made.of(JobCompleted))
    assert [event.where for event in made.of(WorkerError)] == ["checkpoint"]


async def test_prefix_that_is_not_the_users_is_refused(restricted: Endpoint) -> None:
    client = restricted.commands()
    with pytest.raises(ServerRefusedError, match=r"on the keys other:\* .*ACL SETUSER name ~other:\* \+bzpopmin"):
        await examine(client, allow_eviction=False, prefix="other")
    await client.aclose()


async def test_question_runs_nothing(admin: Redis, restricted: Endpoint) -> None:
    client = restricted.commands()
    await admin.set("bull:x", "1")
    await denied(client, "bull")
    assert await admin.get("bull:x") == "1"
    assert await admin.keys("*") == ["bull:x"]
    await client.aclose()
