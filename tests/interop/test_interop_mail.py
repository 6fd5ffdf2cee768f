"""Node adds e-mail jobs, Fleet delivers them, Node reads what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.interop.bridge import Js
from tests.interop.conftest import Node, examples
from workers.broker.events import JobCompleted, JobRetrying
from workers.dev.catcher import MailCatcher

pytestmark = pytest.mark.node

#: What the producers of each vintage write. All have the same fields; they differ in `html`, in what else is in the
#: data, and in the options: the oldest ones nest the back-off's delay and keep a number of jobs.
VINTAGES: dict[str, dict[str, Any]] = {
    "doc": {
        "data": {"type": "email-send", "to": ["dana@example.com"], "subject": "Reset", "text": "Your code: 7f2c"},
        "opts": {
            "attempts": 3,
            "backoff": {"type": "exponential", "settings": {"delay": 2000}},
            "removeOnComplete": 100,
            "removeOnFail": 50,
        },
    },
    "old": {
        "data": {
            "type": "email-send",
            "userId": "1048576",
            "status": "Scheduled",
            "to": ["dana@example.com", "dana.alt@example.com"],
            "subject": "Reset",
            "text": "Your code: 7f2c",
            "html": "<p>Your code: <b>7f2c</b></p>",
        },
        "opts": {
            "attempts": 5,
            "backoff": {"type": "exponential", "delay": 10_000},
            "removeOnComplete": {"age": 86_400, "count": 5000},
            "removeOnFail": {"age": 86_400, "count": 5000},
        },
    },
    "code": {
        "data": {
            "type": "email-send",
            "to": ["dana@example.com"],
            "subject": "Reset",
            "text": "Your code: 7f2c",
            "html": "",
        },
        "opts": {
            "attempts": 5,
            "backoff": {"type": "exponential", "delay": 10_000},
            "removeOnComplete": {"age": 86_400, "count": 5000},
            "removeOnFail": {"age": 86_400, "count": 5000},
        },
    },
}
#: Seconds before the second attempt and each one after it, as BullMQ reckons them from the options above.
WAITS = {"doc": [2, 4], "old": [10, 20, 40, 80], "code": [10, 20, 40, 80]}


def mail(job_id: str, to: list[str], **opts: Any) -> dict[str, Any]:
    data = {"type": "email-send", "id": job_id, "to": to, "subject": f"About {job_id}", "text": "hello"}
    return {"queue": "email-send", "name": "email-send", "data": data, "opts": {"jobId": job_id, **opts}}


def of_vintage(vintage: str, job_id: str, *to: str) -> dict[str, Any]:
    """A job of that vintage for `add.mjs`."""
    job = deepcopy(VINTAGES[vintage])
    job["data"] |= {"id": job_id, **({"to": list(to)} if to else {})}
    job["opts"]["jobId"] = job_id
    return {"queue": "email-send", "name": "email-send", **job}


def stored(mails: MailCatcher) -> list[EmailMessage]:
    """The mails that arrived."""
    return [message_from_bytes(p.read_bytes(), policy=policy.default) for p in mails.directory.glob("*.eml")]


async def test_node_gets_the_result_of_its_fixtures(
    node: Node, bullmq: int, start_fleet: Callable[..., Any], mails: MailCatcher
) -> None:
    await start_fleet()
    jobs = examples("email-send")
    if bullmq == 6:  # npm bullmq 6 refuses a colon in a custom id, which 5.53.2 lets through
        for job in jobs:
            job["opts"]["jobId"] = job["opts"]["jobId"].replace(":", "-")
    lines = await node.run("add.mjs", {"bullmq": bullmq, "wait": True}, jobs)
    results = {line["id"]: line for line in lines if "status" in line}
    assert set(results) == {job["opts"]["jobId"] for job in jobs}
    for job in jobs:
        outcome = results[job["opts"]["jobId"]]
        assert outcome["status"] == "completed"
        assert outcome["result"]["success"] is True
        assert outcome["result"]["info"]["accepted"] == job["data"]["to"]
        assert outcome["result"]["info"]["rejected"] == []
    messages = stored(mails)
    assert {m["Subject"] for m in messages} == {job["data"]["subject"] for job in jobs}
    assert {m["To"] for m in messages} == {", ".join(job["data"]["to"]) for job in jobs}


async def test_node_sees_states_attempts_worker_and_reason(
    node: Node, bullmq: int, start_fleet: Callable[..., Any]
) -> None:
    await start_fleet()
    jobs = [
        mail("fine", ["a@example.com"]),
        mail("later", ["retry1@example.com"]),
        mail("never", ["bounce@example.com"]),
    ]
    jobs.append({"queue": "email-send", "name": "email-send", "data": {"type": "email-send", "id": "bad", "to": [7]}})
    await node.run("add.mjs", {"bullmq": bullmq, "wait": True}, jobs)
    lines = await node.run("getters.mjs", {"bullmq": bullmq, "queue": "email-send"})
    seen = {line["job"]["data"]["id"]: line["job"] for line in lines if "job" in line}
    assert {name: (job["state"], job["attemptsMade"]) for name, job in seen.items()} == {
        "fine": ("completed", 1),
        "later": ("completed", 2),
        "never": ("failed", 1),
        "bad": ("failed", 1),
    }
    assert "550" in seen["never"]["failedReason"]
    assert seen["never"]["stacktrace"]
    assert "data.to.0: expected a string, found 7" in seen["bad"]["failedReason"]
    assert seen["later"]["stacktrace"]
    (workers,) = [line["workers"] for line in lines if "workers" in line]
    assert any("fleet-0" in name for name in workers), "Node's getWorkers lists the worker"
    if bullmq == 6:
        assert seen["fine"]["processedBy"].startswith("fleet-0@")
    (counts,) = [line["counts"] for line in lines if "counts" in line]
    assert (counts["completed"], counts["failed"], counts["active"]) == (2, 2, 0)


async def test_node_hears_of_the_failure(node: Node, bullmq: int, start_fleet: Callable[..., Any]) -> None:
    await start_fleet()
    lines = await node.run("add.mjs", {"bullmq": bullmq, "wait": True}, [mail("x", ["bounce@example.com"])])
    assert [line["status"] for line in lines if "status" in line] == ["failed"]
    assert "550" in lines[-1]["reason"]


async def test_delay_priority_and_removal_of_node_are_honoured(
    node: Node, bullmq: int, start_fleet: Callable[..., Any]
) -> None:
    jobs = [
        mail("low", ["a@example.com"], priority=10),
        mail("high", ["a@example.com"], priority=1),
        mail("gone", ["a@example.com"], removeOnComplete=True),
        mail("in300", ["a@example.com"], delay=300),
    ]
    await node.run("add.mjs", {"bullmq": bullmq}, jobs)
    running = await start_fleet("queues.email-send.concurrency=1")

    def done() -> list[str]:
        return [event.job_id for event in running.events if isinstance(event, JobCompleted)]

    await wait_until(lambda: len(done()) == 4)
    assert [job for job in done() if job != "in300"] == ["gone", "high", "low"]
    lines = await node.run("getters.mjs", {"bullmq": bullmq, "queue": "email-send", "ids": ["gone", "in300"]})
    assert lines[0] == {"job": None, "id": "gone"}
    job = lines[1]["job"]
    assert 300 <= job["processedOn"] - job["timestamp"] < 1000  # in milliseconds, not rounded up to a second


@pytest.mark.parametrize("vintage", VINTAGES)
async def test_job_of_each_vintage_becomes_its_mail(
    node: Node, bullmq: int, start_fleet: Callable[..., Any], mails: MailCatcher, js: Js, vintage: str
) -> None:
    await start_fleet()
    job = of_vintage(vintage, "k3j9x0ab12cd")
    (_, ended) = await node.run("add.mjs", {"bullmq": bullmq, "wait": True}, [job])
    assert (ended["status"], ended["result"]["success"]) == ("completed", True)
    assert ended["result"]["info"]["accepted"] == job["data"]["to"]

    (message,) = stored(mails)
    assert (message["Subject"], message["To"]) == ("Reset", ", ".join(job["data"]["to"]))
    bodies = {part.get_content_type(): part.get_content().strip() for part in message.walk() if not part.is_multipart()}
    expected = {"text/plain": "Your code: 7f2c"}
    if job["data"].get("html"):
        expected["text/html"] = "<p>Your code: <b>7f2c</b></p>"
    assert bodies == expected

    seen = await js.job("email-send", "k3j9x0ab12cd")
    assert seen["data"] == job["data"], "nothing of it was taken away"
    assert {name: seen["opts"][name] for name in job["opts"]} == job["opts"]


@pytest.mark.parametrize("vintage", VINTAGES)
async def test_attempts_and_backoff_of_each_vintage_count_where_the_queue_does_not_overrule_them(
    node: Node, bullmq: int, start_fleet: Callable[..., Any], mails: MailCatcher, js: Js, vintage: str
) -> None:
    running = await start_fleet("queues.email-send.task.retry.over_job=[]")
    await mails.stop(by=time.monotonic() + 2)  # each attempt finds the mail server down
    await node.run("add.mjs", {"bullmq": bullmq}, [of_vintage(vintage, "k3j9x0ab12cd")])

    def waits() -> list[float]:
        return [event.delay_s for event in running.events if isinstance(event, JobRetrying)]

    for attempt, _ in enumerate(WAITS[vintage], start=1):
        await wait_until(lambda n=attempt: len(waits()) == n)  # type: ignore[misc]
        await js.job("email-send", "k3j9x0ab12cd", "promote")  # instead of waiting for so long
    ended = await js.wait("email-send", "k3j9x0ab12cd")
    assert "Connection refused" in ended["reason"]
    assert waits() == WAITS[vintage]
    seen = await js.job("email-send", "k3j9x0ab12cd")
    assert seen["attemptsMade"] == VINTAGES[vintage]["opts"]["attempts"]


async def test_number_of_jobs_that_the_oldest_vintage_keeps_is_kept(
    node: Node, bullmq: int, start_fleet: Callable[..., Any], redis: Redis, prefix: str
) -> None:
    await start_fleet()
    jobs = [of_vintage("doc", f"sent{number}") for number in range(103)]
    jobs += [of_vintage("doc", f"refused{number}", "bounce@example.com") for number in range(53)]
    lines = await node.run("add.mjs", {"bullmq": bullmq, "wait": True}, jobs)
    assert len([line for line in lines if "status" in line]) == len(jobs)
    kept = {state: await redis.zcard(f"{prefix}:email-send:{state}") for state in ("completed", "failed")}
    assert kept == {"completed": 100, "failed": 50}
    rows = [key async for key in redis.scan_iter(f"{prefix}:email-send:*[0-9]", count=1000)]
    assert len(rows) == 150
