"""The port behind `ctx.add`: what it asks of the queue service, and which refusals are for ever."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tasks.email_send import EmailSend
from workers.broker.hold import Parent
from workers.broker.pressure import Pressure
from workers.contract import PermanentError, TransientError
from workers.queue_service.add_options import AddOptions
from workers.queue_service.added import Added
from workers.queue_service.errors import (
    InvalidRequestError,
    QueueFull,
    QueueUnavailableError,
    RefusedError,
    UnknownQueueError,
)
from workers.runtime.task_adder import TaskAdder

MAIL = EmailSend(id="a7", to=["a@example.com"], subject="s", text="t")
PARENT = Parent("p", "bull:parents")


class Service:
    """Takes jobs, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[Any, ...]] = []

    async def add(self, task: Any, options: AddOptions, *, parent: Parent | None = None) -> Added:
        self.asked.append((task, options, parent))
        if self.error is not None:
            raise self.error
        return Added("email-send", options.job_id or task.id, task.id)


def adder(service: Service) -> TaskAdder:
    adding: Any = service
    return TaskAdder(adding)


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ({}, AddOptions()),
        ({"as_job": "failed-1"}, AddOptions(job_id="failed-1")),
        ({"priority": 0, "urgency": "low"}, AddOptions(priority=0, urgency="low")),
        ({"delay_s": 1.5}, AddOptions(delay_ms=1500)),
        ({"delay_s": 0.0001}, AddOptions()),
    ],
)
async def test_service_is_asked_with_what_was_said(how: dict[str, Any], options: AddOptions) -> None:
    service = Service()
    assert await adder(service)(MAIL, PARENT, **how) == (options.job_id or "a7")
    assert service.asked == [(MAIL, options, PARENT)]


@pytest.mark.parametrize(
    ("error", "raised", "wait_s"),
    [
        (QueueUnavailableError("q: away"), TransientError, 1.0),
        (QueueFull("q", Pressure(True, "12 waiting", "depth", 150.0)), TransientError, 150.0),
        (InvalidRequestError("type", "no queue carries it"), PermanentError, None),
        (RefusedError("no parent"), PermanentError, None),
        (UnknownQueueError("q"), PermanentError, None),
    ],
)
async def test_refusal_is_for_ever_and_an_outage_is_not(
    error: Exception, raised: type[Exception], wait_s: float | None
) -> None:
    with pytest.raises(raised) as failed:
        await adder(Service(error))(MAIL)
    assert str(failed.value) == str(error)
    assert getattr(failed.value, "retry_after_s", None) == wait_s


@pytest.mark.parametrize("task", [{"type": "email-send"}, None, "email-send"])
async def test_only_a_task_is_added(task: Any) -> None:
    service = Service()
    with pytest.raises(PermanentError, match=f"a task is added, not a {type(task).__name__}"):
        await adder(service)(task)
    assert service.asked == []


@pytest.mark.parametrize("delay", ["5", math.nan, math.inf, [1]])
async def test_delay_is_a_number_of_seconds(delay: Any) -> None:
    with pytest.raises(PermanentError, match="delay_s: expected a number of seconds"):
        await adder(Service())(MAIL, delay_s=delay)
