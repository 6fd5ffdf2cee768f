"""What every kind of isolation owes a processor and its host, each by the same tests: it is the same module."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tests.conftest import wait_until
from tests.hostile import acts
from tests.hostile.rig import KINDS, Answers, call, isolated
from tests.hostile.task import Hostile
from workers.contract import (
    JobContext,
    PermanentError,
    RateLimitError,
    StopRequest,
    SyncJobContext,
    TransientError,
    UnavailableError,
    Verdict,
)
from workers.runtime import retry
from workers.runtime.decision import named, stack_of
from workers.runtime.isolation.call import Isolator
from workers.runtime.isolation.processors import ResultError
from workers.runtime.isolation.remote import RemoteContext, RemoteRun
from workers.runtime.isolation.sync_context import SyncContext

pytestmark = pytest.mark.asyncio(loop_scope="module")

IN_CHILDREN = ("process", "process, def")
#: Where the loop's driver does not do it anyway; and where the host can't.
elsewhere = pytest.mark.parametrize("kind", [name for name in KINDS if name != "async"], indirect=True, scope="module")
in_a_child = pytest.mark.parametrize("kind", IN_CHILDREN, indirect=True, scope="module")
WORDS = 'Grüße, 日本 \u0000 "\\ \U0001f600'


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def isolation(kind: str) -> AsyncIterator[Isolator]:
    where, flavour = KINDS[kind]
    async with isolated(where, flavour, options={"token": "s3cret"}) as there:
        yield there


def stop(kind: Any = "stop", reason: str = "asked") -> StopRequest:
    return StopRequest(kind=kind, reason=reason, by=time.monotonic() + 60)


async def verdict(isolation: Isolator, name: str) -> tuple[str, str, Verdict]:
    """What an error of a processor's means to the host: its name, its text, what follows."""
    with pytest.raises(Exception) as raised:
        await isolation.run(call("raises", name=name))
    error = raised.value
    assert "in raises" in stack_of(error)
    return named(error), str(error), retry.verdict_of(error, acts.classify)


def contexts(run: RemoteRun) -> tuple[JobContext, SyncJobContext]:
    """For the type checker: what a child gives to processors is what the contract promises."""
    return RemoteContext(run), SyncContext(run)


# ----------------------------------------------------------------------- results


@pytest.mark.parametrize(
    "value",
    [None, 0, -1.5, "", WORDS, [1, [2, {}]], {"a": {"b": None}}, True, "x" * 2_000_000, 10**300, "\ud800 alone"],
)
async def test_result_comes_back_as_it_was(isolation: Isolator, value: Any) -> None:
    assert await isolation.run(call("echo", value=value)) == value


async def test_processor_knows_its_job(isolation: Isolator, kind: str) -> None:
    context = Answers(job_id="job:" + WORDS, restored={"at": [1]}, checkpoint_due=True)
    context.stop = stop("pause")
    facts = await isolation.run(call("facts", context))
    assert (facts["job_id"], facts["attempt"], facts["fence"]) == (context.job_id, 2, 3)
    assert facts["restored"] == {"at": [1]}
    assert 90 < facts["left_s"] <= 100
    assert (facts["stop"], facts["checkpoint_due"]) == ("pause", True)
    assert facts["token"] == "s3cret"
    assert (facts["pid"] == os.getpid()) is (kind not in IN_CHILDREN)


@pytest.mark.parametrize("name", [name for name in acts.OUTCOMES if not name.startswith("huge")])
async def test_outcome_comes_back_as_it_was(isolation: Isolator, name: str) -> None:
    outcome = await isolation.run(call("outcome", name=name))
    assert outcome == acts.OUTCOMES[name]


async def test_result_that_is_no_json_becomes_what_would_be_stored(isolation: Isolator, kind: str) -> None:
    value = await isolation.run(call("unstorable"))
    if kind in IN_CHILDREN:
        assert list(value) == ["unserialisable"]
        assert "set" in value["unserialisable"]
    else:  # replaced where it is stored
        assert value == {"a set": {1, 2}}


async def test_not_a_number_stays_none(isolation: Isolator) -> None:
    assert math.isnan((await isolation.run(call("not_finite")))["value"])


