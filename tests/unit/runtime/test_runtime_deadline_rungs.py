"""One run on a ladder: every rung declined, answered and ignored, by runs of every tier; and force at the end of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import pytest

from tasks.tier import Tier
from tests.conftest import wait_until
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack
from workers.broker.events import RungName
from workers.broker.hold import Hold, Interrupt
from workers.contract import JobContext, StopRequest, TimeUp, retry_all
from workers.runtime import deadline, ladder
from workers.runtime.alarm import Alarm
from workers.runtime.containment import EscapedError
from workers.runtime.deadline import drive
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Climb, Ladder, Rung
from workers.runtime.requests import Requests
from workers.runtime.retry import RetryPolicy
from workers.runtime.run_end import Interrupted, Raised, Returned, RunEnd, TimedOut

pytestmark = pytest.mark.usefixtures("complaints")

SOON = 0.02
NEVER = 3600.0  # a test that waits for it is ended by pytest's time-out
MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
USERS: dict[Tier, Any] = {"free": {}, "premium": {"hasPremium": True}, "enterprise": {"isEnterprise": True}}

MakeHold = Callable[..., Hold]
Tries = list[tuple[str, int]]
Reply: TypeAlias = Literal["answers", "declines", "ignores"]


def climb(*rungs: Rung) -> Climb:
    return Ladder(rungs).for_run()


async def forever() -> Any:
    await asyncio.Event().wait()


async def asked(ctx: JobContext | Requests) -> StopRequest | None:
    await wait_until(lambda: ctx.stop is not None or ctx.checkpoint_due, every_s=0.001)
    return ctx.stop


class Noted:
    """The tries of rungs, as a hold tells them."""

    def __init__(self) -> None:
        self.tries: Tries = []
        self.after: list[float] = []

    def __call__(self, rung: RungName, after_s: float, attempt: int) -> None:
        self.tries.append((rung, attempt))
        self.after.append(after_s)


# ----------------------------------------------------- kind × reply × tier → end


def processor(reply: Reply) -> Callable[[Any, JobContext], Awaitable[Any]]:
    async def process(task: Any, ctx: JobContext) -> Any:
        stop = await asked(ctx)
        match reply:
            case "declines":
                ctx.decline("busy")
            case "answers" if stop is not None:
                return stop.outcome()
            case "answers":
                await ctx.checkpoint({"step": 4})
        await forever()

    return process


CUT = "timed out after {} at rung cancel"


def expected(kind: RungName, reply: Reply, tier: Tier) -> tuple[Tries, type[Ending], str]:
    """What a run comes to on warn, then the rung for all but enterprise, then cancel."""
    if tier == "enterprise":
        return [("warn", 1), ("cancel", 1)], Failed, "at rung cancel"
    match kind, reply:
        case _, "ignores":
            return [("warn", 1), (kind, 1), (kind, 2), ("cancel", 1)], Failed, "at rung cancel"
        case "pause", "answers":
            return [("warn", 1), ("pause", 1)], Delayed, "set aside by its ladder"
        case "stop", "answers":
            return [("warn", 1), ("stop", 1)], Failed, "at rung stop"
    return [("warn", 1), (kind, 1), ("cancel", 1)], Failed, "at rung cancel"


@pytest.mark.parametrize("tier", USERS)
@pytest.mark.parametrize("reply", ["answers", "declines", "ignores"])
@pytest.mark.parametrize("kind", ["checkpoint", "pause", "stop"])
async def test_each_rung_for_each_reply_and_tier_has_its_end(
    make_hold: MakeHold, monkeypatch: pytest.MonkeyPatch, kind: RungName, reply: Reply, tier: Tier
) -> None:
    saved: list[Any] = []

    async def save(state: Any) -> bool:
        saved.append(state)
        return True

    hold = make_hold(data={**MAIL, "userData": USERS[tier]})
    noted = hold.on_rung = Noted()
    monkeypatch.setattr(hold, "checkpoint", save)
    others = frozenset[Tier](["free", "premium"])
    wait_s = SOON if reply == "ignores" else NEVER
    rungs = (
        Rung(do="warn", at_s=SOON),
        Rung(do=kind, tiers=others, tries=2, wait_s=wait_s),
        Rung(do="cancel"),
    )
    plan = Plan(
        isolation=Inline(processor(reply if tier != "enterprise" else "ignores")),
        classify=retry_all,
        ladder=Ladder(rungs),
        retry=RetryPolicy(),
    )
    limits = Limits(max_data_bytes=1000, unknown_delay_s=1, unknown_give_up_s=1)
    ending = await Executor({"email-send": plan}, limits).execute(hold.job, hold)
    tries, kind_of_end, words = expected(kind, reply, tier)
    assert noted.tries == tries
    assert type(ending) is kind_of_end
    assert words in ending.reason  # type: ignore[union-attr]
    if isinstance(ending, Failed):
        assert (ending.error, ending.failure) == ("Timeout", "timed-out")
    assert saved == ([{"step": 4}] if (kind, reply) == ("checkpoint", "answers") and tier != "enterprise" else [])


# ---------------------------------------------------------------------- requests


async def test_request_waits_until_the_next_rung_begins(hold: Hold) -> None:
    requests, asks = Requests(hold), []
    requests.on_change(lambda: asks.append((requests.stop, time.monotonic())))
    started = time.monotonic()
    pausing = Rung(do="pause", at_s=SOON, wait_s=NEVER)
    rungs = climb(pausing, Rung(do="stop", at_s=2 * SOON, wait_s=SOON), Rung(do="cancel"))
    await drive(forever, hold, rungs, requests=requests)
    (pause, _), (stop, stopping), (cancel, cancelling) = asks
    assert pause is not None and stop is not None and cancel is not None
    assert (pause.kind, stop.kind, cancel.kind) == ("pause", "deadline", "deadline")
    assert started + 2 * SOON <= pause.by <= stopping <= stop.by <= cancelling <= cancel.by
    assert pause.reason.startswith("set aside by its ladder after 0.")
    assert stop.reason.startswith("its time is up after 0.")


async def test_request_made_in_vain_stands_until_the_next_rung_and_a_declined_one_does_not(hold: Hold) -> None:
    rungs = climb(Rung(do="pause", at_s=SOON, wait_s=SOON), Rung(do="cancel", at_s=NEVER))
    for declines in (False, True):
        requests = Requests(hold)

        async def run(requests: Requests = requests, declines: bool = declines) -> str | None:
            stop = await asked(requests)
            if declines:
                requests.decline("busy")
            await asyncio.sleep(3 * SOON)
            assert requests.stop is None if declines else requests.stop == stop
            return "checked"

        assert await drive(run, hold, rungs, requests=requests) == Returned("checked")


async def test_run_that_was_asked_and_finishes_all_the_same_has_succeeded(hold: Hold) -> None:
    requests = Requests(hold)

    async def run() -> str:
        await asked(requests)
        return "done"

    rungs = climb(Rung(do="stop", at_s=SOON, wait_s=NEVER), Rung(do="kill"))
    assert await drive(run, hold, rungs, requests=requests) == Returned("done")


async def test_refusal_is_never_missed_whenever_it_comes(hold: Hold) -> None:
    """From a listener, while the driver asks; or some steps later."""
    for steps in range(4):
        requests, noted = Requests(hold), Noted()
        tasks: list[asyncio.Task[None]] = []

        async def refuse(requests: Requests = requests, steps: int = steps) -> None:
            for _ in range(steps - 1):
                await asyncio.sleep(0)
            requests.decline("no")

        def heard(requests: Requests = requests, steps: int = steps, tasks: list[asyncio.Task[None]] = tasks) -> None:
            if requests.stop is not None and requests.stop.kind == "pause":
                if steps == 0:
                    requests.decline("no")
                else:
                    tasks.append(asyncio.create_task(refuse()))

        requests.on_change(heard)
        rungs = climb(Rung(do="pause", at_s=SOON, tries=2, wait_s=NEVER), Rung(do="cancel"))
        end = await drive(forever, hold, rungs, requests=requests, on_rung=noted)
        assert isinstance(end, TimedOut) and end.rung == "cancel"
        assert noted.tries == [("pause", 1), ("cancel", 1)]


async def test_drain_of_a_run_that_is_asked_to_pause_hands_it_back(hold: Hold) -> None:
    requests = Requests(hold)

    async def run() -> Any:
        await asked(requests)
        hold.ask_back(Interrupt("drain", "shutting down", time.monotonic() + NEVER))
        return requests.stop

    rungs = climb(Rung(do="pause", at_s=SOON, wait_s=NEVER), Rung(do="cancel", at_s=NEVER))
    end = await drive(run, hold, rungs, requests=requests)
    assert isinstance(end, Returned)
    assert end.value.kind == "drain"


async def test_listeners_of_the_run_hear_of_interrupts(hold: Hold) -> None:
    requests, heard = Requests(hold), asyncio.Event()
    requests.on_change(heard.set)

    async def run() -> str:
        await heard.wait()
        assert requests.stop is not None
        return requests.stop.kind

    asyncio.get_running_loop().call_soon(
        lambda: hold.ask_back(Interrupt("drain", "shutting down", time.monotonic() + NEVER))
    )
    assert await drive(run, hold, climb(Rung(do="cancel", at_s=NEVER)), requests=requests) == Returned("drain")


# ------------------------------------------------------------------ time is up


@pytest.mark.parametrize("declines", [False, True])
async def test_run_that_ends_since_its_time_is_up_has_timed_out_at_stop(hold: Hold, declines: bool) -> None:
    requests = Requests(hold)

    async def run() -> Any:
        stop = await asked(requests)
        assert stop is not None
        if declines:  # and then gives in all the same
            requests.decline("busy")
            await asyncio.sleep(0)
        return stop.outcome()

    rungs = climb(Rung(do="stop", at_s=SOON, wait_s=NEVER), Rung(do="cancel", at_s=NEVER))
    assert await drive(run, hold, rungs, requests=requests) == TimedOut(SOON, False, "stop")


async def test_run_that_was_not_asked_can_not_be_timed_out(hold: Hold) -> None:
    async def run() -> Any:
        return TimeUp("bored")

    assert await drive(run, hold, climb(Rung(do="cancel", at_s=NEVER))) == Returned(TimeUp("bored"))


async def test_cancelled_run_sees_that_its_time_is_up_while_it_cleans_up(hold: Hold) -> None:
    requests = Requests(hold)

    async def run() -> Any:
        try:
            await forever()
        except asyncio.CancelledError:
            requests.decline("no")  # a cancellation is not declined
            assert requests.stop is not None
            return requests.stop.outcome()

    end = await drive(run, hold, climb(Rung(do="cancel", at_s=SOON)), requests=requests)
    assert end == TimedOut(SOON, False, "cancel")


async def test_rung_that_came_late_says_how_late(hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "LATE_S", 0.0)
    end = await drive(forever, hold, climb(Rung(do="cancel", at_s=SOON)))
    assert isinstance(end, TimedOut)
    assert SOON < end.after_s < NEVER


async def test_rung_that_came_sooner_says_how_soon(hold: Hold) -> None:
    requests = Requests(hold)
    requests.on_change(lambda: requests.decline("no"))
    end = await drive(
        forever, hold, climb(Rung(do="stop", at_s=SOON, wait_s=NEVER), Rung(do="cancel")), requests=requests
    )
    assert isinstance(end, TimedOut)
    assert SOON <= end.after_s < NEVER


# ------------------------------------------------------------------------- force


class Deaf:
    """A run that ignores all but force."""

    def __init__(self) -> None:
        self.kills = 0
        self.begun = asyncio.Event()
        self.killed = asyncio.Event()

    async def __call__(self) -> None:
        self.begun.set()
        while not self.killed.is_set():
            try:
                await self.killed.wait()
            except asyncio.CancelledError:
                continue
        raise RuntimeError("its process was killed")

    def kill(self) -> None:
        self.kills += 1
        self.killed.set()


@pytest.mark.parametrize(
    ("rungs", "end", "tries"),
    [
        ((Rung(do="cancel", at_s=SOON, wait_s=SOON),), TimedOut(2 * SOON, False, "kill"), ["cancel", "kill"]),
        (
            (Rung(do="cancel", at_s=SOON, wait_s=NEVER), Rung(do="kill", at_s=3 * SOON)),
            TimedOut(3 * SOON, False, "kill"),
            ["cancel", "kill"],
        ),
        ((Rung(do="kill", at_s=SOON),), TimedOut(SOON, False, "kill"), ["kill"]),
    ],
)
async def test_run_that_ignores_its_cancellation_is_killed(
    hold: Hold, rungs: tuple[Rung, ...], end: RunEnd, tries: list[str]
) -> None:
    run, noted = Deaf(), Noted()
    ended = await drive(run, hold, climb(*rungs), kill=run.kill, on_rung=noted)
    assert isinstance(ended, TimedOut) and isinstance(end, TimedOut)
    assert (ended.rung, ended.abandoned) == (end.rung, False)
    assert ended.after_s == pytest.approx(end.after_s)
    assert [rung for rung, _ in noted.tries] == tries
    assert run.kills == 1


async def test_killed_run_that_still_had_its_result_has_succeeded(hold: Hold) -> None:
    async def run() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "just in time"
        return ""

    assert await drive(run, hold, climb(Rung(do="kill", at_s=SOON))) == Returned("just in time")


async def test_force_that_fails_frees_the_slot_all_the_same(
    hold: Hold, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ladder, "KILL_S", SOON)
    run = Deaf()

    def fails() -> None:
        raise OSError("no such process")

    end = await drive(run, hold, climb(Rung(do="kill", at_s=SOON)), kill=fails)
    assert end == TimedOut(SOON, True, "kill")
    assert [record.message for record in caplog.records][:1] == ["a run could not be killed"]
    run.kill()
    await wait_until(lambda: not deadline._abandoned)


@pytest.mark.parametrize("kind", ["drain", "lock_lost"])
async def test_interrupted_run_that_ignores_its_cancellation_is_killed(hold: Hold, kind: Any) -> None:
    run = Deaf()
    driving = asyncio.create_task(drive(run, hold, climb(Rung(do="cancel", at_s=NEVER)), kill=run.kill))
    await run.begun.wait()
    hold.ask_back(interrupt := Interrupt(kind, "now", time.monotonic(), SOON))
    assert await driving == Interrupted(interrupt, abandoned=False)
    assert run.kills == 1


async def test_drain_that_leaves_time_does_not_shorten_the_clean_up_that_the_ladder_gives(
    hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "CLEANUP_S", 0.0)
    hold.ask_back(Interrupt("drain", "shutting down", time.monotonic() + NEVER))

    async def run() -> str:
        try:
            await forever()
        finally:
            await asyncio.sleep(5 * SOON)
            return "cleaned up"  # noqa: B012

    assert await drive(run, hold, climb(Rung(do="cancel", at_s=SOON, wait_s=NEVER))) == Returned("cleaned up")


# -------------------------------------------------------------------- bad manners


async def test_code_that_cancels_every_task_ends_a_run_that_has_not_begun(hold: Hold) -> None:
    mine = asyncio.current_task()
    driving = asyncio.create_task(drive(forever, hold, climb(Rung(do="cancel", at_s=NEVER))))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task not in (mine, driving):
            task.cancel()
    end = await driving
    assert isinstance(end, Raised)
    assert isinstance(end.error, EscapedError)


async def test_hold_is_left_as_it_was_found(hold: Hold) -> None:
    requests = Requests(hold)
    await drive(forever, hold, climb(Rung(do="cancel", at_s=SOON)), requests=requests)
    assert hold.on_interrupt is None and requests.on_answer is None


async def test_many_runs_share_an_alarm(make_hold: MakeHold) -> None:
    """Each on a ladder of its own, some of which end by themselves."""
    done: list[int] = []

    async def one(number: int) -> RunEnd:
        async def run() -> int:
            await asyncio.sleep(SOON if number % 3 == 0 else NEVER)
            return number

        at_s = NEVER if number % 3 == 0 else SOON * (1 + number % 5)
        end = await drive(run, make_hold(), climb(Rung(do="cancel", at_s=at_s)), alarm=alarm)
        done.append(number)
        return end

    alarm = Alarm()
    ends = await asyncio.gather(*(one(number) for number in range(100)))
    for number, end in enumerate(ends):
        assert end == (Returned(number) if number % 3 == 0 else TimedOut(SOON * (1 + number % 5), False))
    assert sorted(done) == list(range(100))


async def test_completed_after_a_pause_was_asked_is_completed(make_hold: MakeHold) -> None:
    async def process(task: Any, ctx: JobContext) -> str:
        await asked(ctx)
        return "fine"

    hold = make_hold(data=MAIL)
    rungs = (Rung(do="pause", at_s=SOON, wait_s=NEVER), Rung(do="kill"))
    plan = Plan(isolation=Inline(process), classify=retry_all, ladder=Ladder(rungs), retry=RetryPolicy())
    limits = Limits(max_data_bytes=1000, unknown_delay_s=1, unknown_give_up_s=1)
    assert await Executor({"email-send": plan}, limits).execute(hold.job, hold) == Completed(result="fine")


async def test_hand_back_of_a_paused_run_that_drains_spends_nothing(make_hold: MakeHold) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        await asked(ctx)
        hold.ask_back(Interrupt("drain", "shutting down", time.monotonic() + NEVER))
        assert ctx.stop is not None
        return ctx.stop.outcome()

    hold = make_hold(data=MAIL)
    rungs = (Rung(do="pause", at_s=SOON, wait_s=NEVER), Rung(do="kill"))
    plan = Plan(isolation=Inline(process), classify=retry_all, ladder=Ladder(rungs), retry=RetryPolicy())
    limits = Limits(max_data_bytes=1000, unknown_delay_s=1, unknown_give_up_s=1)
    ended = await Executor({"email-send": plan}, limits).execute(hold.job, hold)
    assert ended == HandedBack(reason="shutting down")
