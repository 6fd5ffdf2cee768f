"""What every queue module keeps. Each rule is tried on a module that is opened for it alone.

A rule is a coroutine function: the test that awaits it needs `pytestmark = pytest.mark.asyncio`, or pytest's
`-o asyncio_mode=auto`. A module outside of this project is tried by a test outside of any package called `tests`,
which would hide this one (workers/README.md, "Add a queue").
"""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, get_args

import pytest

from tasks.codec import encode
from tests.queues.contract import at_rest
from tests.queues.contract.at_rest import check_verdict
from tests.queues.contract.cancelled import CancelledAt
from tests.queues.contract.case import SLOTS, Case, Opened
from tests.queues.contract.leftovers import none_left
from workers.contract import Outcome, Services, StopRequest

Rule: TypeAlias = Callable[[Case], Awaitable[None]]

#: Suspensions of one run after which the search for the last one is given up.
MAX_SUSPENSIONS = 500
#: Kinds of stop request.
KINDS = ("pause", "stop", "drain", "budget", "deadline", "lock_lost")


# ------------------------------------------------------------------ opening and closing


async def opening_begins_when_it_is_entered(case: Case) -> None:
    """`open` that is called and never entered has done nothing."""
    async with case.surroundings() as example, none_left(case.patience_s):
        options = case.module.options.model_validate(example.options)
        case.module.open(Services(queue=case.queue, slots=1), options)


async def closes_without_a_job(case: Case) -> None:
    """Opened and closed, again and again, it leaves nothing."""
    async with case.surroundings() as example:
        for _ in range(2):
            async with none_left(case.patience_s), case.opened(example) as opened:
                assert callable(opened.processor), f"open gave {opened.processor!r}, which can't be called"


async def opens_twice_at_once(case: Case) -> None:
    """Two that are open at the same time know nothing of each other."""
    async with case.surroundings() as example, none_left(case.patience_s), case.opened(example) as first:
        async with case.opened(example) as second:
            await _does_all(second)
        await _does_all(first)


async def closes_when_its_host_failed(case: Case) -> None:
    """An exception that leaves the host's block closes it too, and leaves as it came."""
    failure = RuntimeError("of the host's")
    async with case.surroundings() as example, none_left(case.patience_s):
        options = case.module.options.model_validate(example.options)
        with pytest.raises(RuntimeError) as left:
            async with asyncio.timeout(case.patience_s):
                async with case.module.open(Services(queue=case.queue, slots=1), options):
                    raise failure
        assert left.value is failure, f"the host's exception left as {left.value!r}"


# ------------------------------------------------------------------------------ jobs


async def does_its_examples(case: Case) -> None:
    """Each job ends in JSON or in an outcome, leaves its task as it was, and can be done again."""
    async with case.surroundings() as example, none_left(case.patience_s), case.opened(example) as opened:
        await _does_all(opened)
        await _does_all(opened)


async def does_as_many_at_once_as_it_has_slots(case: Case) -> None:
    """Its slots work at the same time."""
    async with case.surroundings() as example, none_left(case.patience_s), case.opened(example) as opened:
        task = case.tasks(example)[0]
        async with asyncio.timeout(case.patience_s):
            ends = await asyncio.gather(*(opened.process(task) for _ in range(SLOTS)))
        for end in ends:
            _check_end(end)


async def stop_before_the_start_is_obeyed(case: Case) -> None:
    """What is asked for its slot back, at once, before it has begun, gives it back: handed back where its process
    shuts down, and so on for each kind.
    """
    async with case.surroundings() as example, none_left(case.patience_s), case.opened(example) as opened:
        task = case.tasks(example)[0]
        for kind in KINDS:
            stop = StopRequest(kind=kind, reason=f"because of {kind}", by=time.monotonic())  # type: ignore[arg-type]
            end = await opened.ends(task, stop=stop)
            assert end == stop.outcome(), f"asked to stop ({kind}) it ended with {end!r}"
        await _does_all(opened)