async def test_returned_coroutine_is_a_failure_for_good_and_nobody_complains_about_it(isolation: Isolator) -> None:
    with pytest.raises(Exception, match="the processor returned a coroutine that nobody awaits") as raised:
        await isolation.run(call("returns_coroutine"))
    assert named(raised.value) == ResultError.__name__
    assert retry.verdict_of(raised.value).failure == "permanent"


async def test_what_a_processor_does_to_its_task_stays_there(isolation: Isolator) -> None:
    run = call("mutates", value="mine")
    assert await isolation.run(run) == {"value": "mine"}
    assert run.data["args"] == {"value": "mine"}


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("name", "said", "text", "follows"),
    [
        ("transient", "TransientError", "later", Verdict(retry=True, retry_after_s=3.5, failure="transient")),
        ("rate_limit", "RateLimitError", "slow down", Verdict(retry=True, retry_after_s=9.0, failure="rate-limited")),
        ("permanent", "PermanentError", "never", Verdict(retry=False, failure="permanent")),
        ("budget", "BudgetError", "nothing left", Verdict(retry=False, failure="budget")),
        ("user", "UserError", "can't be done", Verdict(retry=False, failure="user")),
        ("strange", "StrangeError", "what?", Verdict(retry=True, retry_after_s=7.0, failure="rate-limited")),
        ("gravely", "GravelyStrangeError", "what??", Verdict(retry=False, failure="user")),
        ("group", "ExceptionGroup", "two (2 sub-exceptions)", Verdict(retry=False, failure="permanent")),
        ("memory", "MemoryError", "", Verdict(retry=True, failure="crashed")),
    ],
)
async def test_failure_arrives_with_its_name_its_text_and_its_verdict(
    isolation: Isolator, name: str, said: str, text: str, follows: Verdict
) -> None:
    found, reason, judged = await verdict(isolation, name)
    assert (found, judged) == (said, follows)
    assert reason == text or (text == "" and reason in ("", said))


@elsewhere
@pytest.mark.parametrize(("name", "said"), [("exit", "SystemExit: 3"), ("interrupt", "KeyboardInterrupt")])
async def test_what_would_end_a_process_ends_the_job_alone(
    isolation: Isolator, kind: str, name: str, said: str
) -> None:
    found, reason, judged = await verdict(isolation, name)
    assert (found, reason) == ("EscapedError", f"the processor raised {said}")
    assert judged == Verdict(retry=True, failure="crashed")
    assert await isolation.run(call("echo", value=1)) == 1


@elsewhere
async def test_cancelled_error_that_nobody_asked_for_is_a_failure(isolation: Isolator, kind: str) -> None:
    assert (await verdict(isolation, "cancelled"))[0] == "EscapedError"


@in_a_child
async def test_text_that_can_not_be_stored_is_replaced(isolation: Isolator, kind: str) -> None:
    assert (await verdict(isolation, "surrogate"))[1] == "bad ? text"
    assert "can't be read" in (await verdict(isolation, "silent"))[1]


# ------------------------------------------------------------------------- calls


async def test_calls_reach_the_host_and_answers_come_back(isolation: Isolator) -> None:
    context = Answers()
    told = await isolation.run(call("tells", context))
    assert told == {
        "stop": None,
        "values": {"bull:q:7": {"n": 1}},
        "failures": {"bull:q:8": "why"},
        "added": "added 1",
    }
    assert context.of("progress") == [({"status": "half", "progress": 50},)]
    assert context.of("log") == [("a line",)]
    assert context.of("checkpoint") == [({"at": 3},)]
    ((task, child),) = context.of("add")
    assert (task.type, task.id, child) == ("hostile", "next", True)
    assert Hostile.model_validate(task.model_dump(by_alias=True)).args == {"value": 1}


async def test_calls_raise_what_the_host_raised(isolation: Isolator) -> None:
    context = Answers(
        raises={
            "progress": ValueError("not JSON"),
            "checkpoint": TypeError("no such state"),
            "add": RateLimitError("full", retry_after_s=4.0),
            "children_values": PermanentError("gone"),
        }
    )
    assert await isolation.run(call("asks_badly", context, not_json=1)) == [
        ["ValueError", "not JSON", None],
        ["TypeError", "no such state", None],
        ["RateLimitError", "full", 4.0],
        ["PermanentError", "gone", None],
    ]


