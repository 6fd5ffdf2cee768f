"""What a user is told of a failed task: neutral words, the reason where it is theirs, and nothing that is markup."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.base import Task
from tasks.codec import decode, encode
from tasks.email_send import EmailSend
from tasks.notification_create import MAX_TEXT, MAX_TITLE, NotificationCreate
from workers.contract import FailureClass, FinalFailure
from workers.runtime.failure_note import NEUTRAL, follows_a_failure, note, note_job_id, snowflake

MAIL = EmailSend(id="7", user_id="614402117730301", to=["a@example.com"], subject="s", text="t")
FAILURE = FinalFailure(
    queue="email-send", job_id="task-7", reason="no such mailbox", failure="user", attempts=3, at=1_767_225_600.5
)


class Wave(Task):
    """A task with a hostile name."""

    type: Literal["<b>wave</b>"] = "<b>wave</b>"


class LongWinded(Task):
    type: str = "&" * 1000


def test_user_is_told_the_reason_that_is_theirs() -> None:
    told = note(MAIL, FAILURE)
    assert told is not None
    assert encode(told) == {
        "type": "notification-create",
        "id": snowflake(FAILURE),
        "userId": "614402117730301",
        "category": "SystemAlert",
        "title": "Your task 'email send' failed",
        "description": "no such mailbox",
        "sendWebSocketEvent": True,
    }
    assert decode(encode(told)) == told


@pytest.mark.parametrize("failure", [each for each in get_args(FailureClass) if each != "user"])
def test_reason_of_any_other_kind_is_not_shown(failure: FailureClass) -> None:
    told = note(MAIL, replace(FAILURE, failure=failure, reason="10.0.0.7: password 'hunter2' refused"))
    assert told is not None
    assert told.description == NEUTRAL
    assert "hunter2" not in str(encode(told))


def test_reason_goes_without_its_secrets() -> None:
    told = note(MAIL, replace(FAILURE, reason="key sk-123 is spent"), lambda text: text.replace("sk-123", "***"))
    assert told is not None
    assert told.description == "key *** is spent"


def test_reason_without_words_is_replaced_by_neutral_ones() -> None:
    told = note(MAIL, replace(FAILURE, reason=" \n\x00"))
    assert told is not None
    assert told.description == NEUTRAL


@pytest.mark.parametrize("user", [None, "", "9" * 65])
def test_nobody_is_told_where_there_is_no_user(user: str | None) -> None:
    assert note(MAIL.model_copy(update={"user_id": user}), FAILURE) is None


def test_notification_that_failed_is_followed_by_none() -> None:
    failed = NotificationCreate(id="7", user_id="8", category="Award", title="")
    assert note(failed, FAILURE) is None


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a & b", "a &amp; b"),
        ("Traceback:\n  line 1\r\n\tline 2", "Traceback: line 1 line 2"),
        ("txt.\u202egpj", "txt. gpj"),
        ("lone \ud800", "lone"),
        ("é 😀", "é 😀"),
    ],
)
def test_reason_is_one_line_of_text(reason: str, shown: str) -> None:
    told = note(MAIL, replace(FAILURE, reason=reason))
    assert told is not None
    assert told.description == shown


def test_title_is_text_and_fits_the_table_whatever_the_task_is_called() -> None:
    told = note(Wave(id="7", user_id="8"), FAILURE)
    assert told is not None
    assert told.title == "Your task '&lt;b&gt;wave&lt;/b&gt;' failed"
    told = note(LongWinded(id="7", user_id="8"), FAILURE)
    assert told is not None
    assert len(told.title) <= MAX_TITLE
    assert re.fullmatch(r"Your task '(&amp;)+…", told.title)


@given(reason=st.text(st.characters(), max_size=6000) | st.text("<&>", min_size=3000, max_size=6000))
def test_description_is_bounded_printable_and_no_markup(reason: str) -> None:
    told = note(MAIL, replace(FAILURE, reason=reason))
    assert told is not None and told.description is not None
    assert 0 < len(told.description) <= MAX_TEXT
    assert told.description.isprintable()
    assert not re.search("[<>]|&(?!amp;|lt;|gt;)", told.description), "no markup, no entity cut in two"
    kept = html.unescape(told.description).removesuffix("…")
    assert kept == NEUTRAL or " ".join("".join(c if c.isprintable() else " " for c in reason).split()).startswith(kept)


# -------------------------------------------------------------------------- ids

names: Any = st.text(st.characters(), max_size=20)
failures = st.builds(
    FinalFailure,
    queue=names,
    job_id=names,
    reason=st.just("r"),
    failure=st.just("user"),
    attempts=st.integers(1, 1000),
    at=st.floats(-1e6, 4e9),
)


@given(failures)
def test_ids_are_the_same_for_the_same_failure_and_fit_their_places(failure: FinalFailure) -> None:
    job_id, key = note_job_id(failure), snowflake(failure)
    again = replace(failure, reason="other words")
    assert (job_id, key) == (note_job_id(again), snowflake(again))
    assert ":" not in job_id and not job_id.isdigit()
    assert follows_a_failure(job_id)
    assert 0 <= int(key) < 2**63


@given(failures, failures)
def test_ids_differ_where_failures_do(one: FinalFailure, other: FinalFailure) -> None:
    same = (one.queue, one.job_id, one.attempts) == (other.queue, other.job_id, other.attempts)
    assert (note_job_id(one) == note_job_id(other)) is same


def test_names_do_not_run_together() -> None:
    ids = {
        note_job_id(replace(FAILURE, queue=queue, job_id=job_id, attempts=attempts))
        for queue, job_id, attempts in (
            ("a", "b", 1),
            ("ab", "", 1),
            ("a", "b1", 1),
            ("a", "b", 11),
            ("a\0b", "", 1),
            ("a", "\0b", 1),
        )
    }
    assert len(ids) == 6


def test_key_tells_the_time_as_nodes_do_and_is_of_no_instance_of_theirs() -> None:
    key = int(snowflake(FAILURE))
    assert (key >> 22) + 1_609_459_200_000 == 1_767_225_600_500
    assert (key >> 12) % 1024 >= 512


@pytest.mark.parametrize(
    "job_id", ["7", "failed-7", "failed-" + "g" * 32, "x-failed-" + "0" * 32, "failed-" + "0" * 33]
)
def test_other_jobs_follow_no_failure(job_id: str) -> None:
    assert not follows_a_failure(job_id)
