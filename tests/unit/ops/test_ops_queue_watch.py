"""The watch over the queues lives as a Service does, through outages, and ends in time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import cast

import pytest

from tests.conftest import wait_until
from tests.unit.ops.service_contract import RULES, Rule, name
from workers.broker.stats import QueueStats, StatsReader
from workers.ops.queue_watch import QueueWatch
from workers.queue_service import Admission, Limits


class Reader:
    """One queue; fails or hangs when told to."""

    def __init__(self) -> None:
        self.reads = 0
        self.error: Exception | None = None
        self.hangs = False
        self.ended = 0

    async def read(self, queues: Iterable[str]) -> dict[str, QueueStats]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        try:
            if self.hangs:
                await asyncio.Event().wait()
        finally:
            self.ended += 1
        return {queue: QueueStats(queue=queue, waiting=self.reads) for queue in queues}


class Watch:
    """A watch and what it works with."""

    def __init__(self, close: Callable[[], None] = lambda: None) -> None:
        self.reader = Reader()
        self.closed = 0
        self.queues = Admission(cast(StatsReader, self.reader), {"mail": Limits(depth=10)}, timeout_s=60)

        async def closing() -> None:
            self.closed += 1
            close()

        self.watch = QueueWatch(self.queues, close=closing, every_s=0.01)


@pytest.mark.parametrize("rule", RULES, ids=name)
async def test_it_is_a_service(rule: Rule) -> None:
    await rule(lambda: Watch().watch)


async def test_states_are_kept_recent_until_it_stops() -> None:
    made = Watch()
    await made.watch.start()
    await wait_until(lambda: made.reader.reads >= 3)
    assert made.watch.health().detail == "1 queues seen"
    await made.watch.stop(by=time.monotonic() + 5)
    reads = made.reader.reads
    state = made.queues.state("mail")
    assert state is not None and state.stats.waiting == reads
    assert made.closed == 1 and made.reader.ended == reads


async def test_outage_is_said_once_and_outlived(caplog: pytest.LogCaptureFixture) -> None:
    made = Watch()
    made.reader.error = ConnectionError("refused")
    with caplog.at_level(logging.INFO):
        await made.watch.start()
        await wait_until(lambda: made.reader.reads >= 4)
        assert made.watch.health().ok and made.watch.health().detail == "refused"
        made.reader.error = None
        await wait_until(lambda: made.queues.state("mail"))
        await wait_until(lambda: "told again" in caplog.text)
        await made.watch.stop(by=time.monotonic() + 5)
    said = [record.message for record in caplog.records if record.name.endswith("queue_watch")]
    assert said == [
        "it can't be told how much waits: refused; looking again every 0.01 s",
        "it can be told again how much waits",
    ]


async def test_look_that_hangs_does_not_delay_the_end() -> None:
    made = Watch()
    made.reader.hangs = True
    await made.watch.start()
    await wait_until(lambda: made.reader.reads == 1)
    async with asyncio.timeout(20):
        await made.watch.stop(by=time.monotonic() + 10)
    assert made.reader.ended == 1 and made.closed == 1


async def test_connection_is_closed_even_if_it_was_never_started() -> None:
    made = Watch()
    await made.watch.stop(by=time.monotonic() + 5)
    await made.watch.stop(by=time.monotonic() + 5)
    assert made.closed == 1


async def test_connection_that_does_not_close_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    def close() -> None:
        raise OSError("stuck")

    made = Watch(close)
    await made.watch.start()
    await made.watch.stop(by=time.monotonic() + 5)
    assert "the queue watch's connection did not close: stuck" in caplog.text
