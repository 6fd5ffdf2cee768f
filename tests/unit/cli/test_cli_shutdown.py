"""Signals of a process whose jobs set handlers of their own."""

from __future__ import annotations

import asyncio
import signal
from functools import partial

import pytest

from tests.conftest import wait_until
from workers.cli import shutdown
from workers.cli.shutdown import Signals


def _is(handler: object) -> bool:
    return signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.parametrize("theirs", [signal.SIG_IGN, signal.SIG_DFL, lambda number, frame: None])
async def test_handler_of_a_job_does_not_stay(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, theirs: signal.Handlers
) -> None:
    monkeypatch.setattr(shutdown, "LOOK_S", 0.01)
    before = {number: signal.getsignal(number) for number in shutdown.NUMBERS}
    seen: list[signal.Signals] = []
    signals = Signals(seen.append, lambda: None)
    try:
        for _ in range(2):
            ours = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, theirs)
            await wait_until(partial(_is, ours))
        signal.raise_signal(signal.SIGTERM)
        await wait_until(lambda: seen == [signal.SIGTERM])
        await asyncio.sleep(0.03)
    finally:
        signals.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["a job has set a handler of its own for SIGTERM; ours is back"]
