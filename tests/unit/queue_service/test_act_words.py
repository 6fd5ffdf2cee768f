"""What answers of Redis become: errors for one job, reasons for many; and what the audit is told, whatever happens."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any, get_args

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from workers.broker.act_runner import Answer, UnfinishedError, Word
from workers.broker.client import NotSentError, ReplyLostError
from workers.queue_service import audit, outage
from workers.queue_service.actor import Actor
from workers.queue_service.audit import Auditor
from workers.queue_service.errors import (
    InvalidRequestError,
    QueueUnavailableError,
    RefusedError,
    UnknownJobError,
)
from workers.queue_service.report import Act, ActReport
from workers.queue_service.verdict import NAMED, error_for, report_of, shown, why_not

ACTIONS = (
    "retry", "promote", "cancel", "remove", "change-priority", "change-delay", "change-data", "change-status", "move",
    "replay",
)  # fmt: skip
DONE = ("ok", "asked", "written")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("word", get_args(Word))
def test_every_answer_has_its_words_or_was_done(action: str, word: Word) -> None:
    reason = why_not(action, Answer("7", word, "active", "n\x1b[2J" * 100))
    error = error_for(action, "q", Answer("7", word, "active", "detail"))
    if word in DONE:
        assert reason == "" and error is None
        return
    assert reason.isprintable() and "{" not in reason and len(reason) < 300
    kinds = {"gone": UnknownJobError, "refused": QueueUnavailableError}
    assert type(error) is kinds.get(word, RefusedError)
    assert "7" in str(error) and "queue q" in str(error)


def test_state_is_named_in_words() -> None:
    assert why_not("promote", Answer("7", "not", "active")) == "it is running now: only delayed jobs can be promoted"
    assert why_not("retry", Answer("7", "not", "unknown")).startswith("it is in no list of its queue now")


def test_report_counts_what_was_done_asked_and_skipped() -> None:
    answers = [
        Answer("1", "ok", "waiting"),
        Answer("2", "asked", "active", "w0"),
        Answer("3", "gone"),
        Answer("4", "not", "failed"),
    ]
    report = report_of("cancel", "q", answers)
    assert (report.matched, report.done, report.job_ids) == (4, 1, ("1",))
    assert report.requested == {"2": "w0"}
    assert set(report.skipped) == {"3", "4"}
    assert report_of("replay", "q", [Answer("1", "ok", "failed", "1-replay-1")]).job_ids == ("1-replay-1",)


def test_report_names_a_bounded_number_of_jobs() -> None:
    answers = [Answer(str(n), "ok" if n % 2 else "gone") for n in range(1000)]
    report = report_of("retry", "q", answers, more=True)
    assert (report.done, len(report.job_ids), len(report.skipped), report.more) == (500, NAMED, NAMED, True)


def test_names_from_outside_are_short_and_printable() -> None:
    assert shown("plain é") == "plain é"
    assert shown("x" * 1000) == "x" * 99 + "…"
    assert shown("a\n\x1b[31m\u202e").isprintable()


# --------------------------------------------------------------------------- outage


@pytest.mark.parametrize(
    ("error", "changes", "words"),
    [
        (NotSentError("refused"), True, "nothing was changed (refused)"),
        (ReplyLostError("reset", 5), True, "whether it was done is not known"),
        (RedisConnectionError("reset"), True, "whether it was done is not known"),
        (RedisConnectionError("reset"), False, "nothing was changed"),
        (TimeoutError(), True, "whether it was done is not known: look before you ask again (TimeoutError)"),
        (ResponseError("odd"), True, "(odd)"),
    ],
)
def test_failure_of_redis_says_what_is_known(error: Exception, changes: bool, words: str) -> None:
    with pytest.raises(QueueUnavailableError) as unavailable, outage.told("q", changes=changes):
        raise error
    assert words in str(unavailable.value)
    assert unavailable.value.queue == "q"


@pytest.mark.parametrize(
    ("done", "doubtful", "left", "words"),
    [
        (0, 0, 5, "nothing was changed"),
        (0, 1, 0, "whether it was done is not known"),
        (3, 100, 2000, "3 jobs were done, of 100 it is not known, 2,000 are left"),
        (0, 100, 50, "0 jobs were done, of 100 it is not known, 50 are left"),
    ],
)
def test_act_on_many_that_is_cut_off_says_how_far_it_came(done: int, doubtful: int, left: int, words: str) -> None:
    answers = [Answer(str(n), "ok") for n in range(done)] + [Answer("s", "gone")] * bool(done)
    with pytest.raises(QueueUnavailableError) as unavailable, outage.told("q"):
        try:
            raise ReplyLostError("reset", None)
        except ReplyLostError as cause:
            raise UnfinishedError(answers, ["d"] * doubtful, ["l"] * left, cause) from cause
    assert words in str(unavailable.value) and "(reset)" in str(unavailable.value)


def test_errors_of_the_service_pass() -> None:
    with pytest.raises(RefusedError), outage.told("q"):
        raise RefusedError("no")


# ---------------------------------------------------------------------------- audit

ANN = Actor("ann", via="cli", user_id="u1")


async def tell(work: Any, **arguments: Any) -> Act:
    told: list[Act] = []
    with suppress(Exception, asyncio.CancelledError):  # what is told is the matter here
        await Auditor(told.append, lambda: 5).told("retry", "q", "7", ANN, work, **arguments)
    (act,) = told
    return act


def reports(**fields: Any) -> Any:
    async def work() -> ActReport:
        return ActReport(**{"action": "retry", "queue": "q", "matched": 1, "done": 1, **fields})

    return work


def fails(error: BaseException) -> Any:
    async def work() -> ActReport:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "outcome", "detail"),
    [
        (reports(), "done", ""),
        (reports(done=0, requested={"7": "w"}), "requested", "asked to stop 1"),
        (reports(matched=9, skipped={"1": "x"}, more=True), "done", "matched 9, skipped 1, more are left"),
        (reports(matched=4, done=0, dry_run=True), "dry-run", "matched 4"),
        (fails(RefusedError("not so")), "refused", "not so"),
        (fails(InvalidRequestError("queue", "odd")), "refused", "queue: odd"),
        (fails(QueueUnavailableError("away")), "failed", "away"),
        (fails(asyncio.CancelledError()), "failed", "it was given up"),
    ],
)  # fmt: skip
async def test_every_act_is_told(work: Any, outcome: str, detail: str) -> None:
    act = await tell(work)
    assert (act.outcome, act.detail, act.at_ms, act.actor, act.target) == (outcome, detail, 5, ANN, "7")


async def test_what_is_told_is_bounded_and_plain() -> None:
    act = await tell(reports(), none=None, flag=True, number=5, long="x" * 9999, value={"secret": "y" * 9999})
    assert set(act.arguments) == {"flag", "number", "long", "value"}
    assert max(len(str(value)) for value in act.arguments.values()) == audit.MAX_ARGUMENT
    assert len((await tell(fails(RefusedError("z" * 99_999)))).detail) == audit.MAX_DETAIL
    many = await tell(reports(), **{f"a{n}": n for n in range(100)})
    assert len(many.arguments) == audit.MAX_ARGUMENTS


async def test_sink_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(act: Act) -> None:
        raise OSError("disk full")

    report = await Auditor(broken).told("retry", "q", "7", ANN, reports())
    assert report.done == 1
    assert "could not be told to the audit" in caplog.text
    with pytest.raises(RefusedError):
        await Auditor(broken).told("retry", "q", "7", ANN, fails(RefusedError("no")))


def test_line_in_the_log_has_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fleet.audit")
    for outcome in ("done", "refused"):
        audit.log_act(
            Act(
                at_ms=5,
                actor=ANN,
                action="move",
                queue="q",
                target="7\n\x1b[2J",
                outcome=outcome,
                done=1,
                detail="d" * 999,
                arguments={"to": "other"},
            )
        )
    done, refused = caplog.records
    assert (done.levelno, refused.levelno) == (logging.INFO, logging.WARNING)
    fields = {name: getattr(done, name) for name in ("action", "actor", "via", "queue", "user_id", "with_to", "done")}
    assert fields == {
        "action": "move",
        "actor": "ann",
        "via": "cli",
        "queue": "q",
        "user_id": "u1",
        "with_to": "other",
        "done": 1,
    }
    assert str(done.__dict__["target"]).isprintable() and len(done.__dict__["detail"]) == audit.MAX_DETAIL
    json.dumps({name: str(value) for name, value in done.__dict__.items()})
