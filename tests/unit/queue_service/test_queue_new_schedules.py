"""From what is asked for to the schedule that is written."""

from __future__ import annotations

from typing import Any

import pytest

from config.schema import FleetConfig
from workers.queue_service.errors import InvalidRequestError, UnknownQueueError
from workers.queue_service.new_schedules import NewSchedules
from workers.queue_service.routes import Routes
from workers.queue_service.schedule import ScheduleSpec

NOW = 1_780_000_000_000
MAIL = {"to": ["a@example.com"], "subject": "Hi", "text": "Hello"}


@pytest.fixture(scope="module")
def schedules() -> NewSchedules:
    task: dict[str, Any] = {"timeout": 1, "retry": {"attempts": 3, "backoff": "2s x2"}}
    names = ("email-send", "notification-create", "run-start")
    queues = {name: {"pool": "p", "concurrency": 1, "task": task} for name in names}
    config = FleetConfig.model_validate({"pools": {"p": {}}, "queues": queues})
    return NewSchedules(Routes.of(config), clock=lambda: NOW)


def spec(**values: Any) -> ScheduleSpec:
    times = {} if "every_ms" in values or "cron" in values else {"cron": "0 3 * * *"}
    return ScheduleSpec(**{"data": MAIL, **times, **values})


def test_jobs_are_as_if_fleet_added_each(schedules: NewSchedules) -> None:
    made = schedules.make("email-send", "s", spec(limit=5, start_ms=NOW, missed="skip", grace_ms=7, attempts=9))
    assert (made.queue, made.id, made.name) == ("email-send", "s", "email-send")
    assert made.repeat == {"pattern": "0 3 * * *", "tz": "UTC", "limit": 5, "startDate": NOW}
    assert made.data == {"type": "email-send", **MAIL}, "its id is that of each run's job"
    assert made.options == {
        "attempts": 9,
        "removeOnComplete": {"age": 86_400, "count": 5000},
        "removeOnFail": {"age": 86_400, "count": 5000},
        "backoff": {"type": "exponential", "delay": 2000},
        "fleet": {"missed": "skip", "graceMs": 7},
    }


def test_interval_has_no_zone(schedules: NewSchedules) -> None:
    assert schedules.make("email-send", "s", spec(every_ms=200, tz="Europe/Berlin")).repeat == {"every": 200}


def test_what_the_entry_says_wins_over_the_queue(schedules: NewSchedules) -> None:
    asked = spec(name="nightly", priority=7, options={"lifo": True, "removeOnFail": False})
    made = schedules.make("email-send", "s", asked)
    assert made.name == "nightly"
    assert (made.options["priority"], made.options["lifo"], made.options["removeOnFail"]) == (7, True, False)


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({"every_ms": 1000, "cron": "* * * * *"}, "cron", "expected either cron or every"),
        ({"cron": None}, "cron", "expected either cron or every"),
        ({"every_ms": 99}, "every", "expected 100 ms to ten years"),
        ({"cron": "0 3 * *"}, "cron", "expected a cron expression, minute, hour"),
        ({"cron": "* " * 200}, "cron", "expected at most 200 characters"),
        ({"tz": "Mars"}, "tz", "expected a time zone like Europe/Berlin or UTC"),
        ({"limit": 0}, "limit", "expected at least 1"),
        ({"start_ms": -1}, "start", "expected a whole number from 0 to"),
        ({"start_ms": 9, "end_ms": 9}, "end", "expected a time after start"),
        ({"start_ms": NOW, "end_ms": NOW + 1}, "end", "expected a time after the first run that follows start"),
        ({"grace_ms": -1}, "grace", "expected a whole number from 0 to"),
        ({"name": ""}, "name", "expected 1 to 256 characters"),
        ({"name": "\udcff"}, "name", "expected 1 to 256 characters"),
        ({"data": {**MAIL, "to": "a"}}, "data.to", "expected"),
        ({"data": {**MAIL, "type": "no-such"}}, "queue", "email-send carries no tasks of type 'no-such'"),
        ({"options": {"delay": 5}}, "options.delay", "expected none: use none: it is of one run"),
        ({"options": {"lifo": 1}}, "options.lifo", "expected true or false"),
        ({"attempts": -1}, "attempts", "expected a whole number"),
    ],
)
def test_what_can_not_be_is_named(schedules: NewSchedules, values: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        schedules.make("email-send", "s", spec(**values))
    assert caught.value.field == field
    assert text in str(caught.value)


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "a:b:c:d:e", "\udcff"])
def test_id_that_would_be_mistaken_is_refused(schedules: NewSchedules, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^id: "):
        schedules.make("email-send", name, spec())


def test_queue_must_be_configured(schedules: NewSchedules) -> None:
    with pytest.raises(UnknownQueueError, match="queue 'nope' is not configured"):
        schedules.make("nope", "s", spec())


def test_task_whose_id_can_not_be_that_of_a_job_is_told_so(schedules: NewSchedules) -> None:
    """A notification's is a primary key."""
    data = {"userId": "1", "category": "Run", "title": "t"}
    with pytest.raises(InvalidRequestError, match="without an `id` each run has that of its job: give one") as caught:
        schedules.make("notification-create", "s", spec(data=data))
    assert caught.value.field == "data.id"
    made = schedules.make("notification-create", "s", spec(data={**data, "id": "7"}))
    assert made.data["id"] == "7"


def test_end_that_is_over_is_no_mistake(schedules: NewSchedules) -> None:
    """Else a fleet could not start any more once a schedule has come to its end."""
    assert schedules.make("email-send", "s", spec(end_ms=NOW - 1)).repeat["endDate"] == NOW - 1
