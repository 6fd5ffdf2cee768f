"""What follows final failures: made once, added through outages, dropped aloud, and never felt by the slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import pytest
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags

from tasks.base import Task
from tasks.email_send import EmailSend
from tasks.limits import Limits
from tasks.notification_create import NotificationCreate
from tests.conftest import wait_until
from workers.broker.activation import Activation
from workers.broker.endings import Failed
from workers.broker.reconnect import Reconnect
from workers.contract import FinalFailure, OnFailed, PermanentError, TransientError
from workers.runtime import aftermath as following
from workers.runtime.aftermath import Aftermath, DroppedError
from workers.runtime.failure_note import note_job_id

NOW = 1_800_000_000.0
MAIL = {"type": "email-send", "id": "7", "userId": "8", "to": ["a@example.com"], "subject": "S", "text": "T"}
FAILED = Failed(reason="no such mailbox", error="UserError", failure="user")
TYPES: dict[str, type[Task]] = {"email-send": EmailSend}


class Wave(Task):
    type: Literal["wave"] = "wave"


class Adder:
    """Adds tasks, or fails as often as it is told to."""

    def __init__(self) -> None:
        self.added: list[tuple[Task, str]] = []
        self.tries = 0
        self.errors: list[BaseException] = []
        self.traces: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, task: Task, *, as_job: str) -> str:
        self.tries += 1
        self.traces.append(trace.get_current_span().get_span_context().trace_id)
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.added.append((task, as_job))
        return as_job


class Follow:
    """An aftermath with what it added and told."""

    def __init__(self, hook: OnFailed[Any] | None = None, describe: Callable[[str], str] = str) -> None:
        self.adder = Adder()
        self.told: list[tuple[str, BaseException, str]] = []
        self.aftermath = Aftermath(
            self.adder,
            lambda queue, error, job_id: self.told.append((queue, error, job_id)),
            describe=describe,
            reconnect=Reconnect(0.001, 0.001),
            clock=lambda: NOW,
        )
        self._tell = self.aftermath.of(TYPES, {"email-send": hook})

    def tell(self, failed: Failed = FAILED, *, span: Any = INVALID_SPAN, **job: Any) -> None:
        fields = {"queue": "email-send", "id": "j", "token": "t", "data": MAIL, "attempts_made": 2, **job}
        self._tell(Activation(**fields), failed, span)

    @property
    def tasks(self) -> list[Task]:
        return [task for task, _ in self.adder.added]


@pytest.fixture
async def follow() -> AsyncIterator[Callable[..., Follow]]:
    made: list[Follow] = []

    def make(*args: Any, **kwargs: Any) -> Follow:
        made.append(Follow(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.adder.gate.set()
        await each.aftermath.close(5.0)


Make = Callable[..., Follow]


async def test_failure_is_followed_by_a_note_to_its_user(follow: Make) -> None:
    made = follow(describe=str.upper)
    made.tell()
    await wait_until(lambda: made.adder.added)
    failure = FinalFailure(queue="email-send", job_id="j", reason=FAILED.reason, failure="user", attempts=3, at=NOW)
    (task, as_job) = made.adder.added[0]
    assert isinstance(task, NotificationCreate)
    assert (task.user_id, task.description, as_job) == ("8", "NO SUCH MAILBOX", note_job_id(failure))
    assert made.told == []


async def test_failed_job_is_read_by_the_bounds_of_its_queue(follow: Make) -> None:
    made = follow()
    deep = {**MAIL, "extra": [[[1]]]}
    for number, limits in enumerate([Limits(max_depth=3), Limits(max_depth=4)]):
        tell = made.aftermath.of(TYPES, {}, limits=limits)
        tell(Activation(queue="email-send", id=f"j{number}", token="t", data=deep), FAILED, INVALID_SPAN)
    await made.aftermath.close(20.0)
    assert len(made.adder.added) == 1


async def test_module_makes_its_own_from_task_and_failure(follow: Make) -> None:
    heard: list[Any] = []

    def hook(task: Task, failure: FinalFailure) -> Task:
        heard.append((task, failure))
        return Wave(id="w")

    made = follow(hook)
    made.tell()
    await wait_until(lambda: made.tasks == [Wave(id="w")])
    ((task, failure),) = heard
    assert isinstance(task, EmailSend)
    assert (failure.job_id, failure.attempts, failure.failure, failure.reason, failure.at) == (
        "j",
        3,
        "user",
        "no such mailbox",
        NOW,
    )


@pytest.mark.parametrize(
    "job",
    [
        {"data": {**MAIL, "userId": None}},
        {"data": {key: value for key, value in MAIL.items() if key != "userId"}},
        {"data": {**MAIL, "to": 7}},
        {"data": {**MAIL, "type": "teleport"}},
        {"data": None},
        {"data": [MAIL]},
        {"id": "failed-" + "0" * 32},
    ],
    ids=["null", "no user", "invalid", "unknown type", "nothing", "a list", "a sequel itself"],
)
async def test_nothing_follows_what_belongs_to_nobody_known(follow: Make, job: dict[str, Any]) -> None:
    made = follow()
    made.tell(**job)
    made.tell(id="other")
    await wait_until(lambda: made.adder.added)
    await made.aftermath.close(1.0)
    assert len(made.adder.added) == 1, "the other's"
    assert made.told == []


async def test_module_may_let_nothing_follow(follow: Make) -> None:
    made = follow(lambda task, failure: None)
    made.tell()
    await made.aftermath.close(1.0)
    assert (made.adder.tries, made.told) == (0, [])


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
async def test_hook_that_raises_anything_is_told_and_no_more(follow: Make, error: BaseException) -> None:
    def hook(task: Task, failure: FinalFailure) -> Task:
        raise error

    made = follow(hook)
    made.tell()
    assert made.told == [("email-send", error, "j")]


async def test_hook_that_makes_no_task_is_told(follow: Make) -> None:
    made = follow(lambda task, failure: {"type": "wave"})
    made.tell()
    assert str(made.told[0][1]) == "on_failed of a module returned a dict, neither a task nor None"


async def test_outage_is_waited_for_and_the_same_job_added_again(follow: Make) -> None:
    made = follow()
    made.adder.errors = [TransientError("away"), TransientError("away"), TransientError("busy", retry_after_s=0.002)]
    made.tell()
    made.tell(id="second")
    await wait_until(lambda: len(made.adder.added) == 2)
    assert made.adder.tries == 5
    assert made.told == []


async def test_outage_that_lasts_is_given_up_and_told(follow: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "GIVE_UP_S", 0.05)
    made = follow()
    made.adder.errors = [TransientError("away")] * 1_000_000
    made.tell()
    await wait_until(lambda: made.told)
    assert str(made.told[0][1]) == "away"
    assert made.adder.tries > 1
    made.adder.errors.clear()
    made.tell(id="later")
    await wait_until(lambda: made.adder.added)


async def test_wait_that_is_asked_for_beyond_the_end_is_not_waited_for(follow: Make) -> None:
    made = follow()
    made.adder.errors = [TransientError("full", retry_after_s=1e9)]
    made.tell()
    await wait_until(lambda: made.told)
    assert made.adder.tries == 1


@pytest.mark.parametrize("error", [PermanentError("no queue"), RuntimeError("a defect")])
async def test_what_can_never_be_added_is_told_and_the_next_one_added(follow: Make, error: Exception) -> None:
    made = follow()
    made.adder.errors = [error]
    made.tell()
    made.tell(id="second")
    await wait_until(lambda: made.adder.added)
    assert made.told == [("email-send", error, "j")]
    assert made.adder.tries == 2


async def test_only_so_many_wait(follow: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MAX_WAITING", 3)
    made = follow()
    made.adder.gate.clear()
    for number in range(5):
        made.tell(id=f"j{number}")
    assert [(type(error), job_id) for _, error, job_id in made.told] == [(DroppedError, "j3"), (DroppedError, "j4")]
    made.adder.gate.set()
    await wait_until(lambda: len(made.adder.added) == 3)


async def test_what_still_waits_at_the_end_is_dropped_aloud(follow: Make) -> None:
    made = follow()
    made.adder.gate.clear()
    made.tell(id="j0")
    made.tell(id="j1")
    await wait_until(lambda: made.adder.tries)
    await made.aftermath.close(0.01)
    made.tell(id="j2")
    assert [(str(error), job_id) for _, error, job_id in made.told] == [
        ("what follows its failure was not added: the process ends", name) for name in ("j0", "j1", "j2")
    ]
    await made.aftermath.close(0.01)
    assert len(made.told) == 3


async def test_end_waits_for_what_can_still_be_added(follow: Make) -> None:
    made = follow()
    made.adder.errors = [TransientError("away")] * 3
    for number in range(10):
        made.tell(id=f"j{number}")
    await made.aftermath.close(20.0)
    assert len(made.adder.added) == 10
    assert made.told == []


async def test_end_without_any_failure_is_none() -> None:
    await Follow().aftermath.close(0.0)


async def test_job_that_cancels_every_task_stops_nothing(follow: Make) -> None:
    made = follow()
    made.adder.gate.clear()
    made.tell()
    await wait_until(lambda: made.adder.tries == 1)
    assert made.aftermath._task is not None
    made.aftermath._task.cancel()
    await wait_until(lambda: made.adder.tries == 2)
    made.adder.gate.set()
    await wait_until(lambda: made.adder.added)


async def test_each_is_added_in_the_trace_of_its_own_job(follow: Make) -> None:
    made = follow()
    for number in (1, 2):
        context = SpanContext(number, 5, is_remote=False, trace_flags=TraceFlags(1))
        made.tell(id=f"j{number}", span=NonRecordingSpan(context))
    made.tell(id="without")
    await wait_until(lambda: len(made.adder.added) == 3)
    assert made.adder.traces == [1, 2, 0]
