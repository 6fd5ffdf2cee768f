"""Workers of others on our queues are told once, in health and in a gauge, and forgotten with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, cast

import pytest

from workers.broker.workers_seen import Side, WorkerSeen
from workers.ops.competitors import EVERY_S, RECENT_S, Competitors
from workers.queue_service import QueueStats, StatsReader


def worker(side: Side, name: str = "w", address: str = "10.0.0.7:4242") -> WorkerSeen:
    return WorkerSeen(
        queue="q", name=name, side=side, address=address, library="", connected_s=1, idle_s=1, is_waiting=True
    )


class Reader:
    def __init__(self) -> None:
        self.workers: tuple[WorkerSeen, ...] | None = ()
        self.reads = 0
        self.error: Exception | None = None

    async def read(self, queues: Iterable[str], *, workers: bool = False) -> dict[str, QueueStats]:
        assert workers
        self.reads += 1
        if self.error is not None:
            raise self.error
        return {queue: QueueStats(queue=queue, workers=self.workers) for queue in queues}


class Made:
    def __init__(self) -> None:
        self.now = 1000.0
        self.reader = Reader()
        self.others = Competitors(cast(StatsReader, self.reader), clock=lambda: self.now)

    async def look(self, *workers: WorkerSeen) -> None:
        self.reader.workers = workers
        self.now += EVERY_S
        await self.others.look(cast(Any, {"q": None}))


async def test_they_are_told_once_until_they_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    made = Made()
    with caplog.at_level(logging.INFO):
        await made.look(worker("fleet"))
        assert made.others.told() == {}
        for _ in range(2):
            await made.look(worker("fleet"), worker("node", ""), worker("node", "n2"), worker("python"))
        assert made.others.told() == {
            "q": "2 workers of Node's and 1 worker of other Python programs (10.0.0.7:4242, n2, w)"
        }
        assert made.others.sides() == {"q": {"fleet": 1, "node": 2, "python": 1}}
        await made.look(worker("fleet"))
        assert made.others.told() == {}
    assert [record.message for record in caplog.records] == [
        "queue q: 2 workers of Node's and 1 worker of other Python programs (10.0.0.7:4242, n2, w): they take its "
        "jobs, and none of the settings here apply to those",
        "queue q: no other workers any more",
    ]


async def test_many_are_not_all_named_and_names_are_safe() -> None:
    made = Made()
    await made.look(*(worker("node", f"\x1b[2J{number}") for number in range(9)))
    (words,) = made.others.told().values()
    assert words.startswith("9 workers of Node's (") and words.endswith(", …)") and words.isprintable()


async def test_server_is_asked_every_half_minute_and_old_answers_are_not_told() -> None:
    made = Made()
    await made.look(worker("node"))
    await made.others.look(cast(Any, {"q": None}))
    assert made.reader.reads == 1
    made.now += RECENT_S + 1
    assert made.others.told() == {} and made.others.sides() == {}


async def test_outage_and_a_server_that_does_not_tell_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    made = Made()
    made.reader.error = ConnectionError("away")
    await made.look()
    made.reader.error = None
    made.reader.workers = None
    made.now += EVERY_S
    await made.others.look(cast(Any, {"q": None}))
    assert made.others.told() == {} and made.others.sides() == {} and not caplog.records
