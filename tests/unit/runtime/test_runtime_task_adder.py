"""Where a task's job goes, as what, and which refusals are for ever."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from config.schema import FleetConfig
from tasks.base import Task
from tasks.codec import decode
from tasks.email_send import EmailSend
from workers.broker.client import NotSentError, ReplyLostError
from workers.broker.hold import Parent
from workers.broker.producer import AddRefusedError
from workers.contract import PermanentError, TransientError
from workers.runtime.task_adder import TaskAdder, routes

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


def nested(levels: int) -> Any:
    """Lists in lists."""
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    return deep


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
    ("fields", "own", "child"),
    [
        ({"id": "614402200001001"}, "task-614402200001001", "task-614402200001001"),
        ({"id": "q9w8e7r6t5y4"}, "q9w8e7r6t5y4", "q9w8e7r6t5y4"),
        ({"id": "k3j9x0ab12cd:reset-password"}, "k3j9x0ab12cd:reset-password", "k3j9x0ab12cd-reset-password"),
        ({"id": "0:1"}, "task-0:1", "task-0-1"),
        ({"idempotency_key": "order:7"}, "order:7", "order-7"),
        ({"idempotency_key": "7"}, "task-7", "task-7"),
    ],
)
async def test_job_is_named_as_nodes_producers_name_it(fields: dict[str, Any], own: str, child: str) -> None:
    add = adder(Redis())
    assert await add(mail(**fields)) == own
    assert await add(mail(**fields), PARENT) == child


# --------------------------------------------------------------------- priority

USER = {"id": "614", "hasPremium": True, "creditSettings": {"plan": "gold"}}
RUN = {
    "type": "run-start",
    "id": "r",
    "status": "Scheduled",
    "context": {"swarmId": "s", "userData": USER, "timestamp": "2026-01-01T00:00:00.000Z"},
    "input": {
        "runId": "1",
        "resourceVersionId": "2",
        "isNewRun": True,
        "runFrom": "RunView",
        "startedById": "3",
        "status": "Scheduled",
        "userData": USER,
    },
    "allocation": {"maxCredits": "1", "maxDurationMs": 1, "maxMemoryMB": 1, "maxConcurrentSteps": 1},
}
GOLD = {"enterprise": {"field": "creditSettings.plan", "values": ["gold"]}}


async def ranked(
    task: Any, rule: str | None = None, tiers: dict[str, Any] | None = None, depth: int = 0, **more: Any
) -> int | None:
    """The priority that a task's job is added with."""
    redis = Redis()
    tree = config(**{task.type: {"task": {} if rule is None else {"priority": rule}}}).model_dump()
    found = routes(FleetConfig.model_validate({**tree, "tiers": tiers or {}}))
    await TaskAdder(redis.add, found, depth=lambda queue: depth)(task, **more)
    said: int | None = redis.added[0][3].get("priority")
    return said


@pytest.mark.parametrize(
    ("rule", "tiers", "depth", "mails", "runs"),
    [
        (None, None, 0, None, 75),
        ("node", GOLD, 900, None, 75),
        ("none", None, 900, None, None),
        ("generic", None, 0, 110, 80),
        ("generic", None, 950, 119, 80),
        ("generic", GOLD, 950, 119, 40),
    ],
)
async def test_job_has_the_priority_of_its_types_rule(
    rule: str | None, tiers: dict[str, Any] | None, depth: int, mails: int | None, runs: int | None
) -> None:
    assert await ranked(mail(), rule, tiers, depth) == mails
    assert await ranked(decode(RUN), rule, tiers, depth) == runs


@pytest.mark.parametrize(("said", "found"), [(7, 7), (0, None), (None, 75)])
async def test_priority_that_is_said_wins_over_the_rule(said: int | None, found: int | None) -> None:
    assert await ranked(decode(RUN), priority=said) == found


async def test_task_that_is_not_what_its_type_says_is_refused_with_the_reason() -> None:
    broken = decode(RUN).model_copy(update={"input": None})
    with pytest.raises(PermanentError, match="a task of type 'run-start' can't be given a priority: "):
        await ranked(broken)


async def test_depth_is_asked_when_the_queue_has_been_looked_at() -> None:
    asked: list[str] = []

    async def admit(queue: str) -> None:
        asked.append(f"admit {queue}")

    def depth(queue: str) -> int:
        asked.append(f"depth {queue}")
        return 0

    found = routes(config(email_send={"task": {"priority": "generic"}}))
    await TaskAdder(Redis().add, found, admit=admit, depth=depth)(mail())
    assert asked == ["admit email-send", "depth email-send"]


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


@pytest.mark.parametrize(
    ("entry", "task", "refusal"),
    [
        ({}, mail(extra=nested(99)), None),
        ({}, mail(extra=nested(100)), "expected at most 100 levels, found more"),
        ({"max_depth": 250}, mail(extra=nested(249)), None),
        ({"max_depth": 250}, mail(extra=nested(250)), "expected at most 250 levels, found more"),
        ({"max_chars": 100}, mail(), None),
        ({"max_chars": 100}, mail(text="x" * 60), "data: expected at most 100 characters in all, found more"),
    ],
    ids=lambda value: "",
)
async def test_task_beyond_what_its_queue_accepts_is_refused(entry: Any, task: Any, refusal: str | None) -> None:
    if refusal is None:
        assert await adder(Redis(), **entry)(task) == "a7"
        return
    with pytest.raises(PermanentError) as refused:
        await adder(Redis(), **entry)(task)
    assert str(refused.value).startswith("a task of type 'email-send' is more than queue email-send accepts: data")
    assert str(refused.value).endswith(refusal)


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
