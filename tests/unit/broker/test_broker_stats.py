"""What a server says about queues, and what it makes of what nobody should have written there."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)

from workers.broker.batch import Lua
from workers.broker.stats import DELAYED_SCORE, QueueStats, StatsReader

NOW = 1_800_000_000_000
DENIED = "ACL failure in script: User fleet has no permissions to run the 'zcount' command"
WRONG = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class Pipeline:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *words: Any) -> None:
        self._commands.append(words)

    async def execute(self, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        self._server.trips.append(self._commands)
        return [self._server.answer(words) for words in self._commands]


class Server:
    """Answers each command by what its first words are, else 0 or nothing; also those inside of the script. How many
    markers it finds, and when the first job was due, is ("ENDS", the queue's base); itself it is ("EVALSHA", the base).
    """

    def __init__(self, answers: dict[tuple[str, str], Any]) -> None:
        self.answers = answers
        self.scripts: set[str] = set()
        self.trips: list[list[tuple[Any, ...]]] = []

    def pipeline(self, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)

    def answer(self, words: tuple[Any, ...]) -> Any:
        if words[0] == "SCRIPT LOAD":
            self.scripts.add(Lua(words[1]).sha)
            return Lua(words[1]).sha
        if words[0] != "EVALSHA":
            return self.answers.get((words[0], words[1]), 0)
        if words[1] not in self.scripts:
            return NoScriptError("No matching script")
        return self.answers.get(("EVALSHA", words[3]), None) or self.look(words[3])

    def look(self, base: str) -> list[Any]:
        """What the script answers."""
        problems: list[str] = []
        found: list[Any] = []
        for name, command, suffix, nothing in ASKED:
            reply = self.answers.get((command, base + suffix), nothing)
            if isinstance(reply, Exception):
                problems += [name, f"ERR {reply}" if type(reply) is ResponseError else str(reply)]
                reply = None
            found.append(reply)
        return [problems, [*found, *self.answers.get(("ENDS", base), (0, None))]]


ASKED: list[tuple[str, str, str, Any]] = [
    *((name, "LLEN", name, 0) for name in ("wait", "paused", "active")),
    *((name, "ZCARD", name, 0) for name in ("prioritized", "delayed", "waiting-children", "completed", "failed")),
    ("due", "ZCOUNT", "delayed", 0),
    ("earliest due", "ZRANGEBYSCORE", "delayed", []),
    ("meta", "HMGET", "meta", [None, None]),
    ("limiter", "GET", "limiter", None),
    ("limiter left", "PTTL", "limiter", -2),
]


async def read(answers: dict[tuple[str, str], Any], **options: Any) -> QueueStats:
    server = Server(answers)
    reader = StatsReader(cast(Redis, server), "bull", clock=lambda: NOW, **options)
    return (await reader.read(["q"]))["q"]


def due(age_s: float) -> str:
    return str(round(NOW - age_s * 1000))


async def test_no_queue_costs_nothing() -> None:
    server = Server({})
    assert await StatsReader(cast(Redis, server), "bull").read([]) == {}
    assert server.trips == []


async def test_empty_queues_cost_one_trip_together() -> None:
    server = Server({})
    found = await StatsReader(cast(Redis, server), "{bull}", clock=lambda: NOW).read(["a", "b", "a"])
    assert found == {"a": QueueStats(queue="a"), "b": QueueStats(queue="b")}
    assert len(server.trips) == 1
    asked = [words for words in server.trips[0] if words[0] != "SCRIPT LOAD"]
    assert [(words[0], words[3]) for words in asked] == [("EVALSHA", "{bull}:a:"), ("EVALSHA", "{bull}:b:")]


async def test_ages_are_in_the_same_trip_and_the_script_is_sent_once() -> None:
    server = Server({("ENDS", "bull:a:"): [0, due(2.0)], ("ENDS", "bull:b:"): [0, due(4.0)]})
    reader = StatsReader(cast(Redis, server), "bull", clock=lambda: NOW)
    for _ in range(3):
        found = await reader.read(["a", "b"])
        assert [stats.oldest_waiting_s for stats in found.values()] == [2.0, 4.0]
    assert len(server.trips) == 3
    assert [sum(words[0] == "SCRIPT LOAD" for words in trip) for trip in server.trips] == [1, 0, 0]


async def test_server_that_has_lost_the_script_gets_it_again() -> None:
    server = Server({("ENDS", "bull:a:"): [0, due(2.0)]})
    reader = StatsReader(cast(Redis, server), "bull", clock=lambda: NOW)
    await reader.read(["a"])
    server.scripts.clear()
    found = await reader.read(["a", "b"])
    assert found["a"].oldest_waiting_s == 2.0 and found["b"].oldest_waiting_s is None
    assert [words[0] for words in server.trips[2]] == ["SCRIPT LOAD", "EVALSHA", "EVALSHA"]
    assert len(server.trips) == 3 and not found["a"].problems


async def test_workers_are_listed_once_for_all_queues() -> None:
    clients = "id=1 addr=127.0.0.1:5 name=bull:YQ==:w:one age=9 idle=2 flags=b lib-name=ioredis lib-ver=5.0\n"
    server = Server({("CLIENT", "LIST"): clients})
    found = await StatsReader(cast(Redis, server), "bull").read(["a", "b"], workers=True)
    (worker,) = found["a"].workers or ()
    assert (worker.name, worker.side, worker.is_waiting, worker.library) == ("one", "node", True, "ioredis 5.0")
    assert found["b"].workers == ()
    assert len(server.trips) == 1 and sum(words[0] == "CLIENT" for words in server.trips[0]) == 1


async def test_server_that_does_not_list_its_clients_is_named() -> None:
    server = Server({("CLIENT", "LIST"): NoPermissionError("NOPERM client|list")})
    found = await StatsReader(cast(Redis, server), "bull").read(["a"], workers=True)
    assert found["a"].workers is None and found["a"].problems == ("workers: NOPERM client|list",)


@pytest.mark.parametrize(
    ("first", "age_s"),
    [(due(5.0), 5.0), (due(-7.0), 0.0), (None, None), ("nan", None), ("soon", None)],
)
async def test_age_of_the_oldest_job_that_waits_for_its_first_start(first: str | None, age_s: float | None) -> None:
    assert (await read({("ENDS", "bull:q:"): [0, first]})).oldest_waiting_s == age_s


async def test_older_of_a_waiting_and_a_due_job_is_told() -> None:
    for waits, delayed in ((5, 9), (9, 5)):
        score = str((NOW - delayed * 1000) * DELAYED_SCORE)
        answers: dict[tuple[str, str], Any] = {("ENDS", "bull:q:"): [0, due(waits)]}
        assert (await read(answers | {("ZRANGEBYSCORE", "bull:q:delayed"): ["1", score]})).oldest_waiting_s == 9


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
    stats = await read({("LLEN", "bull:q:wait"): 2, ("ENDS", "bull:q:"): [1, due(9.0)]})
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
        ("HMGET", "bull:q:meta"): WRONG,
        ("GET", "bull:q:limiter"): WRONG,
        ("ZCOUNT", "bull:q:delayed"): ResponseError(DENIED),
        ("ZCARD", "bull:q:delayed"): 4,
    }
    stats = await read(answers)
    assert (stats.waiting, stats.delayed, stats.backlog, stats.is_paused) == (0, 4, 0, False)
    assert [problem.partition(":")[0] for problem in stats.problems] == [
        *("wait", "due", "meta", "limiter"),
    ]
    assert stats.problems[0] == f"wait: {WRONG}" and stats.problems[1] == f"due: {DENIED}"
    stats = await read({("EVALSHA", "bull:q:"): NoPermissionError("NOPERM evalsha")})
    assert stats == QueueStats(queue="q", problems=("everything: NOPERM evalsha",))


@pytest.mark.parametrize(
    "error", [ReadOnlyError("READONLY"), ResponseError("CLUSTERDOWN"), RedisConnectionError("away")]
)
async def test_server_that_can_not_answer_is_an_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        await read({("EVALSHA", "bull:q:"): error})


async def test_slot_that_is_on_its_way_to_another_node_is_an_error() -> None:
    moving = ResponseError("Script attempted to access a non local key in a cluster node")
    with pytest.raises(ResponseError, match="non local key"):
        await read({("LLEN", "bull:q:wait"): moving})


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
