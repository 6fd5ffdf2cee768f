"""The ladder of one execution: whose it is, what its job says, how long its lock is kept; what its context reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tasks.base import Task
from tasks.email_send import EmailSend
from tasks.tier import EnterpriseRule
from workers.broker.endings import Completed, Retry
from workers.broker.hold import Hold
from workers.contract import JobContext, retry_all
from workers.runtime import decision
from workers.runtime.context import NO_PORTS, Ports
from workers.runtime.executor import LOCK_SLACK_S, Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder, Rung
from workers.runtime.retry import RetryPolicy

pytestmark = pytest.mark.usefixtures("complaints")

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
NEVER = 3600.0

MakeHold = Callable[..., Hold]
Process = Callable[[Any, JobContext], Awaitable[Any]]


def executor(
    process: Process, *, ladder: Ladder | None = None, backoff: Any = None, ports: Ports = NO_PORTS, **more: Any
) -> Executor:
    plan = Plan(
        isolation=Inline(process),
        classify=retry_all,
        ladder=ladder or Ladder.timeout(NEVER),
        retry=RetryPolicy(),
        backoff=backoff,
    )
    limits = Limits(max_data_bytes=1000, unknown_delay_s=1, unknown_give_up_s=1)
    return Executor({"email-send": plan}, limits, ports=ports, **more)


RUN = Ladder((Rung(do="warn", at_s=50), Rung(do="stop", at_s=60, wait_s=20), Rung(do="kill")), job_may_set_s=300)
TIERED = Ladder(
    (
        Rung(do="cancel", at_s=10, tiers=frozenset(["free"])),
        Rung(do="cancel", at_s=20, tiers=frozenset(["premium", "enterprise"])),
    )
)


@pytest.mark.parametrize(
    ("ladder", "data", "opts", "cut_s"),
    [
        (Ladder.timeout(30), {}, {}, 30),
        (Ladder.timeout(30), {"timeout": 1000}, {"timeout": 600_000}, 30),  # jobs may not set theirs
        (RUN, {}, {}, 80),
        (RUN, {"timeout": 200_000}, {}, 220),
        (RUN, {"timeout": 9e15}, {}, 320),
        (RUN, {"options": {"timeout": 10_000}}, {}, 30),
        (RUN, {}, {"timeout": 10_000}, 80),  # what Node writes into every job shortens nothing
        (RUN, {}, {"timeout": 120_000}, 140),
        (RUN, {"options": {"timeout": "soon"}}, {"timeout": float("nan")}, 80),
        (TIERED, {}, {}, 10),
        (TIERED, {"userData": {"hasPremium": True}}, {}, 20),
        (TIERED, {"userData": {"isEnterprise": True}}, {}, 20),
        (TIERED, {"userData": {"hasPremium": "yes"}}, {}, 10),
    ],
)
async def test_run_has_the_ladder_of_its_tier_and_of_what_its_job_says(
    make_hold: MakeHold, ladder: Ladder, data: Any, opts: Any, cut_s: float
) -> None:
    seen: list[float] = []
    bounds: list[float] = []

    async def process(task: EmailSend, ctx: JobContext) -> Any:
        seen.append(ctx.deadline - time.monotonic())

    hold = make_hold(data={**MAIL, **data}, opts=opts)
    hold.on_bound = lambda until: bounds.append(until - time.monotonic())
    assert isinstance(await executor(process, ladder=ladder).execute(hold.job, hold), Completed)
    assert cut_s - 5 < seen[0] <= cut_s
    assert bounds[0] - seen[0] > LOCK_SLACK_S  # renewed until the last rung is over, and a little longer


@pytest.mark.parametrize(("plan", "cut_s"), [("gold", 20), ("GOLD", 10), (True, 10), (None, 10)])
async def test_who_is_an_enterprise_user_is_a_setting(make_hold: MakeHold, plan: Any, cut_s: float) -> None:
    async def process(task: EmailSend, ctx: JobContext) -> Any:
        return ctx.deadline - time.monotonic()

    hold = make_hold(data={**MAIL, "userData": {"isEnterprise": True, "creditSettings": {"plan": plan}}})
    rule = EnterpriseRule("creditSettings.plan", ("gold",))
    ending = await executor(process, ladder=TIERED, enterprise=rule).execute(hold.job, hold)
    assert isinstance(ending, Completed)
    assert cut_s - 5 < ending.result <= cut_s


@pytest.mark.parametrize("fence", [1, 2])  # a hand-back takes its start back: a later run may be the first again
async def test_later_run_gets_what_an_earlier_one_saved(
    make_hold: MakeHold, monkeypatch: pytest.MonkeyPatch, fence: int
) -> None:
    async def saved() -> Any:
        return {"step": 3}

    async def process(task: EmailSend, ctx: JobContext) -> Any:
        return ctx.restored

    hold = make_hold(data=MAIL, fence=fence)
    assert await executor(process).execute(hold.job, hold) == Completed(result=None)
    monkeypatch.setattr(hold, "restored", saved)
    assert await executor(process).execute(hold.job, hold) == Completed(result={"step": 3})


async def test_processor_reaches_the_ports_of_its_executor(make_hold: MakeHold) -> None:
    added: list[Task] = []

    async def add(task: Task, parent: Any, **how: Any) -> str:
        added.append(task)
        return "9"

    async def process(task: EmailSend, ctx: JobContext) -> Any:
        return await ctx.add(task)

    hold = make_hold(data=MAIL)
    assert await executor(process, ports=Ports(add=add)).execute(hold.job, hold) == Completed(result="9")
    assert [task.id for task in added] == ["7"]


async def test_rungs_of_the_run_are_told_and_those_of_its_back_off_are_not(
    make_hold: MakeHold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision, "STRATEGY_S", 0.01)
    told: list[str] = []

    async def process(task: EmailSend, ctx: JobContext) -> Any:
        await asyncio.Event().wait()

    async def never(failures: int, kind: str, error: Exception) -> float:
        await asyncio.Event().wait()
        return 0.0

    hold = make_hold(data=MAIL, opts={"attempts": 3, "backoff": {"type": "own", "delay": 1}})
    hold.on_rung = lambda rung, after_s, attempt: told.append(rung)
    ending = await executor(process, ladder=Ladder.timeout(0.02), backoff=never).execute(hold.job, hold)
    assert isinstance(ending, Retry)
    assert told == ["cancel"]
