"""What a run is asked: which request counts, who is told, and which answers are taken."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from workers.broker.hold import Hold, Interrupt
from workers.contract import StopRequest
from workers.runtime.requests import MAX_SAID, Requests

PAUSE = StopRequest(kind="pause", reason="long", by=60.0)
DEADLINE = StopRequest(kind="deadline", reason="over", by=70.0)
DRAIN = Interrupt("drain", "shutting down", 50.0)
LOST = Interrupt("lock_lost", "expired", 80.0)


@pytest.mark.parametrize(
    ("asked", "interrupt", "stop"),
    [
        (None, None, None),
        (PAUSE, None, PAUSE),
        (DEADLINE, None, DEADLINE),
        (None, DRAIN, StopRequest(kind="drain", reason="shutting down", by=50.0)),
        (PAUSE, DRAIN, StopRequest(kind="drain", reason="shutting down", by=50.0)),
        (PAUSE, Interrupt("drain", "r", 65.0), StopRequest(kind="drain", reason="r", by=60.0)),
        (DEADLINE, DRAIN, StopRequest(kind="deadline", reason="over", by=50.0)),
        (DEADLINE, LOST, StopRequest(kind="lock_lost", reason="expired", by=70.0)),
        (PAUSE, LOST, StopRequest(kind="lock_lost", reason="expired", by=60.0)),
        (None, Interrupt("drain", "r", 1000.0), StopRequest(kind="drain", reason="r", by=100.0)),
    ],
)
async def test_gravest_request_counts_until_the_nearest_time(
    hold: Hold, asked: StopRequest | None, interrupt: Interrupt | None, stop: StopRequest | None
) -> None:
    requests = Requests(hold, 100.0)
    requests.ask(asked)
    if interrupt is not None:
        hold.ask_back(interrupt)
    assert requests.stop == stop


async def test_run_without_a_ladder_has_no_deadline(hold: Hold) -> None:
    assert Requests(hold).deadline == math.inf
    assert Requests(hold).stop is None


async def test_listeners_see_each_change_until_they_leave(hold: Hold) -> None:
    requests, seen = Requests(hold), []
    leave = requests.on_change(lambda: seen.append((requests.stop, requests.checkpoint_due)))
    requests.ask(checkpoint=True)
    requests.ask(PAUSE)
    requests.decline("not now")
    assert seen == [(None, True), (PAUSE, False), (None, False)]
    leave()
    leave()
    requests.ask(DEADLINE)
    assert len(seen) == 3


async def test_listener_that_fails_or_leaves_while_told_keeps_nothing_from_others(
    hold: Hold, caplog: pytest.LogCaptureFixture
) -> None:
    requests, told = Requests(hold), []
    leaves: list[Callable[[], None]] = []

    def fails() -> None:
        leaves[0]()
        raise ValueError

    leaves.append(requests.on_change(fails))
    requests.on_change(lambda: told.append(1))
    requests.ask(PAUSE)
    requests.ask(DEADLINE)
    assert told == [1, 1]
    assert [record.message for record in caplog.records] == ["a listener to the requests of a run failed"]


@pytest.mark.parametrize(
    ("asked", "answer", "taken"),
    [
        ({}, "decline", False),  # nothing is asked
        ({"stop": PAUSE}, "decline", True),
        ({"stop": DEADLINE}, "decline", True),
        ({"stop": DEADLINE, "binding": True}, "decline", False),  # a cancellation
        ({"checkpoint": True}, "decline", True),
        ({"checkpoint": True}, "save", True),
        ({"stop": PAUSE}, "save", False),  # saved, and goes on
        ({}, "save", False),
    ],
)
async def test_answer_is_taken_where_one_is_due(hold: Hold, asked: dict[str, Any], answer: str, taken: bool) -> None:
    requests, woken = Requests(hold), []
    requests.on_answer = lambda: woken.append(1)
    requests.ask(**asked)
    before = requests.stop
    for _ in range(2):
        requests.saved() if answer == "save" else requests.decline("no")
    assert requests.answered is taken
    assert len(woken) == taken, "the second one answers nothing"
    assert requests.stop == (None if taken else before)
    assert not (taken and requests.checkpoint_due)
    requests.ask(PAUSE)
    assert not requests.answered


async def test_drain_is_not_declined(hold: Hold) -> None:
    requests = Requests(hold)
    hold.ask_back(DRAIN)
    requests.decline("busy")
    assert not requests.answered
    assert requests.stop is not None and requests.stop.kind == "drain"


async def test_reason_of_a_refusal_is_logged_as_far_as_it_is_fit_for_it(
    hold: Hold, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    requests = Requests(hold)
    requests.ask(PAUSE)
    requests.decline("\ud800\x00" + "x" * 10**6)
    (record,) = caplog.records
    assert len(record.message) < MAX_SAID + 60
    record.message.encode()
