"""Who may add to a queue: refused when it is full, refused at once when that can't be told, asked once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.conftest import wait_until
from workers.broker.stats import QueueStats, StatsReader
from workers.queue_service import Admission, Limits, QueueFull, QueueServiceError, QueueUnavailableError
from workers.queue_service.admission import FRESH_S, WINDOW_S


class Reader:
    """Queues of so many waiting jobs, or a failure; waits for `gate` where there is one."""

    def __init__(self, **waiting: int) -> None:
        self.waiting = waiting
        self.error: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.reads: list[list[str]] = []
        self.rates: dict[str, int] = {}

    async def read(self, queues: Iterable[str]) -> dict[str, QueueStats]:
        self.reads.append(list(queues))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {queue: QueueStats(queue=queue, waiting=self.waiting.get(queue, 0)) for queue in queues}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


Make = Callable[..., Admission]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Make:
    def make(reader: Reader, *, timeout_s: float = 5.0, **limits: Limits) -> Admission:
        return Admission(cast(StatsReader, reader), limits, timeout_s=timeout_s, clock=clock)

    return make


TEN = Limits(depth=10)


async def test_queue_below_its_limit_takes_more(make: Make) -> None:
    reader = Reader(mail=9)
    await make(reader, mail=TEN).admit("mail")
    assert reader.reads == [["mail"]]


async def test_full_queue_refuses_with_its_limit_the_figure_and_a_time(make: Make) -> None:
    with pytest.raises(QueueFull) as refused:
        await make(Reader(mail=12_000), mail=Limits(depth=10_000)).admit("mail")
    error = refused.value
    assert str(error) == (
        "queue mail is full: 12,000 waiting, limit 10,000 (queues.mail.limits.depth); try again in 30 s"
    )
    assert (error.queue, error.reason, error.limit, error.retry_after_s) == (
        "mail", "12,000 waiting, limit 10,000", "depth", 30.0,
    )  # fmt: skip
    assert isinstance(error, QueueServiceError)


async def test_queue_without_limits_is_not_looked_at(make: Make) -> None:
    reader = Reader(mail=10**9)
    service = make(reader, mail=Limits(), other=TEN)
    await service.admit("mail")
    await service.admit("nobody-knows-it")
    assert reader.reads == []


async def test_one_look_a_second_serves_all_callers_and_queues(make: Make, clock: Clock) -> None:
    reader = Reader(a=1, b=99)
    service = make(reader, a=TEN, b=TEN)
    for _ in range(50):
        await service.admit("a")
        with pytest.raises(QueueFull):
            await service.admit("b")
    assert len(reader.reads) == 1
    clock.now += FRESH_S
    reader.waiting["a"] = 10
    with pytest.raises(QueueFull):
        await service.admit("a")
    assert len(reader.reads) == 2


async def test_callers_at_the_same_time_share_one_look(make: Make) -> None:
    reader = Reader(mail=10)
    reader.gate = asyncio.Event()
    service = make(reader, mail=TEN)
    callers = [asyncio.create_task(service.admit("mail")) for _ in range(20)]
    await wait_until(lambda: reader.reads)
    callers[0].cancel()  # leaves the look to the others
    await asyncio.wait({callers[0]})
    reader.gate.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, QueueFull) for answer in answers[1:])
    assert len(reader.reads) == 1


async def test_redis_that_is_away_refuses_and_is_not_asked_again_at_once(make: Make, clock: Clock) -> None:
    reader = Reader(mail=1)
    reader.error = RedisConnectionError("127.0.0.1:6379 refused")
    service = make(reader, mail=TEN)
    for _ in range(10):
        with pytest.raises(QueueUnavailableError, match=r"queue mail: .* 127\.0\.0\.1:6379 refused \(redis\.url\)"):
            await service.admit("mail")
    assert len(reader.reads) == 1
    reader.error = None
    clock.now += FRESH_S
    await service.admit("mail")


async def test_redis_that_hangs_refuses_in_time(make: Make) -> None:
    reader = Reader(mail=1)
    reader.gate = asyncio.Event()
    with pytest.raises(QueueUnavailableError, match=r"no answer within 0\.05 s"):
        await make(reader, timeout_s=0.05, mail=TEN).admit("mail")


async def test_state_outlives_a_look_that_failed(make: Make, clock: Clock) -> None:
    reader = Reader(mail=10)
    service = make(reader, mail=TEN)
    assert service.state("mail") is None and service.states() == {}
    assert await service.refresh() is None
    seen = service.state("mail")
    assert seen is not None and seen.pressure.full and (seen.stats.waiting, seen.at) == (10, 1000.0)
    reader.error = OSError(113, "No route to host")
    clock.now += 5
    assert await service.refresh() == "[Errno 113] No route to host"
    assert service.states() == {"mail": seen}


async def test_defect_in_the_reader_is_a_refusal_too(make: Make) -> None:
    reader = Reader()
    reader.error = ZeroDivisionError("oops")
    with pytest.raises(QueueUnavailableError, match="oops"):
        await make(reader, mail=TEN).admit("mail")


async def test_queue_stays_full_until_it_has_eased_and_says_when(make: Make, clock: Clock) -> None:
    reader = Reader(mail=120)
    service = make(reader, mail=Limits(depth=100))
    await service.refresh()
    for waiting, full, wait_s in ((110, True, 10.0), (100, True, 5.0), (95, True, 3.0), (89, False, 0.0)):
        clock.now += 5
        reader.waiting["mail"] = waiting
        await service.refresh()
        state = service.state("mail")
        assert state is not None
        assert state.pressure.full is full
        assert state.pressure.retry_after_s == pytest.approx(wait_s)


async def test_rate_is_that_of_the_last_minute(make: Make, clock: Clock) -> None:
    reader = Reader(mail=1_000_000)
    service = make(reader, mail=Limits(depth=100))
    await service.refresh()
    clock.now += WINDOW_S + 1
    for waiting in (190, 180):
        reader.waiting["mail"] = waiting
        await service.refresh()
        clock.now += 10
    state = service.state("mail")
    assert state is not None and state.pressure.retry_after_s == pytest.approx((180 - 90) / 1.0)


async def test_new_limits_count_from_the_next_look_on(make: Make, clock: Clock) -> None:
    reader = Reader(mail=10, other=10)
    service = make(reader, mail=TEN, old=TEN)
    with pytest.raises(QueueFull):
        await service.admit("mail")
    service.adopt({"mail": Limits(depth=20), "other": TEN}, {"mail": 3})
    assert reader.rates == {"mail": 3}
    assert service.states().keys() == {"mail"}
    clock.now += FRESH_S
    await service.admit("mail")
    await service.admit("old")
    with pytest.raises(QueueFull):
        await service.admit("other")


async def test_queue_that_is_dropped_during_a_look_stays_so(make: Make) -> None:
    reader = Reader(mail=10)
    reader.gate = asyncio.Event()
    service = make(reader, mail=TEN)
    look = asyncio.create_task(service.refresh())
    await wait_until(lambda: reader.reads)
    service.adopt({}, {})
    reader.gate.set()
    assert await look is None and service.states() == {}


async def test_close_ends_a_look_that_hangs_and_is_legal_at_any_time(make: Make) -> None:
    reader = Reader(mail=1)
    service = make(reader, mail=TEN)
    await service.close()
    reader.gate = asyncio.Event()
    caller = asyncio.create_task(service.admit("mail"))
    await wait_until(lambda: reader.reads)
    await service.close()
    await service.close()
    with pytest.raises(QueueUnavailableError, match="given up"):
        await caller


async def test_service_is_made_without_a_loop_or_a_connection() -> None:
    service: Any = await asyncio.to_thread(lambda: Admission(cast(StatsReader, Reader()), {"q": TEN}, timeout_s=1.0))
    await service.admit("q")
