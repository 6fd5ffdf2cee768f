"""From a task to its job: checked by what its queue accepts, named, ranked."""

from __future__ import annotations

import json
from collections import UserDict
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.schema import FleetConfig
from tasks import TASKS
from tasks.base import Task
from tasks.codec import decode, encode
from tasks.email_send import EmailSend
from tests.unit.queue_service.test_queue_routes import DAY
from workers.broker.new_job import NewJob
from workers.queue_service.add_options import DEFAULT, AddOptions
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.new_jobs import NewJobs
from workers.queue_service.routes import Routes

MAIL = {"type": "email-send", "id": "a7", "to": ["a@example.com"], "subject": "s", "text": "t"}


class Wave(Task):
    type: Literal["wave"] = "wave"
    height: int = 1


def config(tiers: Any = None, **queues: dict[str, Any]) -> FleetConfig:
    entries = {
        name.replace("_", "-"): {
            "pool": "p",
            "concurrency": 1,
            **entry,
            "task": {"timeout": "1s", **entry.get("task", {})},
        }
        for name, entry in queues.items()
    }
    return FleetConfig.model_validate({"pools": {"p": {}}, "queues": entries, "tiers": tiers or {}})


def jobs(types: Any = TASKS, **entry: Any) -> NewJobs:
    return NewJobs(Routes.of(config(email_send=entry, wave=entry)), types)


def made(given: Any, options: AddOptions = DEFAULT, *, child: bool = False, depth: int = 0, **entry: Any) -> NewJob:
    maker = jobs(**entry)
    return maker.job(maker.check(given, options, child=child), depth=depth)


def mail(**fields: Any) -> EmailSend:
    return EmailSend(**{"id": "a7", "to": ["a@example.com"], "subject": "s", "text": "t", **fields})


def nested(levels: int) -> Any:
    """Lists in lists."""
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    return deep


# ----------------------------------------------------------------------- the job


@pytest.mark.parametrize("task", [mail(user_id="8"), {**MAIL, "userId": "8"}, UserDict({**MAIL, "userId": "8"})])
def test_task_becomes_a_job_of_the_queue_of_its_type(task: Any) -> None:
    job = made(task)
    assert (job.queue, job.name, job.id, job.parent) == ("email-send", "email-send", "a7", None)
    assert json.loads(job.data) == {**MAIL, "userId": "8"}
    assert job.opts == {"attempts": 1, "removeOnComplete": DAY, "removeOnFail": DAY, "jobId": "a7"}


def test_data_go_out_as_they_were_given() -> None:
    data = {**MAIL, "odd": {"a_b": [1.5, None, {"é": "\ud800"}]}, "user_id": 7, "html": ""}
    assert json.loads(made(data).data) == data
    assert list(json.loads(made(data).data)) == list(data)


def test_what_is_said_wins_over_what_the_queue_says() -> None:
    options = AddOptions(attempts=9, delay_ms=5, raw={"removeOnFail": True, "timeout": 600_000})
    opts = made(mail(), options, task={"retry": {"attempts": 3, "backoff": "2s"}}).opts
    assert opts == {
        "attempts": 9,
        "backoff": {"type": "fixed", "delay": 2000},
        "removeOnComplete": DAY,
        "removeOnFail": True,
        "timeout": 600_000,
        "delay": 5,
        "jobId": "a7",
    }


def test_options_of_one_job_are_not_those_of_the_next() -> None:
    maker = jobs()
    first = maker.job(maker.check(mail(), AddOptions(delay_ms=5)))
    second = maker.job(maker.check(mail(id="")))
    assert "delay" in first.opts and not {"delay", "jobId"} & set(second.opts)