async def deadline_that_has_passed_ends_the_run(case: Case) -> None:
    """A run without time left ends, in whatever way, and harms no other."""
    async with case.surroundings() as example, none_left(case.patience_s), case.opened(example) as opened:
        for task in case.tasks(example):
            try:
                _check_end(await opened.ends(task, deadline=time.monotonic() - 1.0))
            except TimeoutError:
                raise AssertionError("a run whose deadline has passed does not end") from None
            except Exception as error:
                check_verdict(case.module.classify(error), type(error).__name__)
        await _does_all(opened)


async def cancelled_anywhere_it_leaves_nothing(case: Case) -> None:
    """Cancelled at any await, a run ends; no task, connection or warning stays, and the module goes on working."""
    async with case.surroundings() as example, none_left(case.patience_s), case.opened(example) as opened:
        if opened.is_sync:  # in a thread there is nothing to cancel
            return
        task = case.tasks(example)[0]
        for again in (False, True):  # after a cancelled run, then after one that has ended by itself
            await _cancelled_everywhere(opened, task, again=again)
        await _does_all(opened)


async def closes_while_it_works(case: Case) -> None:
    """Closed in the middle of a job, which its host gives no more time, it leaves nothing."""
    async with case.surroundings() as example, none_left(case.patience_s):
        async with case.opened(example) as opened:
            if opened.is_sync:
                return
            run = asyncio.ensure_future(opened.process(case.tasks(example)[0]))
            await asyncio.sleep(0)
        run.cancel()
        _, late = await asyncio.wait({run}, timeout=case.patience_s)
        assert not late, "a run does not end after its module was closed"
        run.cancelled() or run.exception()


RULES: tuple[Rule, ...] = (
    at_rest.type_is_the_queues,
    at_rest.type_is_known_to_others_if_tasks_has_it,
    at_rest.imports_nothing_forbidden,
    at_rest.options_refuse_what_they_do_not_know,
    at_rest.options_show_no_secret,
    at_rest.classify_is_total_and_pure,
    at_rest.decodes_its_fixtures,
    opening_begins_when_it_is_entered,
    closes_without_a_job,
    opens_twice_at_once,
    closes_when_its_host_failed,
    does_its_examples,
    does_as_many_at_once_as_it_has_slots,
    stop_before_the_start_is_obeyed,
    deadline_that_has_passed_ends_the_run,
    cancelled_anywhere_it_leaves_nothing,
    closes_while_it_works,
)


def name(rule: Rule) -> str:
    """The id of a rule in a parametrized test."""
    return getattr(rule, "__name__", repr(rule))


# --------------------------------------------------------------------------- looking


async def _does_all(opened: Opened) -> None:
    for task in opened.case.tasks(opened.example):
        before = copy.deepcopy(encode(task))
        _check_end(await opened.ends(task))
        assert encode(task) == before, "a run changes its task, which another attempt may get"


def _check_end(end: Any) -> None:
    if isinstance(end, get_args(Outcome)):
        return
    try:
        json.dumps(end, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"a run ended with neither JSON nor an outcome: {end!r} ({error})") from None


async def _cancelled_everywhere(opened: Opened, task: Any, *, again: bool) -> None:
    for nth in range(1, MAX_SUSPENSIONS + 1):
        if again:
            await opened.ends(task)
        if not await _cancelled(opened, task, nth):
            return
    raise AssertionError(f"a run suspends more than {MAX_SUSPENSIONS} times")


async def _cancelled(opened: Opened, task: Any, nth: int) -> bool:
    """Run and cancel at the n-th suspension; False: it ended before. However it ends, it ends."""
    work = CancelledAt(opened.process(task), nth)

    async def run() -> Any:
        return await work

    running = asyncio.ensure_future(run())
    _, late = await asyncio.wait({running}, timeout=opened.case.patience_s)
    if late:
        running.cancel()
        await asyncio.wait({running}, timeout=1.0)
        raise AssertionError(f"cancelled at suspension {nth}, a run does not end")
    if running.cancelled():
        return True
    error = running.exception()
    if error is None:
        _check_end(running.result())
    elif not work.hit:
        raise error
    return work.hit
