"""One run against its time-out, its host and its own bad manners: every way to end, and nothing left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.broker.hold import Hold, Interrupt
from workers.runtime import deadline, ladder
from workers.runtime.containment import EscapedError
from workers.runtime.deadline import drive
from workers.runtime.ladder import Climb, Ladder
from workers.runtime.run_end import Interrupted, Raised, Returned, RunEnd, TimedOut

pytestmark = pytest.mark.usefixtures("complaints")

SOON = 0.02
NEVER = 3600.0  # a test that waits for it is ended by pytest's time-out


def drain(in_s: float, cleanup_s: float = NEVER) -> Interrupt:
    return Interrupt("drain", "shutting down", time.monotonic() + in_s, cleanup_s)


def lock_lost() -> Interrupt:
    return Interrupt("lock_lost", "expired", time.monotonic(), NEVER)


def after(seconds: float) -> Climb:
    return Ladder.timeout(seconds).for_run()


async def forever() -> None:
    await asyncio.Event().wait()


class Run:
    """A run that does something when it is cancelled."""

    def __init__(self, on_cancel: Callable[[], Awaitable[Any]]) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._on_cancel = on_cancel

    async def __call__(self) -> Any:
        self.begun.set()
        try:
            await forever()
        except asyncio.CancelledError:
            self.cancelled.set()
            return await self._on_cancel()


async def returns() -> str:
    return "done after all"


async def fails() -> None:
    raise ValueError("while cleaning up")


async def gives_in() -> None:
    raise asyncio.CancelledError


class Deaf(Run):
    """A run that ignores every cancellation until it is released."""

    def __init__(self) -> None:
        super().__init__(self._go_on)
        self.released = asyncio.Event()

    async def _go_on(self) -> None:
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                continue


# ------------------------------------------------------------- ends by itself


async def test_value_is_returned(hold: Hold) -> None:
    async def run() -> int:
        await asyncio.sleep(0)
        return 42

    assert await drive(run, hold, after(NEVER)) == Returned(42)


async def test_failure_is_told_not_raised(hold: Hold) -> None:
    error = ValueError("no")

    async def run() -> None:
        raise error

    assert await drive(run, hold, after(NEVER)) == Raised(error)


class WorseError(BaseException):
    """No Exception."""


class MuteError(BaseException):
    """It can't even be printed."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SystemExit(3), "the processor raised SystemExit: 3"),
        (KeyboardInterrupt(), "the processor raised KeyboardInterrupt"),
        (GeneratorExit(), "the processor raised GeneratorExit"),
        (asyncio.CancelledError(), "the processor raised CancelledError"),
        (WorseError("bad"), "the processor raised WorseError: bad"),
        (MuteError(), "the processor raised MuteError: MuteError (its message can't be read)"),
        (BaseExceptionGroup("all", [SystemExit(1)]), "the processor raised BaseExceptionGroup: all (1 sub-exception)"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_would_end_the_loop_ends_the_run_alone(hold: Hold, error: BaseException, words: str) -> None:
    async def run() -> None:
        await asyncio.sleep(0)
        raise error

    end = await drive(run, hold, after(NEVER))
    assert isinstance(end, Raised)
    assert isinstance(end.error, EscapedError)
    assert str(end.error) == words


async def test_processor_that_is_no_coroutine_function_fails(hold: Hold) -> None:
    def raises() -> Awaitable[Any]:
        raise ValueError("at once")

    end = await drive(raises, hold, after(NEVER))
    assert isinstance(end, Raised) and str(end.error) == "at once"
    end = await drive(lambda: 5, hold, after(NEVER))  # type: ignore[arg-type, return-value]
    assert isinstance(end, Raised) and isinstance(end.error, TypeError)


async def test_tasks_that_a_run_leaves_behind_go_on(hold: Hold) -> None:
    strays: list[asyncio.Task[None]] = []
    go = asyncio.Event()

    async def stray() -> None:
        await go.wait()

    async def run() -> str:
        strays.append(asyncio.create_task(stray()))
        return "done"

    assert await drive(run, hold, after(NEVER)) == Returned("done")
    assert not strays[0].done()
    go.set()
    await strays[0]


# ------------------------------------------------------------------- time-out


async def test_time_out_cancels_and_waits_for_the_clean_up(hold: Hold) -> None:
    cleaned = False

    async def run() -> None:
        nonlocal cleaned
        try:
            await forever()
        finally:
            await asyncio.sleep(SOON)
            cleaned = True

    assert await drive(run, hold, after(SOON)) == TimedOut(SOON, abandoned=False)
    assert cleaned


async def test_run_that_is_already_over_its_time_is_cancelled_at_once(hold: Hold) -> None:
    assert await drive(forever, hold, after(1e-9)) == TimedOut(1e-9, abandoned=False)


async def test_run_that_ignores_its_cancellation_is_left_behind(hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "CLEANUP_S", SOON)
    monkeypatch.setattr(ladder, "KILL_S", SOON)
    run = Deaf()
    assert await drive(run, hold, after(SOON)) == TimedOut(2 * SOON, abandoned=True, rung="kill")
    assert len(deadline._abandoned) == 1
    run.released.set()
    await wait_until(lambda: not deadline._abandoned)


async def test_run_left_behind_may_still_fail_unheard(hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "CLEANUP_S", SOON)
    monkeypatch.setattr(ladder, "KILL_S", SOON)
    run = Deaf()

    async def fails_late() -> None:
        await run()
        raise ValueError("late")

    assert await drive(fails_late, hold, after(SOON)) == TimedOut(2 * SOON, abandoned=True, rung="kill")
    run.released.set()
    await wait_until(lambda: not deadline._abandoned)


@pytest.mark.parametrize(
    ("on_cancel", "end"),
    [
        (returns, Returned("done after all")),
        (fails, TimedOut(SOON, abandoned=False)),
        (gives_in, TimedOut(SOON, abandoned=False)),
    ],
)
async def test_timed_out_run_that_still_returns_has_succeeded(
    hold: Hold, on_cancel: Callable[[], Awaitable[Any]], end: RunEnd
) -> None:
    assert await drive(Run(on_cancel), hold, after(SOON)) == end


async def test_drain_shortens_the_clean_up_of_a_run_that_timed_out(hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "CLEANUP_S", NEVER)
    run = Deaf()
    driving = asyncio.create_task(drive(run, hold, after(SOON)))
    await run.cancelled.wait()
    hold.ask_back(drain(0, cleanup_s=SOON))
    assert await driving == TimedOut(SOON, abandoned=True)
    run.released.set()
    await wait_until(lambda: not deadline._abandoned)


async def test_lock_lost_during_the_clean_up_outranks_the_time_out(hold: Hold) -> None:
    async def loses() -> None:
        hold.ask_back(lock_lost())
        await asyncio.sleep(0)

    end = await drive(Run(loses), hold, after(SOON))
    assert isinstance(end, Interrupted)
    assert end.by.kind == "lock_lost"


# ------------------------------------------------------------------ interrupts


async def test_run_may_end_by_itself_until_the_drain_is_due(hold: Hold) -> None:
    async def run() -> str:
        await hold.interrupted.wait()
        await asyncio.sleep(SOON)
        return "in time"

    asyncio.get_running_loop().call_soon(lambda: hold.ask_back(drain(NEVER)))
    assert await drive(run, hold, after(NEVER)) == Returned("in time")


async def test_run_is_taken_back_when_the_drain_is_due(hold: Hold) -> None:
    driving = asyncio.create_task(drive(forever, hold, after(NEVER)))
    interrupt = drain(SOON)
    hold.ask_back(interrupt)
    assert await driving == Interrupted(interrupt, abandoned=False)


async def test_nearer_drain_replaces_a_later_one_and_not_the_other_way_round(hold: Hold) -> None:
    run = Run(gives_in)
    driving = asyncio.create_task(drive(run, hold, after(NEVER)))
    hold.ask_back(drain(NEVER))
    await run.begun.wait()
    near = drain(SOON)
    hold.ask_back(near)
    hold.ask_back(drain(NEVER))
    assert await driving == Interrupted(near, abandoned=False)


async def test_time_out_before_the_drain_is_due_is_a_time_out(hold: Hold) -> None:
    hold.ask_back(drain(NEVER))
    assert await drive(forever, hold, after(SOON)) == TimedOut(SOON, abandoned=False)


async def test_lock_lost_wins_over_a_drain_before_and_after_it(hold: Hold, make_hold: Callable[..., Hold]) -> None:
    for interrupts in ((drain(NEVER), lock_lost()), (lock_lost(), drain(0))):
        held = make_hold()
        for interrupt in interrupts:
            held.ask_back(interrupt)
        end = await drive(forever, held, after(NEVER))
        assert isinstance(end, Interrupted)
        assert end.by.kind == "lock_lost"


@pytest.mark.parametrize("on_cancel", [returns, fails, gives_in])
async def test_run_without_its_lock_has_no_result(hold: Hold, on_cancel: Callable[[], Awaitable[Any]]) -> None:
    run = Run(on_cancel)
    driving = asyncio.create_task(drive(run, hold, after(NEVER)))
    await run.begun.wait()
    hold.ask_back(lost := lock_lost())
    assert await driving == Interrupted(lost, abandoned=False)


@pytest.mark.parametrize(("on_cancel", "succeeds"), [(returns, True), (fails, False), (gives_in, False)])
async def test_interrupted_run_that_still_returns_has_succeeded(
    hold: Hold, on_cancel: Callable[[], Awaitable[Any]], succeeds: bool
) -> None:
    run = Run(on_cancel)
    driving = asyncio.create_task(drive(run, hold, after(NEVER)))
    await run.begun.wait()
    hold.ask_back(asked := drain(0))
    assert await driving == (Returned("done after all") if succeeds else Interrupted(asked, abandoned=False))


@pytest.mark.parametrize("interrupt", [drain, lambda _: lock_lost()])
async def test_work_that_is_interrupted_before_its_first_step_is_never_called(
    hold: Hold, interrupt: Callable[[float], Interrupt]
) -> None:
    called = False

    async def run() -> None:
        nonlocal called
        called = True

    hold.ask_back(interrupt(0))
    end = await drive(run, hold, after(NEVER))
    assert isinstance(end, Interrupted) and not end.abandoned
    assert not called


async def test_interrupted_run_that_ignores_its_cancellation_is_left_behind(hold: Hold) -> None:
    run = Deaf()
    driving = asyncio.create_task(drive(run, hold, after(NEVER)))
    await run.begun.wait()
    hold.ask_back(asked := drain(0, cleanup_s=0))
    assert await driving == Interrupted(asked, abandoned=True)
    run.released.set()
    await wait_until(lambda: not deadline._abandoned)


async def test_interrupt_from_inside_the_run_is_never_missed(hold: Hold) -> None:
    """Whatever the step at which it comes: before the driver waits, while it does, twice between two looks."""
    for steps in range(5):
        hold.interrupt = None

        async def run(steps: int = steps) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            hold.ask_back(drain(NEVER))
            hold.ask_back(drain(0))
            await forever()

        assert isinstance(await drive(run, hold, after(NEVER)), Interrupted)


# --------------------------------------------------------- torn down from above


@pytest.mark.parametrize("on_cancel", [returns, fails, gives_in])
async def test_cancelled_driver_cancels_its_run_and_leaves_nothing(
    hold: Hold, on_cancel: Callable[[], Awaitable[Any]]
) -> None:
    run = Run(on_cancel)
    driving = asyncio.create_task(drive(run, hold, after(NEVER)))
    await run.begun.wait()
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    await run.cancelled.wait()
    await wait_until(lambda: not deadline._abandoned)


async def test_driver_cancelled_as_its_run_begins_leaves_nothing(hold: Hold) -> None:
    driving = asyncio.create_task(drive(forever, hold, after(NEVER)))
    await asyncio.sleep(0)
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    await wait_until(lambda: not deadline._abandoned)


async def test_driver_cancelled_during_a_clean_up_keeps_the_run_from_the_collector(
    hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "CLEANUP_S", NEVER)
    run = Deaf()
    driving = asyncio.create_task(drive(run, hold, after(SOON)))
    await run.cancelled.wait()
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    assert len(deadline._abandoned) == 1
    run.released.set()
    await wait_until(lambda: not deadline._abandoned)
