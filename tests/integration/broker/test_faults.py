"""Connections break at every point of every exchange. Each job ends in one state, once, and is told of once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bullmq
import pytest
import redis as redis_py
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import Made, MakeWorker, Server, wait_until
from tests.fault_plan import POINTS, Point, named
from tests.faults import FaultProxy
from tests.queue_view import QueueView, look
from workers.broker import endpoint
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Retry
from workers.broker.endpoint import Endpoint
from workers.broker.events import (
    ConnectionChanged,
    JobActive,
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
)
from workers.broker.hold import Hold

LATER_MS = 60_000
every_point = pytest.mark.parametrize("point", POINTS)


@pytest.fixture(scope="module", autouse=True)
def _scripts_are_known(valkey: Server) -> None:
    """Else the first EVALSHA of each is refused, and the exchange that a test breaks would not be the real one."""
    with redis_py.Redis.from_url(valkey.url) as client:
        for path in (Path(str(bullmq.__file__)).parent / "commands").glob("*.lua"):
            client.script_load(path.read_text())


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    """The producer; it does not go through the proxy."""
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@pytest.fixture
def view(redis: Redis, prefix: str) -> Callable[[], Any]:
    async def now() -> QueueView:
        return await look(redis, prefix, "q")

    return now


class Script:
    """An execution that ends each job's runs as the test says, Completed when nothing is left to say."""

    def __init__(self, **endings: list[Ending]) -> None:
        self._endings = endings
        self.runs: list[str] = []
        self.gates: dict[int, asyncio.Event] = {}
        """Runs that wait to be let go, by their number over all jobs, from 1."""

    async def __call__(self, job: Activation, hold: Hold) -> Ending:
        self.runs.append(job.id)
        if gate := self.gates.get(len(self.runs)):
            await gate.wait()
        left = self._endings.get(job.id)
        return left.pop(0) if left else Completed(result=job.id)


async def counters(redis: Redis, prefix: str, job: str) -> tuple[str | None, str | None, str | None]:
    """Of a job: started, attempts made, stalled."""
    row: Any = await redis.hgetall(f"{prefix}:q:{job}")
    return row.get("ats"), row.get("atm"), row.get("stc")


def told(made: Made, kind: type[JobEvent], job: str) -> int:
    return sum(event.job_id == job for event in made.of(kind))


# ------------------------------------------------------------------- each ending


@dataclass(frozen=True)
class Case:
    """How the first run ends, and what there is to see once both jobs rest."""

    script: str
    ending: Ending
    event: type[JobEvent]
    state: str
    counters: tuple[str | None, str | None, str | None]


CASES = {
    "completed": Case("moveToFinished", Completed(result=1), JobCompleted, "completed", ("1", "1", None)),
    "failed": Case("moveToFinished", Failed(reason="no", error="E"), JobFailed, "failed", ("1", "1", None)),
    "retry-later": Case(
        "moveToDelayed", Retry(reason="no", error="E", delay_ms=LATER_MS), JobRetrying, "delayed", ("1", "1", None)
    ),
    "retry-at-once": Case(
        "retryJob", Retry(reason="no", error="E", delay_ms=0), JobRetrying, "completed", ("2", "2", None)
    ),
    "delayed": Case(
        "moveToDelayed", Delayed(delay_ms=LATER_MS, reason="later"), JobDelayed, "delayed", ("1", None, None)
    ),
    "handed-back": Case(
        "moveJobFromActiveToWait", HandedBack(reason="drain"), JobHandedBack, "completed", ("1", "1", None)
    ),
}
every_ending = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_ending
@every_point
async def test_ending_is_written_and_told_once_wherever_its_exchange_breaks(
    case: Case,
    point: Point,
    proxy: FaultProxy,
    proxied: Endpoint,
    make_worker: MakeWorker,
    queue: Any,
    redis: Redis,
    prefix: str,
    view: Any,
) -> None:
    for job in ("first", "next"):
        await queue.add("n", {}, {"jobId": job, "attempts": 5})
    proxy.break_at(point, named(case.script, "first"))
    script = Script(first=[case.ending])
    made = await make_worker(script, endpoint=proxied)
    await wait_until(lambda: told(made, case.event, "first") and told(made, JobCompleted, "next"))
    if case.state == "completed":
        await wait_until(lambda: told(made, JobCompleted, "first"))

    assert (await view()).places == {"first": [case.state], "next": ["completed"]}
    assert await counters(redis, prefix, "first") == case.counters
    assert await counters(redis, prefix, "next") == ("1", "1", None)
    assert proxy.passed(case.script, "first") == 1
    again = case.state == "completed" and case.event is not JobCompleted
    assert sorted(script.runs) == ["first", *["first"] * again, "next"]
    assert told(made, case.event, "first") == 1
    assert told(made, JobCompleted, "first") == (case.state == "completed")
    assert told(made, JobCompleted, "next") == 1
    assert not made.of(JobLost)


