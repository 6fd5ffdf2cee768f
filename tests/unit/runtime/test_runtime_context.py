"""The host's side of what a processor may ask: answered by the job, its requests and the ports that there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tasks.base import Task
from tasks.email_send import EmailSend
from workers.broker.hold import Hold, Interrupt, Parent
from workers.contract import JobContext, StopRequest, TransientError, UnavailableError
from workers.runtime.context import HostContext, Ports
from workers.runtime.isolation.call import RunContext

Call = Callable[[HostContext], Awaitable[Any]]

PAUSE = StopRequest(kind="pause", reason="long", by=60.0)
MAIL = EmailSend(id="7", to=["a@example.com"], subject="S", text="T")


CALLS: dict[str, Call] = {
    "progress": lambda context: context.progress(1),
    "log": lambda context: context.log("line"),
    "checkpoint": lambda context: context.checkpoint(1),
    "add": lambda context: context.add(MAIL),
    "once": lambda context: context.once("mail:bob").__aenter__(),
    "children_values": lambda context: context.children_values(),
    "children_failures": lambda context: context.children_failures(),
}


class Kept:
    """An effect that an earlier run began."""

    state, result = "unknown", {"id": 7}

    def __init__(self, asked: list[Any]) -> None:
        self._asked = asked

    async def settle(self, result: Any = None) -> None:
        self._asked.append(("settle", result))


class Saving(Hold):
    """A hold that notes checkpoints instead of storing them."""

    saved: Any = None
    stores = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.done: list[str] = []
        """Calls that came to their end."""
        self.begun = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def _answer(self, what: str) -> None:
        self.begun.set()
        await self.answers.wait()
        self.done.append(what)

    async def checkpoint(self, state: Any) -> bool:
        await self._answer("checkpoint")
        self.saved = state
        return self.stores

    async def progress(self, value: Any) -> None:
        await self._answer("progress")

    async def log(self, line: str) -> None:
        await self._answer("log")

    async def children_values(self) -> dict[str, Any]:
        await self._answer("children_values")
        return {}

    async def children_failures(self) -> dict[str, str]:
        await self._answer("children_failures")
        return {}

    def parent(self) -> Parent:
        return Parent(self.job.id, "bull:q")


@pytest.fixture
async def saving(make_hold: Callable[..., Hold]) -> Saving:
    plain = make_hold(id="j", attempts_made=2, fence=5)
    return Saving(plain.job, None, lambda error, where, job_id: None)


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

    async def add(task: Task, parent: Parent | None, **how: Any) -> str:
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
            yield Kept(asked)

    async with HostContext(saving, 100.0, ports=Ports(ledger=Noted())).once("mail:bob") as effect:
        assert (effect.state, effect.result) == ("unknown", {"id": 7})
        await effect.settle("sent")
    assert asked == [("q", "j", 5, "mail:bob"), ("settle", "sent")]


async def test_what_the_fleet_does_not_have_is_said(saving: Saving) -> None:
    context = HostContext(saving, 100.0)
    with pytest.raises(UnavailableError, match="adds no jobs"):
        await context.add(MAIL)
    with pytest.raises(UnavailableError, match="ledger"):
        context.once("mail:bob")


async def test_children_that_can_not_be_read_are_worth_another_attempt(make_hold: Callable[..., Hold]) -> None:
    context = HostContext(make_hold(), 100.0)
    for read in (context.children_values, context.children_failures):
        with pytest.raises(TransientError, match="children can't be read"):
            await read()


# ------------------------------------------------------------------ a run that is over


@pytest.fixture
def context(saving: Saving) -> HostContext:
    """With everything that a fleet may have."""

    async def add(task: Task, parent: Parent | None, **how: Any) -> str:
        await saving._answer("add")
        return "9"

    class Waits:
        @asynccontextmanager
        async def once(self, *args: Any) -> AsyncIterator[Any]:
            await saving._answer("once")
            try:
                yield Kept(saving.done)
            except asyncio.CancelledError:
                saving.done.append("left as cancelled")
                raise
            saving.done.append("left well")

    return HostContext(saving, 100.0, ports=Ports(add=add, ledger=Waits()))


@pytest.mark.parametrize("name", CALLS)
async def test_run_that_is_over_is_refused_whatever_it_asks(saving: Saving, context: HostContext, name: str) -> None:
    await CALLS[name](context)
    assert saving.done == [name]
    context.close()
    context.close()
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError, match="the run is over"):
            await CALLS[name](context)
    assert saving.done == [name]
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


@pytest.mark.parametrize("name", CALLS)
async def test_call_that_is_under_way_when_the_run_ends_is_cut_short(
    saving: Saving, context: HostContext, name: str
) -> None:
    async def calls() -> None:
        await CALLS[name](context)

    saving.answers.clear()
    call = asyncio.create_task(calls())
    await saving.begun.wait()
    context.close()
    saving.answers.set()
    await asyncio.wait({call}, timeout=20)
    assert call.cancelled() and saving.done == []


async def test_run_that_was_cancelled_and_left_sees_one_cancellation_and_goes_on(
    saving: Saving, context: HostContext
) -> None:
    """As the driver leaves a run: one more cancellation, then its context is closed."""
    heard: list[str] = []
    released = asyncio.Event()

    async def deaf() -> None:
        try:
            await context.log("x")
        except asyncio.CancelledError:
            heard.append("cancelled")
        task = asyncio.current_task()
        assert task is not None
        heard.append(str(task.cancelling()))
        await released.wait()

    saving.answers.clear()
    run = asyncio.create_task(deaf())
    await saving.begun.wait()
    run.cancel()
    context.close()
    await asyncio.sleep(0)
    released.set()
    await asyncio.wait({run}, timeout=20)
    assert not run.cancelled() and run.exception() is None
    assert heard == ["cancelled", "1"]
    assert saving.done == []


async def test_run_that_asks_on_and_on_leaves_the_loop_to_others(context: HostContext) -> None:
    released = False

    async def deaf() -> None:
        while not released:
            with suppress(asyncio.CancelledError):
                await context.progress(1)

    context.close()
    run, turns, end = asyncio.create_task(deaf()), 0, time.monotonic() + 0.3
    while time.monotonic() < end:
        await asyncio.sleep(0.001)
        turns += 1
    released = True
    await asyncio.wait({run}, timeout=20)
    assert turns > 10


async def test_run_that_is_over_is_asked_to_stop_and_declines_nothing(saving: Saving, context: HostContext) -> None:
    context.requests.ask(PAUSE)
    context.close()
    context.decline("no")
    assert context.stop == PAUSE and not context.requests.answered
    other = HostContext(saving, 100.0)
    stops = [other.stop]
    other.close()
    stops.append(other.stop)
    assert stops == [None, StopRequest(kind="deadline", reason="the run is over", by=0.0)]


async def test_effect_of_a_run_that_is_over_is_left_as_by_one_that_was_cancelled(
    saving: Saving, context: HostContext
) -> None:
    with pytest.raises(asyncio.CancelledError, match="the run is over"):
        async with context.once("mail:bob") as effect:
            context.close()
            with suppress(asyncio.CancelledError):
                await effect.settle("sent")
    assert saving.done == ["once", "left as cancelled"]
