"""What follows a pause of a queue for everyone, told once and done once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any, cast

import pytest

from workers.broker.global_pause import GlobalPauses, SeenPause
from workers.broker.stats import QueueStats
from workers.ops.global_pauses import GlobalPauseWatch, decide
from workers.queue_service import Pressure, QueueState
from workers.queue_service.report import Act

NOW = 1_780_000_000_000


@pytest.mark.parametrize(
    ("seen", "after_s", "answer"),
    [
        (SeenPause(NOW - 90_000), None, "report"),
        (SeenPause(NOW - 90_000), 60.0, "resume"),
        (SeenPause(NOW - 60_000), 60.0, "resume"),
        (SeenPause(NOW - 59_999), 60.0, "wait"),
        (SeenPause(NOW + 5_000), 60.0, "wait"),
        (SeenPause(NOW - 90_000, "ann"), 60.0, "leave"),
        (SeenPause(NOW - 90_000, "ann"), None, "leave"),
    ],
)
def test_decision(seen: SeenPause, after_s: float | None, answer: str) -> None:
    assert decide(seen, after_s, NOW) == answer


class Pauses:
    """What Redis knows."""

    def __init__(self) -> None:
        self.paused: dict[str, SeenPause] = {}
        self.asked: list[list[str]] = []
        self.resumed: list[str] = []
        self.error: Exception | None = None
        self.was_faster = False

    async def look(self, queues: Iterable[str]) -> dict[str, SeenPause]:
        self.asked.append(list(queues))
        if self.error is not None:
            raise self.error
        return dict(self.paused)

    async def resume(self, queue: str, seen: SeenPause) -> bool:
        if self.error is not None:
            raise self.error
        self.resumed.append(queue)
        del self.paused[queue]
        return not self.was_faster


class Watched:
    """A watch and what it works with."""

    def __init__(self, **policies: float | None) -> None:
        self.now = NOW
        self.pauses = Pauses()
        self.acts: list[Act] = []
        pauses = cast(GlobalPauses, self.pauses)
        self.watch = GlobalPauseWatch(pauses, policies, audit=self.acts.append, clock=lambda: self.now)

    async def look(self, **paused: bool) -> None:
        def state(queue: str, is_paused: bool) -> QueueState:
            return QueueState(QueueStats(queue=queue, is_paused=is_paused), Pressure(), time.monotonic())

        await self.watch.look({queue: state(queue, so) for queue, so in paused.items()})


async def test_pause_is_told_once_with_its_remedy(caplog: pytest.LogCaptureFixture) -> None:
    made = Watched(q=None)
    made.pauses.paused = {"q": SeenPause(NOW)}
    for _ in range(3):
        await made.look(q=True)
    assert [record.message for record in caplog.records] == [
        "queue q is paused for everyone: no worker starts its jobs, Node's neither; a shutdown of the Node stack "
        "leaves its queues so; resume it with queue.resume() in Node, or set on_global_pause: {resume_after: 60s}"
    ]
    made.now += 42_000
    assert made.watch.told() == {"q": "paused for 42 s, and stays so: see on_global_pause"}
    assert not made.pauses.resumed


async def test_pause_ends_after_its_time(caplog: pytest.LogCaptureFixture) -> None:
    made = Watched(q=60.0)
    made.pauses.paused = {"q": SeenPause(NOW)}
    await made.look(q=True)
    assert made.watch.told() == {"q": "paused for 0 s, resumed after 60 s (on_global_pause)"}
    made.now += 60_000
    await made.look(q=True)
    assert made.pauses.resumed == ["q"] and made.watch.told() == {}
    assert "queue q was paused for everyone for 60 s, and is resumed (on_global_pause)" in caplog.text
    assert [(act.actor.name, act.action, act.outcome, act.done) for act in made.acts] == [
        ("on_global_pause", "resume", "done", 1)
    ]


async def test_operators_pause_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    made = Watched(q=60.0)
    made.pauses.paused = {"q": SeenPause(NOW - 3_600_000, "ann\x1b[31m")}
    with caplog.at_level(logging.INFO):
        await made.look(q=True)
    assert made.watch.told() == {"q": "paused for 3600 s by ann\\x1b[31m"}
    assert not made.pauses.resumed and "\x1b" not in caplog.text


async def test_another_pod_that_was_faster_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    made = Watched(q=1.0)
    made.pauses.paused, made.pauses.was_faster = {"q": SeenPause(NOW - 2_000)}, True
    await made.look(q=True)
    assert "and is resumed" not in caplog.text and [act.done for act in made.acts] == [0]


async def test_running_queues_are_asked_about_the_first_time_and_after_a_pause() -> None:
    made = Watched(q=None, r=None)
    await made.look(q=False, r=False)
    await made.look(q=False, r=False)
    made.pauses.paused = {"q": SeenPause(NOW)}
    await made.look(q=True, r=False)
    made.pauses.paused = {}
    await made.look(q=False, r=False)
    await made.look(q=False, r=False)
    assert made.pauses.asked == [["q", "r"], [], ["q"], ["q"], []]


async def test_failure_is_said_once_and_resumes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made = Watched(q=1.0)
    made.pauses.paused, made.pauses.error = {"q": SeenPause(NOW - 9_000)}, PermissionError("no keys of fleet's own")
    await made.look(q=True)
    await made.look(q=True)
    assert [record.message for record in caplog.records] == [
        "it can't be told since when queues are paused, so none is resumed: no keys of fleet's own"
    ]
    made.pauses.error = None
    await made.look(q=True)
    assert made.pauses.resumed == ["q"]


async def test_resuming_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    made = Watched(q=1.0)
    made.pauses.paused = {"q": SeenPause(NOW - 9_000)}
    resume: Any = made.pauses.resume

    async def fails(queue: str, seen: SeenPause) -> bool:
        raise ConnectionError("away")

    cast(Any, made.pauses).resume = fails
    await made.look(q=True)
    assert "queue q could not be resumed: away; trying again" in caplog.text
    cast(Any, made.pauses).resume = resume
    await made.look(q=True)
    assert made.pauses.resumed == ["q"]