async def test_checkpoint_says_whether_to_yield(isolation: Isolator) -> None:
    assert (await isolation.run(call("tells", Answers(stop=stop("drain")))))["stop"] == "drain"


async def test_effect_is_reserved_settled_and_left(isolation: Isolator) -> None:
    context = Answers()
    assert await isolation.run(call("once", context, effect="mail:bob")) == ["fresh", None]
    assert context.ledger.effects == {"mail:bob": ("done", {"id": 5})}
    assert await isolation.run(call("once", context, effect="mail:bob")) == ["done", {"id": 5}]
    assert context.ledger.left == ["well", "well"]


async def test_effect_whose_block_fails_is_left_as_failed(isolation: Isolator) -> None:
    context = Answers()
    with pytest.raises(Exception, match="in the middle"):
        await isolation.run(call("once", context, effect="e", fails=True))
    assert context.ledger.effects == {"e": ("unknown", None)}
    assert len(context.ledger.left) == 1
    assert context.ledger.left != ["well"]


async def test_effects_without_a_ledger_say_what_is_missing(isolation: Isolator) -> None:
    with pytest.raises(Exception, match="no ledger here") as raised:
        await isolation.run(call("once", Answers(raises={"once": UnavailableError("no ledger here")}), effect="e"))
    assert named(raised.value) == "UnavailableError"
    assert retry.verdict_of(raised.value).failure == "permanent"


# ---------------------------------------------------------------------- requests


async def test_request_to_stop_is_seen_while_it_runs(isolation: Isolator) -> None:
    context = Answers()
    run = asyncio.create_task(isolation.run(call("waits", context)))
    await wait_until(lambda: context.of("progress"))
    context.ask(stop("pause", "set aside"))
    assert await run == {"kind": "pause", "reason": "set aside"}


@elsewhere
async def test_request_to_stop_is_seen_by_a_processor_that_never_yields(isolation: Isolator, kind: str) -> None:
    context = Answers()
    run = asyncio.create_task(isolation.run(call("never_yields", context, listens=True)))
    await asyncio.sleep(0.1)
    context.ask(stop("drain"))
    assert await asyncio.wait_for(run, 20) == "drain"


async def test_declined_request_is_taken_back(isolation: Isolator) -> None:
    context = Answers()
    run = asyncio.create_task(isolation.run(call("waits", context, decline=True)))
    await wait_until(lambda: context.of("progress"))
    context.ask(stop("pause"))
    assert await run == {"kind": None, "reason": None}
    assert context.of("decline") == [("not now",)]


async def test_checkpoint_that_is_due_is_seen(isolation: Isolator) -> None:
    context = Answers()
    run = asyncio.create_task(isolation.run(call("saves_when_due", context)))
    await wait_until(lambda: context.of("progress"))
    context.ask(checkpoint=True)
    assert await run == "saved"
    assert context.of("checkpoint") == [("saved",)]


# ------------------------------------------------------------------ cancellation


async def test_cancelled_run_cleans_up_and_ends(isolation: Isolator) -> None:
    context = Answers()
    run = asyncio.create_task(isolation.run(call("cleans_up", context)))
    await wait_until(lambda: context.of("log"))
    run.cancel()
    await asyncio.wait({run})
    assert run.cancelled()
    assert context.of("checkpoint") == [("saved while ending",)]
    assert await isolation.run(call("echo", value="the next")) == "the next"


async def test_result_that_a_cancelled_run_still_gives_counts(isolation: Isolator) -> None:
    context = Answers()
    run = asyncio.create_task(isolation.run(call("cleans_up", context, returns=True)))
    await wait_until(lambda: context.of("log"))
    run.cancel()
    assert await run == "still done"


async def test_run_cancelled_in_a_call_that_hangs_ends(isolation: Isolator) -> None:
    context = Answers(slow_s=3600)
    run = asyncio.create_task(isolation.run(call("waits", context)))
    await asyncio.sleep(0.05)
    run.cancel()
    await asyncio.wait({run}, timeout=20)
    assert run.cancelled()


