"""An ending on its way through a bad connection: written once, settled by looking, given up only when it must be.

The settling itself is tested on a real server (integration/broker/test_settle.py); here it is scripted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from redis.exceptions import (
    BusyLoadingError,
    DataError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from workers.broker import finish as module
from workers.broker.activation import Activation
from workers.broker.backend import Fetched, FleetBackend
from workers.broker.client import NotSentError
from workers.broker.endings import Completed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.finish import Finish
from workers.broker.reconnect import Reconnect
from workers.broker.refusals import RefusedError, may_pass
from workers.broker.settle import Settled

JOB = Activation(queue="q", id="7", token="t")
NEXT = Activation(queue="q", id="8", token="t")
DONE = Completed(result=1)
FAILED = Failed(reason="no", error="E")

AWAY = RedisConnectionError("Connection reset")
BROKEN = ResponseError("user_script:5: attempt to index a nil value script: on @user_script:5.")
LOCK_GONE, PENDING_CHILDREN = RefusedError(-2, "7"), RefusedError(-4, "7")

NOT_APPLIED, APPLIED = Settled(applied=False, ours=True), Settled(applied=True, ours=False)
TAKEN = Settled(applied=False, ours=False)
APPLIED_WITH_NEXT = Settled(applied=True, ours=False, next_job=NEXT)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (AWAY, True),
        (RedisTimeoutError("slow"), True),
        (BusyLoadingError("loading"), True),
        (OSError(104, "reset"), True),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'. script: on @user_script:5."), True),
        (ReadOnlyError("You can't write against a read only replica. script: on @user_script:5."), True),
        (NoPermissionError("this user has no permissions"), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write. script: on @user_script:5."), True),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots script: on @user_script:5."), True),
        (
            ResponseError("Script attempted to access a non local key in a cluster node script: on @user_script:5."),
            True,
        ),
        (ResponseError("ACL failure in script: User u has no permissions to run x script: on @user_script:1."), True),
        (ResponseError("The user executing the script can't run this command script: 3, on @user_script:1."), True),
        (ResponseError("something new"), True),
        (BROKEN, False),
        (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), False),
        (ResponseError("Protocol error: invalid bulk length"), False),
        (DataError("Invalid input of type: 'NoneType'"), False),
        (OverflowError("Integer value out of range"), False),
        (ValueError("no"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_may_pass_is_worth_another_try(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


class Script:
    """What the backend answers to each try, and what each look finds; errors are raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sent: list[Any], looks: list[Any]) -> None:
        self.sent = iter(sent)
        self.looks = iter(looks)
        self.endings: list[Ending] = []
        self.fetches: list[bool] = []
        self.errors: list[BaseException] = []
        self.buried: list[Exception] = []
        self.ups = 0
        monkeypatch.setattr(module, "settle", self.settle)

    async def finish(self, job: Activation, ending: Ending, *, fetch_next: bool) -> Fetched:
        self.endings.append(ending)
        self.fetches.append(fetch_next)
        return cast(Fetched, self._answer(self.sent))

    async def bury(self, doubt: Exception) -> None:
        self.buried.append(doubt)

    async def settle(self, backend: FleetBackend, job: Activation, ending: Ending) -> Settled:
        assert self.buried, "a look before the lost command's connection is gone may be wrong"
        return cast(Settled, self._answer(self.looks))

    def _answer(self, answers: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def up(self) -> None:
        self.ups += 1

    async def write(self, ending: Ending, fetch_next: Callable[[], bool] = lambda: True) -> tuple[Ending, Fetched]:
        backend = cast(FleetBackend, self)
        at_once = Reconnect(0.0, 0.0)
        finish = Finish(backend, JOB, ending, lambda error, where, job_id: self.errors.append(error), self.up, at_once)
        written = await finish.write(fetch_next)
        assert next(self.sent, None) is None and next(self.looks, None) is None, "not all that was scripted happened"
        return written


Play = Callable[[list[Any], list[Any]], Script]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    return lambda sent, looks: Script(monkeypatch, sent, looks)


async def test_ending_that_is_taken_is_written_once(play: Play) -> None:
    script = play([Fetched(NEXT)], [])
    assert await script.write(DONE) == (DONE, Fetched(NEXT))
    assert (script.endings, script.errors, script.ups) == ([DONE], [], 0)


async def test_ending_whose_reply_was_lost_is_not_sent_again_when_it_was_applied(play: Play) -> None:
    script = play([AWAY], [APPLIED_WITH_NEXT])
    assert await script.write(DONE) == (DONE, Fetched(NEXT))
    assert (script.errors, script.ups) == ([AWAY], 1)
    assert script.buried == [AWAY]


async def test_ending_that_was_never_sent_is_sent_again_without_a_look(play: Play) -> None:
    unsent = NotSentError("Connection refused")
    script = play([unsent, unsent, Fetched(NEXT)], [])
    assert await script.write(DONE) == (DONE, Fetched(NEXT))
    assert (script.errors, script.buried) == ([unsent, unsent], [])


async def test_ending_that_did_not_arrive_is_sent_again(play: Play) -> None:
    script = play([AWAY, AWAY, Fetched()], [NOT_APPLIED, NOT_APPLIED])
    assert await script.write(DONE) == (DONE, Fetched())
    assert script.endings == [DONE] * 3


async def test_looking_goes_on_until_redis_answers(play: Play) -> None:
    script = play([AWAY], [AWAY, RedisTimeoutError(), APPLIED])
    assert await script.write(DONE) == (DONE, Fetched())
    assert script.ups == 1


async def test_job_that_someone_else_has_by_now_is_let_go(play: Play) -> None:
    ending, fetched = await play([AWAY], [TAKEN]).write(DONE)
    assert ending == Lost(reason="its lock was lost (Connection reset)")
    assert fetched == Fetched()


async def test_refusal_for_a_lost_lock_writes_nothing(play: Play) -> None:
    assert await play([LOCK_GONE], []).write(DONE) == (Lost(reason="its lock expired"), Fetched())


async def test_first_sending_that_arrives_late_is_found_after_the_second_was_refused(play: Play) -> None:
    script = play([AWAY, LOCK_GONE], [NOT_APPLIED, APPLIED_WITH_NEXT])
    assert await script.write(DONE) == (DONE, Fetched(NEXT))


@pytest.mark.parametrize("found", [TAKEN, NOT_APPLIED])
async def test_second_refusal_without_a_trace_of_the_first_sending_is_a_loss(play: Play, found: Settled) -> None:
    ending, _ = await play([AWAY, LOCK_GONE], [NOT_APPLIED, found]).write(DONE)
    assert ending == Lost(reason="its lock was lost (job 7: the script answered -2)")


async def test_full_server_is_waited_for_and_success_stays_success(play: Play) -> None:
    full = OutOfMemoryError("command not allowed when used memory > 'maxmemory'. script: on @user_script:5.")
    script = play([full, full, Fetched()], [NOT_APPLIED, NOT_APPLIED])
    assert await script.write(DONE) == (DONE, Fetched())
    assert script.endings == [DONE] * 3


@pytest.mark.parametrize("ending", [DONE, Retry(reason="r", error="E", delay_ms=1), HandedBack(reason="r")])
async def test_ending_that_the_scripts_will_never_take_becomes_a_failure_that_says_so(
    play: Play, ending: Ending
) -> None:
    for sent, looks, why in (
        ([PENDING_CHILDREN, Fetched()], [], "job 7: it has children that are not done"),
        ([BROKEN, Fetched()], [NOT_APPLIED], str(BROKEN)),
        ([OverflowError("too large"), Fetched()], [NOT_APPLIED], "too large"),
    ):
        name = type(ending).__name__.lower()
        failure = Failed(reason=f"could not be ended as {name}: {why}", error="Refused")
        assert await play(sent, looks).write(ending) == (failure, Fetched())


async def test_failure_that_the_scripts_will_never_take_is_let_go(play: Play) -> None:
    nothing = Fetched()  # what the backend answers to a Lost, for which it does nothing
    ending, _ = await play([PENDING_CHILDREN, nothing], []).write(FAILED)
    assert ending == Lost(reason="its failure could not be written: job 7: it has children that are not done")
    ending, _ = await play([BROKEN, BROKEN, nothing], [NOT_APPLIED, NOT_APPLIED]).write(DONE)
    assert isinstance(ending, Lost)


async def test_look_that_breaks_lets_the_job_go_instead_of_looking_for_ever(play: Play) -> None:
    ending, _ = await play([AWAY], [AWAY, ResponseError("WRONGTYPE Operation against a key")]).write(DONE)
    assert ending == Lost(reason="what became of it can't be told: WRONGTYPE Operation against a key")


async def test_next_job_is_wanted_only_while_the_worker_is_not_closing(play: Play) -> None:
    closing = iter([True, False])
    script = play([AWAY, Fetched()], [NOT_APPLIED])
    await script.write(DONE, lambda: next(closing))
    assert script.fetches == [True, False]


async def test_slot_that_is_torn_down_while_it_writes_stops_writing(play: Play) -> None:
    script = play([AWAY], [asyncio.CancelledError()])
    with pytest.raises(asyncio.CancelledError):
        await script.write(DONE)
