"""Data that no worker can use, from producers that err or mean harm: each such job ends by itself, once and with the
field named, and the jobs around it are delivered as if it weren't there.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.acceptance.conftest import CONFIDENTIAL, Jobs, Serve, Served, mail

LOGIN = ("hi@example.com", "salt-and-vinegar")
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def served(serve: Serve) -> Served:
    """One fleet for all these tests: what a bad job does to it would show in the next one."""
    return serve("--set", "queues.email-send.task.options.tls=none", login=LOGIN)


@pytest.fixture
async def jobs(served: Served, redis: Redis, redis_url: str) -> AsyncIterator[Jobs]:
    """The queue of that fleet. After each test the fleet takes jobs as before, and its log gives nothing away."""
    await served.fleet.ready()
    async with Jobs(redis, redis_url, served.prefix) as jobs:
        yield jobs
    assert served.fleet.is_ready
    assert "Traceback" not in served.fleet.text
    assert CONFIDENTIAL not in served.fleet.text
    assert LOGIN[1] not in served.fleet.text


async def _between_good_ones(served: Served, jobs: Jobs, data: Any, **opts: Any) -> str:
    """Add it in the middle of good jobs; return when those have been delivered, whatever became of it."""
    readers = [f"{uuid.uuid4().hex}@example.com" for _ in range(12)]
    good = [await jobs.add(mail(reader)) for reader in readers[:6]]
    bad = await jobs.add(data, attempts=5, **opts)
    good += [await jobs.add(mail(reader)) for reader in readers[6:]]
    await jobs.reach("completed", *good)
    assert all(served.mail_host.recipients().count(reader) == 1 for reader in readers)
    return bad


async def _failed_once(served: Served, jobs: Jobs, job: str) -> str:
    """It failed for good at its first attempt, and the log says why as the job does; the reason."""
    await jobs.reach("failed", job)
    row = await jobs.row(job)
    assert (row["atm"], row["ats"]) == ("1", "1")
    logged = [record for record in served.fleet.records(level="error") if record.get("job_id") == job]
    assert [record["event"] for record in logged] == ["job failed"]
    return row["failedReason"]


LACKING = {"type": "email-send", "id": "task-1"}
BAD_DATA: dict[str, tuple[Any, str]] = {
    "a list": ([mail()], r"data: expected an object, found a list"),
    "a string": ("hello", r'data: expected an object, found "hello" \(string\)'),
    "a number": (7, r"data: expected an object, found 7 \(integer\)"),
    "null": (None, r"data: expected an object, found null"),
    "true": (True, r"data: expected an object, found true \(boolean\)"),
    "no type": ({"id": "task-1", "to": ["a@example.com"]}, r"data\.type: expected a string, found nothing"),
    "a number as type": (mail(type=7), r"data\.type: expected a string, found 7 \(integer\)"),
    "nothing but a type": (LACKING, r"data\.to: expected a list, found nothing"),
    "neither a text nor a template": (
        LACKING | {"to": ["a@example.com"]},
        r"data\.subject: expected a string, found nothing; data\.text: expected a string, found nothing",
    ),
    "no recipient": (mail(to=[]), r"data\.to: expected a length of at least 1, found an empty list"),
    "one text as recipients": (mail(to="dana@example.com"), r'data\.to: expected a list, found "dana@example\.com"'),
    "a number among recipients": (mail(to=["a@example.com", 7]), r"data\.to\.1: expected a string, found 7"),
    "an object as subject": (mail(subject={"text": CONFIDENTIAL}), r"data\.subject: expected a string, found an obj"),
    "a list as text": (mail(text=[CONFIDENTIAL]), r"data\.text: expected a string, found a list of 1"),
    "a number as html": (mail(html=3.5), r"data\.html: expected a string, found 3\.5 \(number\)"),
    "a number as user": (mail(userId=12), r"data\.userId: expected a string, found 12 \(integer\)"),
    "5 MB": (mail(text=CONFIDENTIAL + "x" * 5_000_000), r"data: 5,000,\d+ bytes, more than the 4,194,304 .*max_data"),
    "101 recipients": (
        mail(*(f"reader{n}@example.com" for n in range(101))),
        r"data\.to: 101 recipients, more than the 100 allowed \(options\.max_recipients\)",
    ),
    "no address at all": (
        mail("nobody", "a b@example.com", "@example.com"),
        r"data\.to\.0: nobody: not an e-mail address: it has no @; data\.to\.1: .*; data\.to\.2: ",
    ),
    "a command in an address": (
        mail("a@example.com>\r\nRCPT TO:<victim@example.com"),
        r"data\.to\.0: .*: not an e-mail address: it has a control character",
    ),
    "a header in a name": (
        mail('"A\r\nBcc: victim@example.com" <a@example.com>'),
        r"data\.to\.0: .*: not an e-mail address: it has a control character",
    ),
}


@pytest.mark.parametrize(("data", "reason"), BAD_DATA.values(), ids=[name.replace(" ", "_") for name in BAD_DATA])
async def test_bad_data_fails_once_with_its_field_and_no_other_job_suffers(
    served: Served, jobs: Jobs, data: Any, reason: str
) -> None:
    before = len(served.mail_host.received)
    job = await _between_good_ones(served, jobs, data)
    failed = await _failed_once(served, jobs, job)
    assert re.match(reason, failed), failed
    assert CONFIDENTIAL not in failed
    assert len(served.mail_host.received) == before + 12
    assert "victim@example.com" not in served.mail_host.recipients()


#: A mail that would go out, were it not for what takes the place of its unknown field.
TEXT = json.dumps(mail("numbers@example.com", extra={"a": 0})).replace('{"a": 0}', '{"a": %s}')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{nope", r"data: not JSON"),
        ("", r"data: not JSON"),
        ("[" * 200_000, r"data\.0\.0\..*: expected at most 100 levels, found more$"),
        (TEXT % ("[" * 5_000 + "]" * 5_000), r"data\.extra\.a\.0\.0\..*: expected at most 100 levels, found more$"),
        (TEXT % "NaN", r"data\.extra\.a: expected a finite number, found NaN$"),
        (TEXT % "[0, -Infinity]", r"data\.extra\.a\.1: expected a finite number, found -Infinity$"),
        (TEXT % "1e400", r"data\.extra\.a: expected a finite number, found 1e400$"),
        (TEXT % ("9" * 5_000), r"data\.extra\.a: expected an integer of at most 4,300 digits, found one of 5,000$"),
        ("[" * 5_000_000, r"data: 5,000,000 bytes, more than the 4,194,304 this queue accepts \(max_data\)$"),
    ],
    ids=["cut", "empty", "a_deep_cut", "deep", "nan", "infinity", "too_large_a_number", "too_many_digits", "too_large"],
)
async def test_row_whose_data_no_parser_takes_fails_once(
    served: Served, jobs: Jobs, redis: Redis, text: str, reason: str
) -> None:
    """No producer of BullMQ writes this; someone with redis-cli may."""
    broken = await jobs.add(mail(), delay=HOUR_MS, attempts=5)
    await redis.hset(jobs.key(broken), "data", text)
    await jobs.queue.promoteJobs()
    await _between_good_ones(served, jobs, mail())
    assert re.match(reason, await _failed_once(served, jobs, broken))
    assert (await jobs.row(broken))["data"] == text
    assert not served.mail_host.messages_to("numbers@example.com")


async def test_unknown_fields_are_kept_and_the_mail_delivered(served: Served, jobs: Jobs) -> None:
    data = mail("extra@example.com", campaign={"id": 9, "tags": ["a", None]}, user_id="of another field")
    job = await _between_good_ones(served, jobs, data)
    await jobs.reach("completed", job)
    assert json.loads((await jobs.row(job))["data"]) == data
    assert len(served.mail_host.messages_to("extra@example.com")) == 1


async def test_unknown_type_is_put_off_for_a_newer_worker_and_fails_when_it_has_grown_old(
    served: Served, jobs: Jobs
) -> None:
    reason = 'data.type: expected a task type known here, found "email-digest" (string)'
    young = await _between_good_ones(served, jobs, mail(type="email-digest"))
    await jobs.reach("delayed", young)
    row = await jobs.row(young)
    assert (row.get("atm", "0"), row["delay"]) == ("0", "30000")
    assert "failedReason" not in row
    (put_off,) = [r for r in served.fleet.records() if r.get("job_id") == young]
    assert (put_off["event"], put_off["reason"], put_off["delay_s"]) == ("job delayed", reason, 30.0)

    old = await _between_good_ones(
        served, jobs, mail(type="email-digest"), timestamp=round(time.time() * 1000) - 2 * HOUR_MS
    )
    assert await _failed_once(served, jobs, old) == reason


async def test_bad_addresses_among_good_ones_cost_nobody_else_the_mail(served: Served, jobs: Jobs) -> None:
    served.mail_host.refuse["gone@example.com"] = "550 5.1.1 no such user"
    data = mail("nobody", "ann@example.com", "gone@example.com", "Bob <bob@example.com>")
    job = await _between_good_ones(served, jobs, data)
    await jobs.reach("completed", job)
    result = await jobs.result(job)
    assert result["success"] is False
    assert result["info"]["accepted"] == ["ann@example.com", "bob@example.com"]
    assert result["info"]["rejected"] == ["nobody", "gone@example.com"]
    assert [each["responseCode"] for each in result["info"]["rejectedErrors"]] == [None, 550]
    (message,) = served.mail_host.messages_to("ann@example.com")
    assert message["To"] == "ann@example.com, gone@example.com, Bob <bob@example.com>"


@pytest.mark.parametrize(
    "subject",
    [
        "Hi\r\nBcc: victim@example.com",
        "Hi\nBcc: victim@example.com\n\nAnother body",
        "Hi\rX-Evil: 1",
        "=?utf-8?q?Hi=0D=0ABcc=3A_victim=40example=2Ecom?=",
        "Hi\r\n.\r\nMAIL FROM:<victim@example.com>",
    ],
    ids=["crlf", "lf", "cr", "encoded_word", "end_of_data"],
)
async def test_subject_stays_one_header_whatever_is_in_it(served: Served, jobs: Jobs, subject: str) -> None:
    reader = f"{uuid.uuid4().hex}@example.com"
    job = await _between_good_ones(served, jobs, mail(reader, subject=subject))
    await jobs.reach("completed", job)
    (received,) = [each for each in served.mail_host.received if reader in each.recipients]
    assert received.recipients == (reader,)
    message = received.message
    assert message.get_all("Bcc") is None
    assert message.get_all("X-Evil") is None
    assert len(message.get_all("Subject", [])) == 1
    head, _, _ = received.content.partition(b"\r\n\r\n")
    assert not re.search(rb"(?im)^(bcc|x-evil|mail from)", head)
    assert "victim@example.com" not in served.mail_host.recipients()