@every_point
async def test_fetch_takes_each_job_once_wherever_its_exchange_breaks(
    point: Point,
    proxy: FaultProxy,
    proxied: Endpoint,
    make_worker: MakeWorker,
    queue: Any,
    redis: Redis,
    prefix: str,
    view: Any,
) -> None:
    for job in ("first", "next"):
        await queue.add("n", {}, {"jobId": job})
    proxy.break_at(point, named("moveToActive"))
    script = Script()
    made = await make_worker(script, endpoint=proxied)
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert (await view()).places == {"first": ["completed"], "next": ["completed"]}
    assert [event.job_id for event in made.of(JobActive)] == script.runs == ["first", "next"]
    for job in ("first", "next"):
        assert await counters(redis, prefix, job) == ("1", "1", None)


@pytest.mark.parametrize("cut", [1, 5, 40])
async def test_reply_that_breaks_off_is_a_lost_reply(
    cut: int, proxy: FaultProxy, proxied: Endpoint, make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    """The next job comes with the finish of the first one; the connection breaks within it."""
    for job in ("first", "next"):
        await queue.add("n", {"text": "x" * 100}, {"jobId": job})
    script = Script()
    script.gates[1] = asyncio.Event()
    made = await make_worker(script, endpoint=proxied)
    await wait_until(lambda: script.runs)
    proxy.cut_after(cut, "down")
    script.gates[1].set()
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert script.runs == ["first", "next"]
    assert proxy.passed("moveToFinished", "first") == 1
    assert await counters(redis, prefix, "next") == ("1", "1", None)


@every_point
async def test_wake_up_is_not_missed_wherever_the_wait_breaks(
    point: Point, proxy: FaultProxy, proxied: Endpoint, make_worker: MakeWorker, queue: Any
) -> None:
    """BZPOPMIN takes the marker away with its reply; without one the worker must look by itself, and soon."""
    proxy.break_at(point, named("BZPOPMIN"))
    made = await make_worker(endpoint=proxied, drain_delay_s=9.0)
    await wait_until(lambda: proxy.breaks[0].fired.is_set() or proxy.passed("BZPOPMIN"))
    await queue.add("n", {}, {"jobId": "one"})
    await wait_until(lambda: made.of(JobCompleted), timeout_s=6.0)  # less than the wait would have lasted


@every_point
async def test_renewal_survives_a_break_and_the_job_stays_ours(
    point: Point, proxy: FaultProxy, proxied: Endpoint, make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    await queue.add("n", {}, {"jobId": "one"})
    planned = proxy.break_at(point, named("extendLocks"), nth=2)
    script = Script()
    script.gates[1] = asyncio.Event()
    made = await make_worker(script, endpoint=proxied, lock_ms=1500, stalled_interval_ms=200)
    await planned.fired.wait()
    before = proxy.passed("extendLocks")
    await wait_until(lambda: proxy.passed("extendLocks") >= before + 3)  # a lock's life later it is still renewed
    script.gates[1].set()
    await wait_until(lambda: made.of(JobCompleted))
    assert await counters(redis, prefix, "one") == ("1", "1", None)
    assert script.runs == ["one"] and not made.of(JobLost)


# ------------------------------------------------ requests that outlive their connection


@pytest.mark.parametrize(
    ("script_name", "ending"),
    [
        ("moveToFinished", Completed(result=1)),
        ("moveToFinished", Failed(reason="no", error="E")),
        ("retryJob", Retry(reason="no", error="E", delay_ms=0)),
        ("moveToDelayed", Delayed(delay_ms=1, reason="soon")),
        ("moveJobFromActiveToWait", HandedBack(reason="drain")),
    ],
    ids=["completed", "failed", "retry-at-once", "delayed", "handed-back"],
)
async def test_late_ending_does_not_touch_the_next_run(
    script_name: str,
    ending: Ending,
    proxy: FaultProxy,
    proxied: Endpoint,
    make_worker: MakeWorker,
    queue: Any,
    view: Any,
) -> None:
    """It was sent again, since it had not arrived; then it arrives after all, while the job runs for the second time
    under the same token.
    """
    await queue.add("n", {}, {"jobId": "one", "attempts": 5})
    late = proxy.break_at("late", named(script_name, "one"))
    script = Script(one=[ending])
    script.gates[2] = asyncio.Event()
    made = await make_worker(script, endpoint=proxied)
    ends = isinstance(ending, Completed | Failed)
    await wait_until(lambda: made.of(JobCompleted) + made.of(JobFailed) if ends else len(script.runs) == 2)
    late.release()
    await late.delivered.wait()
    script.gates[2].set()
    await wait_until(lambda: made.of(JobCompleted) + made.of(JobFailed))
    assert (await view()).places == {"one": ["failed" if isinstance(ending, Failed) else "completed"]}
    assert script.runs == ["one"] * (1 if ends else 2)
    assert len(made.of(JobCompleted)) + len(made.of(JobFailed)) == 1
    assert not made.of(JobLost)


async def test_late_fetch_takes_no_job_that_nobody_runs(
    proxy: FaultProxy,
    proxied: Endpoint,
    make_worker: MakeWorker,
    queue: Any,
    redis: Redis,
    prefix: str,
) -> None:
    await queue.add("n", {}, {"jobId": "first"})
    late = proxy.break_at("late", named("moveToActive"))
    script = Script()
    script.gates[1] = asyncio.Event()
    made = await make_worker(script, endpoint=proxied)
    await wait_until(lambda: script.runs == ["first"])
    await queue.add("n", {}, {"jobId": "second"})
    late.release()
    await late.delivered.wait()
    script.gates[1].set()
    await wait_until(lambda: told(made, JobCompleted, "second"))
    assert await counters(redis, prefix, "second") == ("1", "1", None)  # not by way of the stalled check


# ----------------------------------------------------------- the network as a whole


def hole(proxy: FaultProxy) -> None:
    proxy.black_hole()


def frost(proxy: FaultProxy) -> None:
    proxy.freeze()


@pytest.mark.parametrize("fault", [hole, frost])
async def test_silence_longer_than_a_time_out_is_lived_through(
    fault: Callable[[FaultProxy], None],
    proxy: FaultProxy,
    proxied: Endpoint,
    make_worker: MakeWorker,
    queue: Any,
    redis: Redis,
    prefix: str,
    view: Any,
) -> None:
    for job in ("first", "next"):
        await queue.add("n", {}, {"jobId": job})
    script = Script()
    script.gates[1] = asyncio.Event()
    made = await make_worker(script, endpoint=proxied, lock_ms=30_000)
    await wait_until(lambda: script.runs)
    fault(proxy)
    script.gates[1].set()
    before = len(proxy.attempts)
    await wait_until(lambda: len(proxy.attempts) >= before + 2)  # two time-outs later
    assert not made.of(JobCompleted)
    assert any(not event.up for event in made.of(ConnectionChanged))
    proxy.heal()
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert (await view()).places == {"first": ["completed"], "next": ["completed"]}
    assert script.runs == ["first", "next"]
    for job in ("first", "next"):
        assert await counters(redis, prefix, job) == ("1", "1", None)
    assert made.worker.health().ok


async def test_waiting_connection_that_went_dead_is_noticed_by_itself(
    proxy: FaultProxy,
    proxied: Endpoint,
    make_worker: MakeWorker,
    queue: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half-open: the server believes that it has told the worker of the job; only our own time-out can tell."""
    monkeypatch.setattr(endpoint, "MAX_BLOCK_S", 0.3)
    monkeypatch.setattr(endpoint, "BLOCK_SLACK_S", 0.5)
    made = await make_worker(endpoint=proxied, drain_delay_s=0.3)
    await wait_until(lambda: proxy.passed("BZPOPMIN"))
    proxy.link_of(named("BZPOPMIN")).half_open("down")
    await queue.add("n", {}, {"jobId": "one"})
    await wait_until(lambda: made.of(JobCompleted), timeout_s=6.0)
    assert len(made.of(JobCompleted)) == 1


async def test_job_taken_over_during_an_outage_is_given_up_unwritten(
    proxy: FaultProxy,
    proxied: Endpoint,
    make_worker: MakeWorker,
    queue: Any,
    redis: Redis,
    prefix: str,
    view: Any,
) -> None:
    await queue.add("n", {}, {"jobId": "one"})
    script, other = Script(one=[Completed(result="first worker")]), Script(one=[Completed(result="second worker")])
    script.gates[1] = asyncio.Event()
    # The queue's stalled checks keep the interval of whoever made the last one.
    cut_off = await make_worker(script, endpoint=proxied, lock_ms=1000, stalled_interval_ms=200)
    await wait_until(lambda: script.runs)
    proxy.refuse()
    taker = await make_worker(other, lock_ms=1000, stalled_interval_ms=200, max_stalls=5)
    await wait_until(lambda: taker.of(JobCompleted))
    events = await redis.xlen(f"{prefix}:q:events")
    before = await redis.hgetall(f"{prefix}:q:one")
    script.gates[1].set()
    proxy.heal()
    await wait_until(lambda: cut_off.of(JobLost))
    assert not cut_off.of(JobCompleted)
    assert await redis.hgetall(f"{prefix}:q:one") == before
    assert await redis.xlen(f"{prefix}:q:events") == events
    assert before["returnvalue"] == '"second worker"'
    assert await counters(redis, prefix, "one") == ("2", "1", "1")
    assert (await view()).places == {"one": ["completed"]}


async def test_reconnecting_is_neither_slow_nor_a_storm(
    proxy: FaultProxy, proxied: Endpoint, make_worker: MakeWorker, queue: Any
) -> None:
    made = await make_worker(endpoint=proxied, slots=5)
    await wait_until(lambda: proxy.passed("BZPOPMIN"))
    proxy.refuse()
    began, loop = len(proxy.attempts), asyncio.get_running_loop()
    until = loop.time() + 2.0
    await wait_until(lambda: loop.time() > until)
    in_two_seconds = len(proxy.attempts) - began
    # Five slots, a renewal and a stalled check: one after the other, doubling from 0.1 s.
    assert 3 <= in_two_seconds <= 40
    proxy.heal()
    await queue.add("n", {}, {"jobId": "one"})
    await wait_until(lambda: made.of(JobCompleted), timeout_s=6.0)  # twice the longest wait