async def test_run_cancelled_before_its_first_step_ends(isolation: Isolator) -> None:
    run = asyncio.create_task(isolation.run(call("waits")))
    await asyncio.sleep(0)
    run.cancel()
    done, _ = await asyncio.wait({run}, timeout=20)
    assert done
    assert await isolation.run(call("echo", value=1)) == 1


@elsewhere
async def test_stop_is_set_in_a_cancelled_run_in_any_case(isolation: Isolator, kind: str) -> None:
    context = Answers()
    run = asyncio.create_task(isolation.run(call("never_yields", context, listens=True)))
    await asyncio.sleep(0.05)
    run.cancel()
    assert await asyncio.wait_for(run, 20) == "deadline"


@elsewhere
async def test_call_of_a_run_that_is_over_reaches_nobody(isolation: Isolator, kind: str) -> None:
    context = Answers()
    await isolation.run(call("late_call", context))
    heard = await isolation.run(call("what_was_heard"))
    assert heard == ["CancelledError"]
    assert context.of("log") == []


# ----------------------------------------------------------------------- context


async def test_context_variables_are_carried_over_and_do_not_leak_back(isolation: Isolator, kind: str) -> None:
    token = acts.color.set("blue")
    try:
        if kind not in IN_CHILDREN:
            assert (await isolation.run(call("facts")))["color"] == "blue"
            seen = await asyncio.create_task(isolation.run(call("sets_color")))
            assert (seen, acts.color.get()) == ("blue", "blue")
        else:
            assert [await isolation.run(call("sets_color")) for _ in range(2)] == ["none", "none"]
    finally:
        acts.color.reset(token)


async def test_trace_is_carried_over(isolation: Isolator) -> None:
    spans = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(spans)))
    try:
        facts = await isolation.run(call("facts"))
    finally:
        otel_context.detach(token)
    assert facts["trace_id"] == f"{0xABC:032x}"
    assert (await isolation.run(call("facts")))["trace_id"] == "0" * 32


async def test_log_lines_are_records_of_the_host(isolation: Isolator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tests.hostile.acts")
    await isolation.run(call("logs", times=2))
    records = [record for record in caplog.records if record.name == "tests.hostile.acts"]
    assert [record.getMessage() for record in records] == ["said 0", "said 1", "with a stack"]
    assert [record.levelname for record in records] == ["WARNING", "WARNING", "ERROR"]
    assert vars(records[0])["detail"] == "d"
    assert records[0].filename == "acts.py"
    stack = records[2].stack_info or records[2].exc_text or ""
    assert "StrangeError: logged" in stack


# ------------------------------------------------------------------- other things


async def test_many_runs_at_once_each_get_their_own(isolation: Isolator) -> None:
    runs = [isolation.run(call("echo", value=number)) for number in range(40)]
    assert await asyncio.gather(*runs) == list(range(40))


@in_a_child
async def test_error_in_a_finaliser_hurts_nobody(isolation: Isolator, kind: str) -> None:
    assert await isolation.run(call("explodes_later")) == "fine"
    assert await isolation.run(call("echo", value=1)) == 1


async def test_good_uses_of_forks_work(isolation: Isolator) -> None:
    assert await isolation.run(call("starts_processes")) == [42, 0, "out\n", 3]


async def test_data_as_large_as_a_queue_accepts_goes_there_and_back(isolation: Isolator) -> None:
    value = {"rows": ["ä" * 1000] * 2000}
    assert len(json.dumps(value, ensure_ascii=False).encode()) > 4_000_000
    assert await isolation.run(call("echo", value=value)) == value


async def test_errors_of_the_host_keep_their_kind(isolation: Isolator) -> None:
    class QueueFullError(TransientError):
        pass

    context = Answers(raises={"add": QueueFullError("full", retry_after_s=2.0), "children_values": OSError("odd")})
    said = await isolation.run(call("asks_badly", context, not_json=1))
    assert said[0][1:] == ["full", 2.0]
    assert said[1][1] in ("odd", "OSError: odd")
