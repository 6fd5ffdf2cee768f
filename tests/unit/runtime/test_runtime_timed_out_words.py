"""What the failure of a run that timed out says: after how long, at which rung, and how far it had come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON
from workers.broker.endings import Failed
from workers.broker.hold import Hold
from workers.contract import retry_all
from workers.runtime.decision import Decision
from workers.runtime.retry import RetryPolicy
from workers.runtime.run_end import TimedOut

DEFAULT = TimedOut(30.0, False, "cancel")


async def words(end: TimedOut, progress: Any = None) -> str:
    hold = Hold(Activation(queue="q", id="1", token="t"), None, lambda *error: None)  # type: ignore[arg-type]
    hold.last_progress = progress
    ending = await Decision(retry_all, None, RetryPolicy(), lambda: 0.5).ending(end, hold.job, hold)
    assert isinstance(ending, Failed)
    assert (ending.error, ending.failure) == ("Timeout", "timed-out")
    return ending.reason


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (DEFAULT, "timed out after 30 s at rung cancel"),
        (TimedOut(0.02, False, "stop"), "timed out after 0.02 s at rung stop"),
        (TimedOut(3660.25, False, "kill"), "timed out after 3660.2 s at rung kill"),
        (TimedOut(86400.0, False, "stop"), "timed out after 86400 s at rung stop"),
        (
            TimedOut(35.0, True, "kill"),
            "timed out after 35 s at rung kill; it ignored its cancellation and may still be running",
        ),
    ],
)
async def test_time_and_rung_are_said(end: TimedOut, said: str) -> None:
    assert await words(end) == said


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (40, "40"),
        (0, "0"),
        (0.5, "0.5"),
        ({"status": "processing", "progress": 0.4, "currentStep": "fetch"},
         'progress 0.4, status "processing", currentStep "fetch"'),
        ({"progress": 40, "token": "hunter2"}, "progress 40"),
        ({"token": "hunter2"}, "an object"),
        ({}, "an object"),
        ({"status": {"deep": 1}, "currentStep": None}, "an object"),
        ({"status": True}, "status true"),
        ({"status": 'a "b"\n\x00\ud800é'}, 'status "a \\"b\\"\\n\\u0000\\ud800\\u00e9"'),
        (10**400, "1" + "0" * 58 + "…"),
        ({"currentStep": "x" * 10**6}, 'currentStep "' + "x" * 58 + "…"),
    ],
)  # fmt: skip
async def test_last_progress_is_said_as_far_as_it_is_known_to_be_harmless(progress: Any, said: str) -> None:
    assert await words(DEFAULT, progress) == f"timed out after 30 s at rung cancel (last progress: {said})"


async def test_run_that_said_nothing_of_its_progress_has_none() -> None:
    assert "progress" not in await words(DEFAULT)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=99),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "progress", "currentStep", "x"]), inner, max_size=4)
    ),
)


@given(anything)
async def test_whatever_a_run_said_the_words_are_short_and_of_one_line(progress: Any) -> None:
    said = await words(DEFAULT, progress)
    assert len(said) <= min(MAX_REASON, 400)
    assert said.isprintable() and said.isascii() is ("…" not in said)
