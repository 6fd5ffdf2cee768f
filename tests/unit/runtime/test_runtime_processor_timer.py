"""The timer that counts computing: it fires between two instructions, hurts nobody, and leaves the signal as it was."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.runtime.processor_timer import ProcessorTimer

DEFAULT = signal.SIG_DFL, (0.0, 0.0)


@pytest.fixture(autouse=True)
def signal_as_it_was() -> Iterator[None]:
    yield
    assert state() == DEFAULT


def state() -> tuple[Any, tuple[float, float]]:
    return signal.getsignal(signal.SIGVTALRM), signal.getitimer(signal.ITIMER_VIRTUAL)


@pytest.fixture
def make_timer() -> Iterator[Callable[..., ProcessorTimer]]:
    made: list[ProcessorTimer] = []

    def make(call: Callable[[FrameType | None], None]) -> ProcessorTimer:
        made.append(ProcessorTimer(call))
        return made[-1]

    yield make
    for timer in made:
        timer.remove()


def compute(until: Callable[[], object]) -> None:
    """Some seconds of computing at most."""
    end = time.monotonic() + 20
    while not until() and time.monotonic() < end:
        sum(range(1000))


def test_computing_is_interrupted_where_it_is(make_timer: Callable[..., ProcessorTimer]) -> None:
    seen: list[str] = []

    def call(frame: FrameType | None) -> None:
        while frame is not None:
            seen.append(frame.f_code.co_name)
            frame = frame.f_back

    timer = make_timer(call)
    assert timer.install()
    timer.arm(0.02)
    compute(lambda: seen)
    assert "compute" in seen


def test_waiting_is_not_interrupted(make_timer: Callable[..., ProcessorTimer]) -> None:
    calls: list[object] = []
    timer = make_timer(calls.append)
    assert timer.install()
    timer.arm(0.1)
    time.sleep(0.3)
    assert not calls
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0


def test_what_is_armed_anew_fires_once(make_timer: Callable[..., ProcessorTimer]) -> None:
    calls: list[object] = []
    timer = make_timer(calls.append)
    assert timer.install()
    for _ in range(5):
        timer.arm(0.02)
    compute(lambda: calls)
    start = time.process_time()
    compute(lambda: time.process_time() - start > 0.1)
    assert len(calls) == 1


def test_failure_of_what_is_called_does_not_come_out_of_the_computing(
    make_timer: Callable[..., ProcessorTimer], caplog: pytest.LogCaptureFixture
) -> None:
    def call(frame: FrameType | None) -> None:
        raise ValueError

    timer = make_timer(call)
    assert timer.install()
    timer.arm(0.02)
    compute(lambda: caplog.records)
    assert [record.message for record in caplog.records] == ["what the main thread is doing can't be told"]


def test_signal_that_somebody_uses_is_left_to_them(make_timer: Callable[..., ProcessorTimer]) -> None:
    mine: list[int] = []
    signal.signal(signal.SIGVTALRM, lambda number, frame: mine.append(number))
    try:
        timer = make_timer(lambda frame: None)
        assert not timer.install()
        timer.arm(1.0)
        timer.remove()
        assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
        signal.raise_signal(signal.SIGVTALRM)
        assert mine == [signal.SIGVTALRM]
    finally:
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)


def test_signal_that_a_job_takes_later_is_left_to_it(make_timer: Callable[..., ProcessorTimer]) -> None:
    timer = make_timer(lambda frame: None)
    assert timer.install()
    signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_VIRTUAL, 50.0)
    try:
        timer.arm(1.0)
        timer.remove()
        assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_IGN
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 1.0
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)


async def test_loop_of_another_thread_has_no_timer(make_timer: Callable[..., ProcessorTimer]) -> None:
    timer = make_timer(lambda frame: None)
    assert not await asyncio.to_thread(timer.install)


async def test_loop_that_handles_signals_goes_on(make_timer: Callable[..., ProcessorTimer]) -> None:
    """asyncio hears of every signal once it handles one."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    calls: list[object] = []
    loop.add_signal_handler(signal.SIGUSR2, heard.set)
    try:
        timer = make_timer(calls.append)
        assert timer.install()
        timer.arm(0.02)
        compute(lambda: calls)
        signal.raise_signal(signal.SIGUSR2)
        await wait_until(heard.is_set)
    finally:
        loop.remove_signal_handler(signal.SIGUSR2)


def test_removed_twice_is_legal(make_timer: Callable[..., ProcessorTimer]) -> None:
    timer = make_timer(lambda frame: None)
    timer.remove()
    assert timer.install()
    timer.arm(5.0)
    timer.remove()
    timer.remove()
    timer.arm(5.0)
    assert state() == DEFAULT


def test_signal_whose_default_a_job_restores_ends_nothing(make_timer: Callable[..., ProcessorTimer]) -> None:
    timer = make_timer(lambda frame: None)
    assert timer.install()
    timer.arm(50.0)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    timer.arm(50.0)
    assert state() == DEFAULT


#: The interpreter takes its handlers back before it is done; what it computes then takes longer than the timer.
ENDS = """
import sys
from workers.runtime.processor_timer import ProcessorTimer

class Long:
    def __del__(self, monotonic=__import__("time").process_time):
        end = monotonic() + 0.3
        while monotonic() < end: pass

timer = ProcessorTimer(lambda frame: timer.arm(0.02))
assert timer.install()
timer.arm(0.02)
kept = Long()
kept.itself = kept
sys.exit(3)
"""


def test_interpreter_that_ends_without_removing_it_is_not_killed_by_it() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (3, "")
