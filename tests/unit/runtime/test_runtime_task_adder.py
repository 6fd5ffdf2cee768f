"""Where a task's job goes, as what, and which refusals are for ever."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from config.schema import FleetConfig
from tasks.base import Task
from tasks.email_send import EmailSend
from workers.broker.client import NotSentError, ReplyLostError
from workers.broker.hold import Parent
from workers.broker.producer import AddRefusedError
from workers.contract import PermanentError, TransientError
from workers.runtime.task_adder import TaskAdder, job_id, routes

DAY = {"age": 86_400, "count": 5000}
PARENT = Parent("p", "bull:parents")


class Wave(Task):
    type: Literal["wave"] = "wave"


def config(**queues: dict[str, Any]) -> FleetConfig:
    entries = {
        name.replace("_", "-"): {"pool": "p", "concurrency": 1, **entry, "task": {"timeout": "1s", **entry["task"]}}
        for name, entry in queues.items()
    }
    return FleetConfig.model_validate({"pools": {"p": {}}, "queues": entries})


class Redis:
    """Takes jobs, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.added: list[tuple[Any, ...]] = []

    async def add(self, *job: Any) -> str:
        self.added.append(job)
        if self.error is not None:
            raise self.error
        return str(job[3].get("jobId", "1"))


def mail(**fields: Any) -> EmailSend:
    return EmailSend(**{"id": "a7", "to": ["a@example.com"], "subject": "s", "text": "t", **fields})


def adder(redis: Redis, **entry: Any) -> TaskAdder:
    return TaskAdder(redis.add, routes(config(email_send={"task": {}, **entry})))


# ----------------------------------------------------------------------- routes


@pytest.mark.parametrize(
    ("retry", "written"),
    [
        ({}, {"attempts": 1}),
        ("never", {"attempts": 1}),
        ({"attempts": 3, "backoff": "2s"}, {"attempts": 3, "backoff": {"type": "fixed", "delay": 2000}}),
        ({"backoff": "10s x2"}, {"attempts": 1, "backoff": {"type": "exponential", "delay": 10_000}}),
        (
            {"backoff": "1s x2", "jitter": "20%"},
            {"attempts": 1, "backoff": {"type": "exponential", "delay": 1000, "jitter": 0.2}},
        ),
        ({"attempts": 2, "backoff": "2s x3"}, {"attempts": 2}),
        ({"attempts": 2, "backoff": "2s x2 max 5m"}, {"attempts": 2}),
        ({"attempts": 2, "backoff": "none", "jitter": "20%"}, {"attempts": 2}),
    ],
)
def test_job_carries_what_its_queue_does_about_failures_where_bullmq_has_words(
    retry: Any, written: dict[str, Any]
) -> None:
    route = routes(config(wave={"task": {"retry": retry}}))["wave"]
    assert route.options == {**written, "removeOnComplete": DAY, "removeOnFail": DAY}


@pytest.mark.parametrize(
    ("keep", "written"), [("none", True), ("forever", False), ("1h", {"age": 3600}), (7, {"count": 7})]
)
def test_job_carries_how_long_its_queue_keeps_it(keep: Any, written: Any) -> None:
    route = routes(config(wave={"task": {}, "keep": {"completed": keep, "failed": keep}}))["wave"]
    assert (route.options["removeOnComplete"], route.options["removeOnFail"]) == (written, written)


@pytest.mark.parametrize(
    ("task_id", "own", "child"),
    [
        ("614402200001001", "task-614402200001001", "task-614402200001001"),
        ("0", "task-0", "task-0"),
        ("-5", "task--5", "task--5"),
        ("q9w8e7r6t5y4", "q9w8e7r6t5y4", "q9w8e7r6t5y4"),
        ("k3j9x0ab12cd:reset-password", "k3j9x0ab12cd:reset-password", "k3j9x0ab12cd-reset-password"),
        ("0:1", "0:1", "0-1"),
        ("7\n", "7\n", "7\n"),
        ("٧", "٧", "٧"),
        ("", "", ""),
    ],
)
def test_job_is_named_as_nodes_producers_name_it(task_id: str, own: str, child: str) -> None:
    assert job_id(task_id) == own
    assert job_id(task_id, child=True) == child


# ----------------------------------------------------------------------- adding


async def test_task_becomes_a_job_of_the_queue_of_its_type() -> None:
    redis = Redis()
    assert await adder(redis)(mail(user_id="8")) == "a7"
    data = {"type": "email-send", "id": "a7", "userId": "8", "to": ["a@example.com"], "subject": "s", "text": "t"}
    options = {"attempts": 1, "removeOnComplete": DAY, "removeOnFail": DAY, "jobId": "a7"}
    assert redis.added == [("email-send", "email-send", data, options, None)]


async def test_child_is_told_its_parent() -> None:
    redis = Redis()
    assert await adder(redis)(mail(id="a:7"), PARENT) == "a-7"
    assert redis.added[0][4] == PARENT


async def test_name_of_the_job_may_be_chosen() -> None:
    redis = Redis()
    assert await adder(redis)(mail(), as_job="failed-1") == "failed-1"


async def test_task_without_an_id_gets_the_counters() -> None:
    redis = Redis()
    assert await adder(redis)(mail(id="")) == "1"
    assert "jobId" not in redis.added[0][3]


async def test_options_of_one_job_are_not_those_of_the_next() -> None:
    redis = Redis()
    add = adder(redis)
    await add(mail())
    await add(mail(id=""))
    assert "jobId" not in redis.added[1][3]


@pytest.mark.parametrize(
    ("task", "refusal"),
    [
        (Wave(id="1"), "no queue carries task type 'wave': set queues.wave"),
        (Task(id="1", type="x" * 1000), f"no queue carries task type '{'x' * 100}': set queues.{'x' * 100}"),
        ({"type": "email-send"}, "a task is added, not a dict"),
        (None, "a task is added, not a NoneType"),
        (mail(text="x" * 300), "a task of type 'email-send' has 378 bytes, more than the 200 that queue email-send"),
        (mail(text="é" * 30), "a task of type 'email-send' has 258 bytes"),
        (mail(extra=float("nan")), "a task of type 'email-send' is no JSON: Out of range float values"),
        (mail(extra={1, 2}), "a task of type 'email-send' is no JSON: Object of type set"),
        (mail(extra=b"x"), "a task of type 'email-send' is no JSON: Object of type bytes"),
    ],
    ids=lambda value: "",
)
async def test_task_that_can_never_be_added_is_refused_with_the_reason(task: Any, refusal: str) -> None:
    redis = Redis()
    with pytest.raises(PermanentError) as refused:
        await adder(redis, max_data=200)(task)
    assert str(refused.value).startswith(refusal)
    assert redis.added == []


async def test_task_nested_too_deeply_is_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PermanentError, match="is no JSON"):
        await adder(Redis())(mail().model_copy(update={"html": deep}))


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (NotSentError("refused"), TransientError, "a job could not be added to queue email-send: refused"),
        (ReplyLostError("timed out", 7), TransientError, "a job could not be added to queue email-send: timed out"),
        (OSError("no route"), TransientError, "a job could not be added to queue email-send: no route"),
        (AddRefusedError("no parent"), PermanentError, "queue email-send takes no such job: no parent"),
    ],
)
async def test_refusal_is_for_ever_and_an_outage_is_not(error: Exception, raised: type[Exception], words: str) -> None:
    with pytest.raises(raised) as failed:
        await adder(Redis(error))(mail())
    assert str(failed.value) == words
