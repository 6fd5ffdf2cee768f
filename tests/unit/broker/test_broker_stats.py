"""What a server says about queues, and what it makes of what nobody should have written there."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
)

from workers.broker.stats import DELAYED_SCORE, EARLIEST_MS, QueueStats, StatsReader

NOW = 1_800_000_000_000
WRONG = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class Pipeline:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *words: Any) -> None:
        self._commands.append(words)

    def hmget(self, key: str, *fields: str) -> None:
        self._commands.append(("HMGET", key, *fields))

    async def execute(self, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        self._server.trips.append(self._commands)
        return [self._server.answer(words) for words in self._commands]


class Server:
    """Answers each command by what its first words are; a callable is asked, else 0 or nothing."""

    def __init__(self, answers: dict[tuple[str, str], Any]) -> None:
        self.answers = answers
        self.trips: list[list[tuple[Any, ...]]] = []

    def pipeline(self, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)

    def answer(self, words: tuple[Any, ...]) -> Any:
        found: Any = self.answers.get((words[0], words[1]))
        if callable(found):
            return found(words)
        if found is not None:
            return found
        return [] if words[0] in ("LRANGE", "ZRANGE", "ZRANGEBYSCORE") else [None] * 3 if words[0] == "HMGET" else 0


async def read(answers: dict[tuple[str, str], Any], **options: Any) -> QueueStats:
    server = Server(answers)
    reader = StatsReader(cast(Redis, server), "bull", clock=lambda: NOW, **options)
    return (await reader.read(["q"]))["q"]


def row(age_s: float = 0.0, *, processed_on: str | None = None, **opts: Any) -> list[str | None]:
    return [str(round(NOW - age_s * 1000)), json.dumps(opts), processed_on]


async def test_no_queue_costs_nothing() -> None:
    server = Server({})
    assert await StatsReader(cast(Redis, server), "bull").read([]) == {}
    assert server.trips == []


async def test_empty_queues_cost_one_trip_together() -> None:
    server = Server({})
    found = await StatsReader(cast(Redis, server), "{bull}", clock=lambda: NOW).read(["a", "b", "a"])
    assert found == {"a": QueueStats(queue="a"), "b": QueueStats(queue="b")}
    assert len(server.trips) == 1
    assert {words[1].rpartition(":")[0] for words in server.trips[0]} == {"{bull}:a", "{bull}:b"}
    assert not {words[0] for words in server.trips[0]} & {"KEYS", "SCAN"}


async def test_ages_of_all_queues_cost_one_more() -> None:
    server = Server({("LRANGE", "bull:a:wait"): ["1", "2"], ("LRANGE", "bull:b:wait"): ["1"]})
    await StatsReader(cast(Redis, server), "bull").read(["a", "b"])
    assert [words[:2] for words in server.trips[1]] == [
        ("HMGET", "bull:a:1"),
        ("HMGET", "bull:a:2"),
        ("HMGET", "bull:b:1"),
    ]


@pytest.mark.parametrize(
    ("rows", "age_s"),
    [
        ([row(5.0), row(3.0)], 5.0),
        ([row(3.0), row(5.0)], 5.0),
        ([row(50.0, delay=20_000)], 30.0),  # due 20 s after it was added
        ([row(-7.0)], 0.0),  # a producer's clock that is fast
        ([row(50.0, processed_on="1"), row(5.0)], 5.0),  # a retry: nothing tells since when it waits again
        ([row(50.0, processed_on="1")], None),
        ([[None, None, None]], None),  # removed in between
        ([["yesterday", "{}", None]], None),
        ([["nan", "{}", None]], None),
        ([["1e999", "{}", None]], None),
        ([[str(NOW // 1000), "{}", None]], None),  # seconds
        ([[str(EARLIEST_MS - 1), "{}", None]], None),
        ([[str(NOW - 1000), "[" * 100_000, None]], 1.0),
        ([[str(NOW - 1000), "none", None]], 1.0),
        ([[str(NOW - 1000), '{"delay": "1 day"}', None]], 1.0),
        ([[str(NOW - 1000), '{"delay": 1e308}', None]], 0.0),
        ([[str(NOW - 1000), "[1]", None]], 1.0),
        ([WRONG, row(2.0)], 2.0),
    ],
)
async def test_age_of_the_oldest_job_that_waits_for_its_first_start(rows: list[Any], age_s: float | None) -> None:
    ids = [str(number) for number in range(len(rows))]
    answers: dict[tuple[str, str], Any] = {
        ("LRANGE", "bull:q:wait"): ids,
        **{("HMGET", f"bull:q:{number}"): found for number, found in enumerate(rows)},
    }
    assert (await read(answers)).oldest_waiting_s == age_s


@pytest.mark.parametrize(
    ("score", "age_s"),
    [
        ((NOW - 4000) * DELAYED_SCORE + 3, 4.0),
        ((NOW + 1) * DELAYED_SCORE - 1, 0.0),
        (0, None),
        ("-inf", None),
        ("nan", None),
        (-(10**300), None),
    ],
)
async def test_delayed_job_that_is_due_waits_since_then(score: Any, age_s: float | None) -> None:
    found = (await read({("ZRANGEBYSCORE", "bull:q:delayed"): ["1", str(score)]})).oldest_waiting_s
    assert found == (None if age_s is None else pytest.approx(age_s, abs=0.001))


async def test_markers_of_an_old_bullmq_are_no_jobs() -> None:
    def wait(words: tuple[Any, ...]) -> list[str]:
        return ["1", "0:1700000000000"] if words[2] != 0 else ["1"]

    stats = await read(
        {("LLEN", "bull:q:wait"): 2, ("LRANGE", "bull:q:wait"): wait, ("HMGET", "bull:q:1"): row(9.0)},
    )
    assert (stats.waiting, stats.oldest_waiting_s) == (1, 9.0)


@pytest.mark.parametrize(
    ("most", "rate", "limiter", "left_ms", "limited_s"),
    [
        (None, None, None, -2, 0.0),
        (None, None, str(2**53 - 1), 1500, 1.5),  # by hand
        (None, None, "7", 1500, 0.0),  # a limiter of another worker's settings
        (None, 7, "7", 1500, 1.5),
        (None, 8, "7", 1500, 0.0),
        ("7", 8, "7", 1500, 1.5),  # the queue's own limit outranks a worker's
        ("8", 7, "7", 1500, 0.0),
        ("many", 7, "7", 1500, 1.5),
        (None, 7, "7", -1, 0.0),
        (None, 7, "seven", 1500, 0.0),
    ],
)
async def test_rate_limit_counts_from_its_maximum_on(
    most: str | None, rate: int | None, limiter: str | None, left_ms: int, limited_s: float
) -> None:
    answers = {
        ("HMGET", "bull:q:meta"): [None, most],
        ("GET", "bull:q:limiter"): limiter,
        ("PTTL", "bull:q:limiter"): left_ms,
    }
    stats = await read(answers, rates={} if rate is None else {"q": rate})
    assert stats.limited_s == limited_s
    assert not stats.is_paused


async def test_key_of_another_type_counts_as_empty_and_is_named() -> None:
    answers: dict[tuple[str, str], Any] = {
        ("LLEN", "bull:q:wait"): WRONG,
        ("LRANGE", "bull:q:wait"): WRONG,
        ("HMGET", "bull:q:meta"): WRONG,
        ("GET", "bull:q:limiter"): WRONG,
        ("ZCOUNT", "bull:q:delayed"): NoPermissionError("NOPERM zcount"),
        ("ZCARD", "bull:q:delayed"): 4,
    }
    stats = await read(answers)
    assert (stats.waiting, stats.delayed, stats.backlog, stats.is_paused) == (0, 4, 0, False)
    assert [problem.partition(":")[0] for problem in stats.problems] == [
        "wait", "due", "wait tail", "wait head", "meta", "limiter",
    ]  # fmt: skip
    assert "WRONGTYPE" in stats.problems[0]


@pytest.mark.parametrize(
    "error", [ReadOnlyError("READONLY"), ResponseError("CLUSTERDOWN"), RedisConnectionError("away")]
)
@pytest.mark.parametrize("trip", [0, 1])
async def test_server_that_can_not_answer_is_an_error(error: Exception, trip: int) -> None:
    answers: dict[tuple[str, str], Any] = {("LRANGE", "bull:q:wait"): ["1"]}
    answers["LLEN" if trip == 0 else "HMGET", "bull:q:wait" if trip == 0 else "bull:q:1"] = error
    with pytest.raises(type(error)):
        await read(answers)


def test_counts_are_in_bullmqs_words() -> None:
    stats = QueueStats(queue="q", waiting=1, prioritized=2, delayed=3, due=1, active=4, waiting_children=5)
    assert stats.counts == {
        "waiting": 1,
        "paused": 0,
        "prioritized": 2,
        "delayed": 3,
        "active": 4,
        "waiting-children": 5,
        "completed": 0,
        "failed": 0,
    }
    assert stats.backlog == 4
