"""What a processor may ask: in a thread the same as on the loop, and in tests the same as in a worker."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest

from tests.job_context import CALLS, Context, SyncContext
from workers.contract import (
    Cancel,
    HandBack,
    JobContext,
    Outcome,
    Park,
    StopRequest,
    SyncJobContext,
    TimeUp,
)
from workers.contract.context import StopKind
from workers.runtime.context import HostContext

#: Checked by mypy: the doubles are what they stand for.
ON_THE_LOOP: JobContext = Context()
IN_A_THREAD: SyncJobContext = SyncContext()

OUTCOMES: dict[StopKind, type[Outcome]] = {
    "pause": Park,
    "budget": Park,
    "stop": Cancel,
    "drain": HandBack,
    "lock_lost": HandBack,
    "deadline": TimeUp,
}


@pytest.mark.parametrize("kind", get_args(StopKind))
def test_each_kind_of_stop_has_its_outcome_and_gives_its_reason(kind: StopKind) -> None:
    outcome = StopRequest(kind=kind, reason="because", by=1.0).outcome()
    assert type(outcome) is OUTCOMES[kind]
    assert outcome.reason == "because"


def test_parked_job_waits_for_its_promotion_and_not_for_a_time() -> None:
    outcome = StopRequest(kind="pause", reason="r", by=1.0).outcome()
    assert outcome == Park("r", wake_s=30 * 86_400)


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_thread_is_given_the_same_questions() -> None:
    assert members(SyncJobContext) == members(JobContext)


@pytest.mark.parametrize("name", sorted(members(JobContext)))
def test_questions_take_the_same_arguments_on_both_sides(name: str) -> None:
    awaited, plain = getattr(JobContext, name), getattr(SyncJobContext, name)
    if isinstance(awaited, property):
        assert isinstance(plain, property)
        return
    assert not inspect.iscoroutinefunction(plain)
    taken = [list(inspect.signature(each).parameters.values()) for each in (awaited, plain)]
    assert [(p.name, p.kind, p.default) for p in taken[0]] == [(p.name, p.kind, p.default) for p in taken[1]]


@pytest.mark.parametrize("name", sorted(members(JobContext)))
def test_host_and_doubles_answer_all_of_them(name: str) -> None:
    assert hasattr(Context(), name) and hasattr(SyncContext(), name)
    assert name in dir(HostContext)


class Restricted(Context):
    allowed = frozenset({"log"})


async def test_double_notes_what_it_was_asked() -> None:
    double = Context(children={"k": 1}, failures={"k": "no"}, checkpoint_due=True)
    await double.progress(5)
    await double.log("line")
    assert await double.checkpoint([1]) is None
    double.decline("busy")
    assert (double.progressed, double.lines, double.checkpoints, double.declined) == ([5], ["line"], [[1]], ["busy"])
    assert not double.checkpoint_due
    assert (await double.children_values(), await double.children_failures()) == ({"k": 1}, {"k": "no"})


async def test_double_refuses_what_a_host_refuses() -> None:
    double = Context()
    for wrong in ("half", float("nan"), True):
        with pytest.raises((TypeError, ValueError)):
            await double.progress(wrong)
    with pytest.raises(TypeError):
        await double.checkpoint({1})
    assert double.progressed == double.checkpoints == []


async def test_double_of_a_module_that_needs_little_refuses_the_rest() -> None:
    double = Restricted()
    await double.log("fine")
    asked: dict[str, Any] = {
        "progress": lambda: double.progress(1),
        "checkpoint": lambda: double.checkpoint(1),
        "children": double.children_values,
        "add": lambda: double.add(None),  # type: ignore[arg-type]
    }
    for call, ask in asked.items():
        with pytest.raises(AssertionError, match=f"asked its host for '{call}'"):
            await ask()
    with pytest.raises(AssertionError, match="'decline'"):
        double.decline("no")
    with pytest.raises(AssertionError, match="'once'"):
        async with double.once("x"):
            raise RuntimeError("not reached")
    assert {*asked, "decline", "once", "log"} == CALLS


async def test_effect_is_fresh_once_then_done_and_unknown_where_it_was_not_settled() -> None:
    double = Context()
    states = []
    for settles in (False, True):
        async with double.once("mail") as effect:
            states.append(effect.state)
            if settles:
                await effect.settle("sent")
    with SyncContext(effects=double.effects).once("mail") as known:
        states.append(known.state)
        assert known.result == "sent"
    with SyncContext(effects=double.effects).once("other") as known:
        states.append(known.state)
        known.settle()
    assert states == ["fresh", "unknown", "done", "fresh"]
    assert double.effects["other"].state == "done"
