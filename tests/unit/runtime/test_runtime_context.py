"""The host's side of what a processor may ask: answered by the job, its requests and the ports that there are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tasks.base import Task
from tasks.email_send import EmailSend
from workers.broker.hold import Hold, Interrupt, Parent
from workers.contract import JobContext, StopRequest, TransientError, UnavailableError
from workers.runtime.context import HostContext, Ports
from workers.runtime.isolation.call import RunContext

PAUSE = StopRequest(kind="pause", reason="long", by=60.0)
MAIL = EmailSend(id="7", to=["a@example.com"], subject="S", text="T")


class Saving(Hold):
    """A hold that notes checkpoints instead of storing them."""

    saved: Any = None
    stores = True

    async def checkpoint(self, state: Any) -> bool:
        self.saved = state
        return self.stores

    def parent(self) -> Parent:
        return Parent(self.job.id, "bull:q")


@pytest.fixture
async def saving(make_hold: Callable[..., Hold]) -> Saving:
    plain = make_hold(id="j", attempts_made=2, fence=5)
    return Saving(plain.job, None, lambda error, where, job_id: None)  # type: ignore[arg-type]


async def test_context_tells_which_run_it_is(saving: Saving) -> None:
    context: JobContext = HostContext(saving, 100.0, restored={"step": 3})
    assert (context.job_id, context.attempt, context.fence) == ("j", 3, 5)
    assert (context.deadline, context.restored, context.stop, context.checkpoint_due) == (
        100.0,
        {"step": 3},
        None,
        False,
    )
    hosts: RunContext = HostContext(saving, 100.0)
    assert hosts.restored is None


async def test_requests_are_seen_and_declined_through_the_context(saving: Saving) -> None:
    context, changes = HostContext(saving, 100.0), []
    leave = context.on_change(lambda: changes.append(context.stop))
    context.requests.ask(PAUSE)
    assert context.stop == PAUSE
    context.decline("not now")
    assert context.requests.answered
    assert changes == [PAUSE, None]
    leave()
    context.requests.ask(PAUSE)
    assert len(changes) == 2


async def test_checkpoint_answers_the_request_for_one_and_says_whether_to_yield(saving: Saving) -> None:
    context = HostContext(saving, 100.0)
    context.requests.ask(checkpoint=True)
    assert context.checkpoint_due
    assert await context.checkpoint({"step": 4}) is None
    assert saving.saved == {"step": 4}
    assert (context.requests.answered, context.checkpoint_due) == (True, False)
    context.requests.ask(PAUSE)
    assert await context.checkpoint(None) == PAUSE
    saving.ask_back(Interrupt("lock_lost", "expired", 1.0))
    stop = await context.checkpoint(None)
    assert stop is not None and stop.kind == "lock_lost"


async def test_checkpoint_that_was_not_stored_is_still_due(saving: Saving) -> None:
    saving.stores = False
    context = HostContext(saving, 100.0)
    context.requests.ask(checkpoint=True)
    await context.checkpoint({"step": 4})
    assert context.checkpoint_due and not context.requests.answered


async def test_checkpoint_that_can_not_be_one_answers_nothing(saving: Saving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(state: Any) -> bool:
        raise TypeError("no JSON")

    monkeypatch.setattr(saving, "checkpoint", refuses)
    context = HostContext(saving, 100.0)
    context.requests.ask(checkpoint=True)
    with pytest.raises(TypeError):
        await context.checkpoint({1, 2})
    assert context.checkpoint_due


async def test_tasks_are_added_as_children_where_that_is_said(saving: Saving) -> None:
    added: list[tuple[Task, Parent | None]] = []

    async def add(task: Task, parent: Parent | None) -> str:
        added.append((task, parent))
        return "9"

    context = HostContext(saving, 100.0, ports=Ports(add=add))
    assert await context.add(MAIL) == "9"
    assert await context.add(MAIL, child=True) == "9"
    assert added == [(MAIL, None), (MAIL, Parent("j", "bull:q"))]


async def test_effects_are_reserved_for_this_run(saving: Saving) -> None:
    asked: list[Any] = []

    class Noted:
        @asynccontextmanager
        async def once(self, *args: Any) -> AsyncIterator[Any]:
            asked.append(args)
            yield "effect"

    async with HostContext(saving, 100.0, ports=Ports(ledger=Noted())).once("mail:bob") as effect:
        assert str(effect) == "effect"
    assert asked == [("q", "j", 5, "mail:bob")]


async def test_what_the_fleet_does_not_have_is_said(saving: Saving) -> None:
    context = HostContext(saving, 100.0)
    with pytest.raises(UnavailableError, match="adds no jobs"):
        await context.add(MAIL)
    with pytest.raises(UnavailableError, match="ledger"):
        context.once("mail:bob")


async def test_children_that_can_not_be_read_are_worth_another_attempt(saving: Saving) -> None:
    context = HostContext(saving, 100.0)
    for read in (context.children_values, context.children_failures):
        with pytest.raises(TransientError, match="children can't be read"):
            await read()
