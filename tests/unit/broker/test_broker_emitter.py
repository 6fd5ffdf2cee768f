"""Listeners hear every event in order; one that fails, hangs or lags is counted and hurts nobody."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.broker import emitter
from workers.broker.emitter import Emitter
from workers.broker.events import Event, JobStalled


def event(number: int) -> Event:
    return JobStalled(queue="q", job_id=str(number))


def ids(events: list[Event]) -> list[str]:
    return [e.job_id for e in events if isinstance(e, JobStalled)]


def test_listeners_that_raise_are_logged_and_counted_and_the_next_one_hears(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("listener")

    heard: list[Event] = []
    emit = Emitter()
    emit.subscribe(broken)
    emit.subscribe(heard.append)
    emit(event(1))
    assert emit.failures == 1
    assert ids(heard) == ["1"]
    (record,) = caplog.records
    assert "failed on JobStalled" in record.getMessage()
    assert record.exc_info is not None and str(record.exc_info[1]) == "listener"


def test_removed_listener_hears_no_more_and_may_be_removed_twice() -> None:
    heard: list[Event] = []
    emit = Emitter()
    remove = emit.subscribe(heard.append)
    emit(event(1))
    remove()
    remove()
    emit(event(2))
    assert ids(heard) == ["1"]


def test_listener_may_remove_itself_while_it_hears() -> None:
    heard: list[Event] = []
    emit = Emitter()

    def once(event: Event) -> None:
        heard.append(event)
        remove()

    remove = emit.subscribe(once)
    emit.subscribe(heard.append)
    emit(event(1))
    emit(event(2))
    assert ids(heard) == ["1", "1", "2"]


class Object:
    def __init__(self, heard: list[Event]) -> None:
        self.heard = heard

    async def __call__(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.heard.append(event)


async def appends(heard: list[Event], event: Event) -> None:
    await asyncio.sleep(0.001 if isinstance(event, JobStalled) and event.job_id == "0" else 0)
    heard.append(event)


@pytest.mark.parametrize("kind", ["object", "partial", "lambda"])
async def test_asynchronous_listener_hears_in_order_and_close_waits_for_it(kind: str) -> None:
    heard: list[Event] = []
    listeners: dict[str, Any] = {
        "object": Object(heard),
        "partial": functools.partial(appends, heard),
        "lambda": lambda event: appends(heard, event),
    }
    emit = Emitter()
    emit.subscribe(listeners[kind])
    for number in range(50):
        emit(event(number))
    assert heard == []
    await emit.close(5)
    assert ids(heard) == [str(n) for n in range(50)]
    assert emit.failures == 0


async def test_asynchronous_listener_that_fails_or_leaks_a_cancellation_hears_the_next_event() -> None:
    heard: list[Event] = []

    async def listen(event: Event) -> None:
        if isinstance(event, JobStalled) and event.job_id == "0":
            raise ValueError
        if isinstance(event, JobStalled) and event.job_id == "1":
            raise asyncio.CancelledError
        heard.append(event)

    emit = Emitter()
    emit.subscribe(listen)
    for number in range(3):
        emit(event(number))
    await emit.close(5)
    assert ids(heard) == ["2"]
    assert emit.failures == 2


async def test_asynchronous_listener_is_idle_between_events() -> None:
    heard: list[Event] = []
    emit = Emitter()
    emit.subscribe(Object(heard))
    before = asyncio.all_tasks()
    emit(event(1))
    await wait_until(lambda: ids(heard) == ["1"])
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    emit(event(2))
    await wait_until(lambda: ids(heard) == ["1", "2"])


async def test_close_gives_up_on_a_listener_that_hangs_and_counts_what_it_missed() -> None:
    begun = asyncio.Event()

    async def hangs(event: Event) -> None:
        begun.set()
        await asyncio.Event().wait()

    emit = Emitter()
    emit.subscribe(hangs)
    emit(event(1))
    emit(event(2))
    await begun.wait()
    await emit.close(0.01)
    assert emit.failures == 1, "the second was not begun"
    assert [task for task in asyncio.all_tasks() if "catch_up" in repr(task)] == []
    emit(event(3))
    assert emit.failures == 2, "told after the end"


async def test_listener_far_behind_misses_events_with_one_line_and_hears_again_once_it_has_caught_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(emitter, "MAX_BEHIND", 3)
    heard: list[Event] = []
    go = asyncio.Event()

    async def slow(event: Event) -> None:
        await go.wait()
        heard.append(event)

    emit = Emitter()
    emit.subscribe(slow)
    with caplog.at_level(logging.ERROR):
        for number in range(10):
            emit(event(number))
    assert emit.failures == 7
    assert len(caplog.records) == 1
    go.set()
    await wait_until(lambda: ids(heard) == ["0", "1", "2"])
    emit(event(10))
    await emit.close(5)
    assert ids(heard)[-1] == "10"
    assert emit.failures == 7


async def test_removed_asynchronous_listener_ends_with_what_it_had_begun() -> None:
    ended = asyncio.Event()

    async def hangs(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    emit = Emitter()
    remove = emit.subscribe(hangs)
    emit(event(1))
    await asyncio.sleep(0)
    remove()
    await wait_until(ended.is_set)
    await emit.close(1)


def test_asynchronous_listener_without_a_running_loop_is_a_counted_failure() -> None:
    emit = Emitter()
    emit.subscribe(Object([]))
    emit(event(1))
    assert emit.failures == 1
