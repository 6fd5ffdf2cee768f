"""What a user is told of a task of theirs that has failed for good, where its module has no words of its own. Pure."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Callable

from tasks.base import Task
from tasks.notification_create import MAX_TEXT, MAX_TITLE, NotificationCreate
from workers.contract import FinalFailure

#: Node's category for what a user did not ask to hear.
CATEGORY = "SystemAlert"
#: What is said of every failure that is not the user's own matter.
NEUTRAL = "It ended with an error and is not tried again."
#: Characters of a user's id; those of Node have 19.
MAX_USER = 64

#: Node's snowflakes: milliseconds since then, 10 bits for the instance, 12 for a counter.
_EPOCH_MS = 1_609_459_200_000
_INSTANCE_BITS, _COUNTER_BITS = 10, 12


def note(task: Task, failure: FinalFailure, describe: Callable[[str], str] = str) -> NotificationCreate | None:
    """The notification for the task's owner; None where the task names none, or is a notification itself.

    The reason is shown for class `user` alone, on one line, without secrets, and as text: nothing in it is markup.

    Args:
        describe: how a reason may be shown: without secrets.
    """
    user = task.user_id
    if not user or len(user) > MAX_USER or isinstance(task, NotificationCreate):
        return None
    what = task.type.replace("-", " ")
    reason = _shown(describe(failure.reason), MAX_TEXT) if failure.failure == "user" else ""
    return NotificationCreate(
        id=snowflake(failure),
        user_id=user,
        category=CATEGORY,
        title=_shown(f"Your task '{what}' failed", MAX_TITLE),
        description=reason or NEUTRAL,
        send_web_socket_event=True,
    )


def note_job_id(failure: FinalFailure) -> str:
    """The id of the job that follows this failure: always the same, so that BullMQ adds it once. It has no colon, which
    BullMQ refuses, and is no number.
    """
    return f"failed-{_digest(failure).hex()[:32]}"


def follows_a_failure(job_id: str) -> bool:
    """Whether a job has such an id: its own failure has no sequel, or there might be no end to them."""
    return re.fullmatch("failed-[0-9a-f]{32}", job_id) is not None


def snowflake(failure: FinalFailure) -> str:
    """A key like Node's, from the failure's time and name: the same for the same failure. The instance is one of the
    upper half, and Node's is 1, so that none of Node's is met.
    """
    elapsed_ms = max(0, round(failure.at * 1000) - _EPOCH_MS) % 2**41
    low = _INSTANCE_BITS + _COUNTER_BITS
    drawn = int.from_bytes(_digest(failure)[-4:], "big") % 2 ** (low - 1)
    return str(elapsed_ms << low | 1 << (low - 1) | drawn)


def _digest(failure: FinalFailure) -> bytes:
    name = json.dumps([failure.queue, failure.job_id, failure.attempts])
    return hashlib.sha256(name.encode()).digest()


def _shown(text: str, limit: int) -> str:
    """One line of plain text in at most so many characters of HTML; cut between two characters, not within one."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * limit]).split())
    escaped = [html.escape(c, quote=False) for c in line]
    if sum(map(len, escaped)) <= limit:
        return "".join(escaped)
    kept, length = [], 1
    for piece in escaped:
        length += len(piece)
        if length > limit:
            break
        kept.append(piece)
    return "".join(kept) + "…"
