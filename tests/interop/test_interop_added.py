"""Jobs that our runs add, seen and worked by Node: children of a job of ours, and notes in its producers' words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from config.schema import FleetConfig
from tasks.base import Task
from tasks.email_send import EmailSend
from tasks.notification_create import NotificationCreate
from tests.conftest import MakeWorker, wait_until
from tests.interop.bridge import Js
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted, JobDelayed
from workers.broker.producer import JobAdder
from workers.contract import JobContext, WaitForChildren, retry_all
from workers.queue_service.adding import Adding
from workers.queue_service.routes import Routes
from workers.runtime.context import Ports
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy
from workers.runtime.task_adder import TaskAdder

pytestmark = pytest.mark.node

MAIL = {"type": "email-send", "id": "p", "to": ["a@example.com"], "subject": "S", "text": "T"}


def config() -> FleetConfig:
    task = {"timeout": "1s", "retry": {"attempts": 2, "backoff": "50ms x2"}}
    names = ("email-send", "kids", "notification-create")
    queues = {name: {"pool": "p", "concurrency": 1, "task": task} for name in names}
    return FleetConfig.model_validate({"pools": {"p": {}}, "queues": queues})


@pytest.fixture
async def add(endpoint: Endpoint) -> AsyncIterator[TaskAdder]:
    client = endpoint.commands()
    yield TaskAdder(Adding(JobAdder(client, endpoint.prefix), Routes.of(config())))
    await client.aclose()


async def test_parent_of_ours_waits_for_the_child_it_added_which_node_works(
    js: Js, make_worker: MakeWorker, add: TaskAdder, prefix: str
) -> None:
    async def parent(task: EmailSend, ctx: JobContext) -> Any:
        if values := await ctx.children_values():
            return values
        for name, do in (("a", [["return", 7]]), ("k:b", [["fail_times", 1], ["return", "late"]])):
            await ctx.add(Task.model_validate({"type": "kids", "id": name, "do": do}), child=True)
        return WaitForChildren()

    plan = Plan(isolation=Inline(parent), classify=retry_all, ladder=Ladder.timeout(60), retry=RetryPolicy(attempts=1))
    limits = Limits(max_data_bytes=10_000, unknown_delay_s=1, unknown_give_up_s=1)
    execute = Executor({"email-send": plan}, limits, ports=Ports(add=add)).execute
    made = await make_worker(execute, queue="email-send")
    await js.queue("email-send", "add", "email-send", MAIL, {"jobId": "p"})
    await wait_until(lambda: made.of(JobDelayed))
    tree = await js.flow("getFlow", {"id": "p", "queueName": "email-send"})
    assert sorted(child["job"]["id"] for child in tree["children"]) == ["a", "k-b"]
    await js.work("kids")
    await wait_until(lambda: made.of(JobCompleted))
    values = {f"{prefix}:kids:a": 7, f"{prefix}:kids:k-b": "late"}
    assert await js.wait("email-send", "p") == {"result": values}
    assert await js.job("email-send", "p", "getChildrenValues") == values


async def test_node_reads_what_is_added_as_its_own(js: Js, add: TaskAdder) -> None:
    task = NotificationCreate(id="614402200000777", user_id="8", category="Run", title="T", send_web_socket_event=True)
    assert await add(task) == "task-614402200000777"
    job = await js.job("notification-create", "task-614402200000777")
    assert (job["name"], job["data"]) == (
        "notification-create",
        {
            "type": "notification-create",
            "id": "614402200000777",
            "userId": "8",
            "category": "Run",
            "title": "T",
            "sendWebSocketEvent": True,
        },
    )
    assert job["opts"]["attempts"] == 2
    assert job["opts"]["backoff"] == {"type": "exponential", "delay": 50}
    assert job["opts"]["removeOnFail"] == {"age": 86_400, "count": 5000}