# --------------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("fields", "own", "child"),
    [
        ({"id": "614402200001001"}, "task-614402200001001", "task-614402200001001"),
        ({"id": "q9w8e7r6t5y4"}, "q9w8e7r6t5y4", "q9w8e7r6t5y4"),
        ({"id": "k3j9x0ab12cd:reset-password"}, "k3j9x0ab12cd:reset-password", "k3j9x0ab12cd-reset-password"),
        ({"id": "0:1"}, "task-0:1", "task-0-1"),
        ({"id": ""}, "", ""),
        ({"idempotency_key": "order:7"}, "order:7", "order-7"),
        ({"idempotency_key": "7"}, "task-7", "task-7"),
    ],
)
def test_job_is_named_as_nodes_producers_name_it(fields: dict[str, Any], own: str, child: str) -> None:
    assert (made(mail(**fields)).id, made(mail(**fields), child=True).id) == (own, child)


def test_name_of_the_job_may_be_chosen() -> None:
    assert made(mail(), AddOptions(job_id="a:b")).id == "a:b"
    assert made(mail(), AddOptions(raw={"jobId": "c"})).id == "c"
    assert made(mail(), AddOptions(job_id="d", raw={"jobId": "c"})).opts["jobId"] == "d"


def test_chosen_name_of_a_child_has_no_colon() -> None:
    with pytest.raises(InvalidRequestError, match="job_id: expected no colon in a child's id"):
        made(mail(), AddOptions(job_id="a:b"), child=True)


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
        "isNewRun": False,
        "runFrom": "RunView",
        "startedById": "3",
        "status": "Scheduled",
        "userData": USER,
    },
    "allocation": {"maxCredits": "1", "maxDurationMs": 1, "maxMemoryMB": 1, "maxConcurrentSteps": 1},
}
GOLD = {"enterprise": {"field": "creditSettings.plan", "values": ["gold"]}}


def ranked(
    task: Any, rule: str | None = None, tiers: dict[str, Any] | None = None, depth: int = 0, **options: Any
) -> int | None:
    """The priority that a task's job is added with."""
    queue = {task.type.replace("-", "_"): {"task": {} if rule is None else {"priority": rule}}}
    maker = NewJobs(Routes.of(config(tiers, **queue)))
    said: int | None = maker.job(maker.check(task, AddOptions(**options)), depth=depth).opts.get("priority")
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
def test_job_has_the_priority_of_its_types_rule(
    rule: str | None, tiers: dict[str, Any] | None, depth: int, mails: int | None, runs: int | None
) -> None:
    assert ranked(mail(), rule, tiers, depth) == mails
    assert ranked(decode(RUN), rule, tiers, depth) == runs


@pytest.mark.parametrize(("said", "found"), [(7, 7), (0, 0), (None, 75)])
def test_priority_that_is_said_wins_over_the_rule(said: int | None, found: int | None) -> None:
    assert ranked(decode(RUN), priority=said) == found


@pytest.mark.parametrize(
    ("rule", "options", "found"),
    [
        ("generic", {"urgency": "critical"}, 80),
        ("generic", {"urgency": "low"}, 125),
        ("generic", {"resource_cost": 999}, 116),
        ("generic", {"raw": {"priority": 3}}, 3),
        ("node", {"urgency": "critical"}, None),
    ],
)
def test_factors_go_into_the_generic_rule(rule: str, options: dict[str, Any], found: int | None) -> None:
    assert ranked(mail(), rule, **options) == found


def test_run_that_is_registered_comes_sooner() -> None:
    assert (ranked(decode(RUN)), ranked(decode(RUN), registered=True)) == (75, 65)


