"""A module's own back-off: asked where BullMQ's are none, and whatever it does the job gets its ending."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from workers.broker.endings import Failed, Retry
from workers.broker.hold import Hold, Interrupt
from workers.contract import PermanentError, Verdict
from workers.runtime import decision as deciding
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy

pytestmark = pytest.mark.usefixtures("complaints")

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
CUSTOM = {"attempts": 5, "backoff": {"type": "quadratic", "delay": 7}}

Fails = Callable[..., Awaitable[Any]]


@pytest.fixture
def fail(make_hold: Callable[..., Hold]) -> Fails:
    """One run that fails with this error, and what follows."""

    def run(
        strategy: Any,
        *,
        opts: Any = CUSTOM,
        error: Exception | None = None,
        hold: dict[str, Any] | None = None,
        interrupt: Interrupt | None = None,
        **policy: Any,
    ) -> Awaitable[Any]:
        async def process(task: Any, ctx: Any) -> Any:
            if interrupt is not None:
                held.ask_back(interrupt)
            raise error or OSError("no")

        held = make_hold(data=MAIL, opts=opts, **(hold or {}))
        plan = Plan(
            isolation=Inline(process),
            classify=lambda error: Verdict(),
            ladder=Ladder.timeout(60),
            retry=RetryPolicy(**{"attempts": 3, "delay_s": 9, **policy}),
            backoff=strategy,
        )
        limits = Limits(max_data_bytes=1000, unknown_delay_s=1, unknown_give_up_s=1)
        return Executor({"email-send": plan}, limits, draw=lambda: 0.5).execute(held.job, held)

    return run


async def test_strategy_is_told_failures_type_and_error(fail: Fails) -> None:
    asked: list[Any] = []

    def strategy(failures: int, kind: str, error: Exception) -> float:
        asked.append((failures, kind, str(error)))
        return failures**2 / 10

    ending = await fail(strategy, hold={"attempts_made": 2})
    assert asked == [(3, "quadratic", "no")]
    assert isinstance(ending, Retry) and ending.delay_ms == 900


async def test_strategy_may_be_asynchronous(fail: Fails) -> None:
    async def strategy(failures: int, kind: str, error: Exception) -> float:
        await asyncio.sleep(0)
        return 0.25

    assert (await fail(strategy)).delay_ms == 250


async def test_none_is_the_end(fail: Fails) -> None:
    ending = await fail(lambda *about: None)
    assert isinstance(ending, Failed) and (ending.reason, ending.error) == ("no", "OSError")


@pytest.mark.parametrize(
    "answer", [math.nan, math.inf, "3", True, object()], ids=["nan", "inf", "text", "bool", "object"]
)
async def test_nonsense_is_replaced_by_the_queues(fail: Fails, answer: Any) -> None:
    assert (await fail(lambda *about: answer)).delay_ms == 9000


async def test_negative_wait_is_none(fail: Fails) -> None:
    assert (await fail(lambda *about: -5)).delay_ms == 0


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError(), SystemExit(), GeneratorExit()])
async def test_strategy_that_fails_is_replaced_by_the_queues(fail: Fails, error: BaseException) -> None:
    def strategy(*about: Any) -> float:
        raise error

    assert (await fail(strategy)).delay_ms == 9000


async def test_strategy_that_hangs_is_replaced_by_the_queues(fail: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "STRATEGY_S", 0.01)

    async def strategy(*about: Any) -> float:
        await asyncio.Event().wait()
        return 1.0

    assert (await fail(strategy)).delay_ms == 9000


async def test_drain_does_not_wait_for_a_strategy(fail: Fails) -> None:
    async def strategy(*about: Any) -> float:
        await asyncio.Event().wait()
        return 1.0

    ending = await fail(strategy, interrupt=Interrupt("drain", "bye", time.monotonic(), 0.01))
    assert isinstance(ending, Retry) and ending.delay_ms == 9000


def never(*about: Any) -> float:
    raise AssertionError("must not be asked")


@pytest.mark.parametrize(
    "opts",
    [
        {"attempts": 5},
        {"attempts": 5, "backoff": 100},
        {"attempts": 5, "backoff": {"type": "fixed", "delay": 100}},
        {"attempts": 5, "backoff": {"type": "exponential"}},
        {"attempts": 5, "backoff": {"type": ["custom"]}},
        {"attempts": 5, "backoff": {"delay": 5}},
        {"attempts": 1, "backoff": {"type": "custom"}},
    ],
)
async def test_strategy_is_for_custom_types_and_further_attempts_alone(
    fail: Fails, opts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(await fail(never, opts=opts), Retry | Failed)
    assert not caplog.records, "it was asked"


async def test_strategy_is_not_asked_where_the_queues_backoff_wins_or_no_retry_helps(
    fail: Fails, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await fail(never, over_job=frozenset({"backoff"}))).delay_ms == 9000
    assert isinstance(await fail(never, error=PermanentError("gone")), Failed)
    assert not caplog.records, "it was asked"


async def test_without_a_strategy_a_custom_type_gets_the_queues_backoff(fail: Fails) -> None:
    assert (await fail(None)).delay_ms == 9000
