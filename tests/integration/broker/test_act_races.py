"""Acts against workers and against each other, all at once: no job is lost, none is twice, and every answer is true."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from tests.queue_view import QueueView, look
from workers.broker.act_runner import Answer
from workers.broker.activation import Activation
from workers.broker.data_status import with_status
from workers.broker.endings import Completed, Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted, JobFailed, WorkerError
from workers.broker.hold import Hold
from workers.broker.job_acts import JobActs
from workers.broker.queue_acts import QueueActs

JOBS, ACTORS = 300, 8
#: Words that an act may answer with when others are faster.
HONEST = {"ok", "asked", "gone", "not", "held", "taken", "changed"}


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncIterator[Redis]:
    client = endpoint.commands()
    yield client
    await client.aclose()


@pytest.fixture
def acts(client: Redis, prefix: str) -> JobActs:
    return JobActs(client, prefix)


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def sometimes_fails(job: Activation, hold: Hold) -> Ending:
    await asyncio.sleep(random.random() / 200)
    return Failed(reason="no", error="Error") if int(job.id) % 3 == 0 else Completed(result=1)


def act_of(acts: JobActs, name: str) -> Callable[[str], Awaitable[list[Answer]]]:
    return {
        "retry": lambda job_id: acts.retry("q", [job_id]),
        "promote": lambda job_id: acts.promote("q", [job_id]),
        "cancel": lambda job_id: acts.cancel("q", [job_id], "cancelled", texts=lambda data: (data + " ", data + "  ")),
        "priority": lambda job_id: acts.change_priority("q", [job_id], random.randrange(4), lifo=False),
        "delay": lambda job_id: acts.change_delay("q", [job_id], random.randrange(50)),
        "move": lambda job_id: acts.move("q", [job_id], "other"),
        "back": lambda job_id: acts.move("other", [job_id], "q"),
        "remove": lambda job_id: acts.remove("q", [job_id]),
    }[name]


async def rush(acts: JobActs, names: list[str], ids: list[str], seed: int, each: int = 60) -> Counter[tuple[str, str]]:
    """Many actors at once; how often each act was answered with which word."""
    told: Counter[tuple[str, str]] = Counter()

    async def actor(draw: random.Random) -> None:
        for _ in range(each):
            name = draw.choice(names)
            (answer,) = await act_of(acts, name)(draw.choice(ids))
            assert answer.word in HONEST, answer
            told[name, answer.word] += 1

    await asyncio.gather(*(actor(random.Random(seed * 100 + n)) for n in range(ACTORS)))
    return told


def check_whole(views: list[QueueView], ids: list[str], gone: int) -> None:
    """Every job is in exactly one place of one queue with its row, but for those that were removed."""
    places = [place for view in views for job in view.places for place in [job] * len(view.places[job])]
    assert max(Counter(places).values()) == 1, "no job is in two places"
    assert len(places) == len(ids) - gone
    for view in views:
        assert set(view.places) == view.rows
        assert not view.locks and not view.strays


@pytest.mark.parametrize("seed", range(4))
async def test_workers_and_actors_on_the_same_jobs(
    acts: JobActs, queue: Any, redis: Redis, prefix: str, make_worker: MakeWorker, seed: int
) -> None:
    delays = random.Random(seed)
    for _ in range(JOBS):
        opts = delays.choice([{}, {}, {"priority": 2}, {"delay": delays.randrange(300)}])
        await queue.add("n", {}, opts)
    ids = [str(n + 1) for n in range(JOBS)]
    makers = [await make_worker(sometimes_fails, slots=4, drain_delay_s=0.2) for _ in range(2)]
    names = ["retry", "promote", "cancel", "priority", "delay", "move", "back", "remove"]
    told = await rush(acts, names, ids, seed)

    async def rests() -> Any:
        states = ("wait", "active", "paused", "delayed", "prioritized")
        return not any((await queue.getJobCounts(*states)).values())

    await wait_until(rests, timeout_s=60)
    await wait_until(lambda: not any(made.worker._leases.holds for made in makers))
    views = [await look(redis, prefix, name) for name in ("q", "other")]
    check_whole(views, ids, told["remove", "ok"])
    assert told["move", "ok"] > 0 and told["cancel", "ok"] + told["cancel", "asked"] > 0
    assert not [event for made in makers for event in made.of(WorkerError)]


@pytest.mark.parametrize("seed", range(3))
async def test_one_act_wins_where_many_are_sent(
    acts: JobActs, queue: Any, redis: Redis, prefix: str, seed: int
) -> None:
    draw = random.Random(seed)
    for number in range(30):
        job = await queue.add("n", {}, {"delay": 3_600_000} if number % 2 else {})
        names = ["promote", "cancel", "move", "remove"]
        rivals = [draw.choice(names) for _ in range(6)]
        answers = await asyncio.gather(*(act_of(acts, name)(job.id) for name in rivals))
        won = [name for name, (answer,) in zip(rivals, answers, strict=True) if answer.word == "ok"]
        assert not won or max(Counter(won).values()) == 1, won
    views = [await look(redis, prefix, name) for name in ("q", "other")]
    places = Counter(job for view in views for job in view.places)
    assert not places or max(places.values()) == 1


async def test_job_is_cancelled_or_finished_never_both(
    acts: JobActs, queue: Any, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    for _ in range(JOBS):
        await queue.add("n", {})
    made = await make_worker(slots=4)
    answers: dict[str, Answer] = {}
    for n in range(JOBS):
        (answers[str(n + 1)],) = await acts.cancel("q", [str(n + 1)], "cancelled")
    await wait_until(partial(has_ended, redis, prefix, JOBS))
    ran = {event.job_id for event in [*made.of(JobCompleted), *made.of(JobFailed)]}
    for job_id, answer in answers.items():
        assert (answer.word == "ok") == (job_id not in ran), (job_id, answer)
        if answer.word == "ok":
            assert await redis.zscore(f"{prefix}:q:failed", job_id) is not None
            assert await redis.hget(f"{prefix}:q:{job_id}", "ats") is None
    stored: Any = await redis.xrange(f"{prefix}:q:events")
    events = Counter(
        (fields["jobId"], fields["event"]) for _, fields in stored if fields["event"] in ("completed", "failed")
    )
    assert len(events) == JOBS and set(events.values()) == {1}


async def has_ended(redis: Redis, prefix: str, count: int) -> Any:
    return await redis.zcard(f"{prefix}:q:failed") + await redis.zcard(f"{prefix}:q:completed") == count


async def test_writers_of_data_lose_nothing_to_each_other(acts: JobActs, queue: Any, redis: Redis, prefix: str) -> None:
    """Each adds a name of its own to what it has read; others write `status` meanwhile, as Node may."""
    job = await queue.add("n", {"status": "Scheduled"})
    key = f"{prefix}:q:{job.id}"

    async def write(change: Callable[[str], str]) -> None:
        while True:
            text = str(await redis.hget(key, "data"))
            answer = await acts.change_data("q", job.id, text, change(text), ["waiting"])
            if answer.word == "ok":
                return
            assert answer.word == "changed"

    def named(n: int) -> Callable[[str], str]:
        return lambda text: json.dumps({**json.loads(text), f"n{n}": n})

    def said(n: int) -> Callable[[str], str]:
        return lambda text: with_status(text, f"s{n}") or ""

    await asyncio.gather(*(write(each(n)) for n in range(25) for each in (named, said)))
    data = json.loads(await redis.hget(key, "data") or "")
    assert {name for name in data if name != "status"} == {f"n{n}" for n in range(25)}
    assert data["status"] in {f"s{n}" for n in range(25)}


async def test_job_whose_data_never_rest_is_left_alone(acts: JobActs, queue: Any, redis: Redis, prefix: str) -> None:
    job = await queue.add("n", {})
    key = f"{prefix}:q:{job.id}"
    number = 0

    def texts(data: str) -> tuple[str, str]:
        nonlocal number
        number += 1
        writes.append(asyncio.get_running_loop().create_task(redis.hset(key, "data", str(number))))  # type: ignore[arg-type]
        return "", ""

    writes: list[asyncio.Task[int]] = []
    slow = SlowSend(acts, writes)
    (answer,) = await slow.cancel(job.id, texts)
    assert answer.word == "changed"
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == [job.id]


class SlowSend:
    """Lets what was begun meanwhile be done before each script is sent."""

    def __init__(self, acts: JobActs, pending: list[asyncio.Task[int]]) -> None:
        self._acts = acts
        runner = acts._runner
        send = runner._send

        async def slowly(name: str, calls: Any) -> Any:
            await asyncio.gather(*pending)
            return await send(name, calls)

        runner._send = slowly  # type: ignore[method-assign]

    async def cancel(self, job_id: str, texts: Any) -> list[Answer]:
        return await self._acts.cancel("q", [job_id], "no", texts=texts)


async def test_pauses_and_workers_lose_no_job(
    client: Redis, queue: Any, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    pausing = QueueActs(client, prefix)
    await redis.hset(f"{prefix}:q:meta", "version", "bullmq:5.53.2")
    made = await make_worker(slots=4, drain_delay_s=0.1)
    added = 0
    for _ in range(15):
        await pausing.pause("q")
        for _ in range(5):
            await queue.add("n", {})
            added += 1
        await pausing.resume("q")
    await wait_until(lambda: len(made.of(JobCompleted)) == added)
    check_whole([await look(redis, prefix, "q")], [str(n) for n in range(added)], 0)