def test_task_that_is_not_what_its_type_says_is_refused_with_the_reason() -> None:
    broken = decode(RUN).model_copy(update={"input": None})
    with pytest.raises(InvalidRequestError, match="a task of type 'run-start' can't be given one: "):
        ranked(broken)


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (None, "task: a task is added, not a NoneType"),
        ("email-send", "task: a task is added, not a str"),
        ([MAIL], "task: a task is added, not a list"),
        ({}, "data.type: expected a string"),
        ({"type": 7}, "data.type: expected a string"),
        ({**MAIL, "type": "nope"}, "type: no queue carries task type 'nope': set queues.nope"),
        (Task(id="1", type="x" * 1000), f"type: no queue carries task type '{'x' * 100}'"),
        ({**MAIL, "to": "a@example.com"}, "data.to: expected a list"),
        ({**MAIL, "to": [7], "subject": None}, "data.to.0: expected a string, found 7"),
        ({"type": "wave", "id": "1"}, 'data.type: expected a task type known here, found "wave"'),
        ({**MAIL, "schemaVersion": 99}, "data.schemaVersion: expected at most 1 for email-send"),
        (mail(text="x" * 300), "data: 378 bytes, more than the 300 that queue email-send accepts (max_data)"),
        (mail(extra=float("nan")), "data: a task of type 'email-send' is no JSON: Out of range float values"),
        (mail(extra={1, 2}), "data: a task of type 'email-send' is no JSON: Object of type set"),
        ({**MAIL, "extra": b"x"}, "data: a task of type 'email-send' is no JSON: Object of type bytes"),
    ],
    ids=lambda value: "",
)
def test_task_that_can_never_be_added_is_refused_with_the_reason(task: Any, said: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        made(task, max_data=300)
    assert str(refused.value).startswith(said)


def test_own_size_limit_counts() -> None:
    assert made(mail(), AddOptions(raw={"sizeLimit": 79})).id == "a7"
    with pytest.raises(InvalidRequestError, match="data: 79 bytes, more than the 78 of its own sizeLimit"):
        made(mail(), AddOptions(raw={"sizeLimit": 78}))


@pytest.mark.parametrize(
    ("entry", "extra", "said"),
    [
        ({}, {"extra": nested(99)}, None),
        ({}, {"extra": nested(100)}, "expected at most 100 levels, found more"),
        ({"max_depth": 250}, {"extra": nested(249)}, None),
        ({"max_depth": 250}, {"extra": nested(250)}, "expected at most 250 levels, found more"),
        ({"max_chars": 100}, {}, None),
        ({"max_chars": 100}, {"text": "x" * 60}, "data: expected at most 100 characters in all, found more"),
    ],
)
@pytest.mark.parametrize("form", ["task", "data"])
def test_task_beyond_what_its_queue_accepts_is_refused(entry: Any, extra: Any, said: str | None, form: str) -> None:
    task = mail(**extra) if form == "task" else {**MAIL, **extra}
    if said is None:
        assert made(task, **entry).id == "a7"
        return
    with pytest.raises(InvalidRequestError) as refused:
        made(task, **entry)
    assert str(refused.value).endswith(said)


@pytest.mark.parametrize("form", ["task", "data"])
def test_data_that_hold_themselves_or_never_end_are_refused(form: str) -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for bad in (loop, deep):
        with pytest.raises(InvalidRequestError, match=r"is no JSON|at most 100 levels"):
            made(mail().model_copy(update={"html": bad}) if form == "task" else {**MAIL, "html": bad})


def test_task_of_a_type_without_a_model_here_is_added_as_it_is() -> None:
    assert json.loads(made(Task.model_validate({"type": "wave", "id": "w", "do": [1]})).data)["do"] == [1]
    assert json.loads(made(Wave(id="w", height=3)).data) == {"type": "wave", "id": "w", "height": 3}


def test_types_of_ones_own_modules_are_read() -> None:
    maker = jobs({**TASKS, "wave": Wave})
    assert json.loads(maker.check({"type": "wave", "id": "w", "height": 3}).data)["height"] == 3
    with pytest.raises(InvalidRequestError, match=r"data\.height: expected an integer"):
        maker.check({"type": "wave", "id": "w", "height": "high"})


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.floats(), lambda b: st.lists(b) | st.dictionaries(st.text(), b)
    )
)
def test_whatever_comes_along_is_either_refused_or_read_back_the_same(extra: Any) -> None:
    try:
        job = made({**MAIL, "extra": extra})
    except InvalidRequestError:
        return
    assert encode(decode(json.loads(job.data))) == {**MAIL, "extra": extra}
