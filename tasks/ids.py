"""Under which id a task's job is added, and which task a job's id stands for. Node's rules, with its gaps closed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from tasks.base import Task
from tasks.wire import is_unicode

#: Characters of an id that is used as it is; a longer one is replaced by its digest.
MAX_CHARS = 256

_PREFIX = "task-"
# What BullMQ refuses or takes for an id of its own: integers, and "0:…", the marker of its waiting list.
_RESERVED = re.compile(r"-?[0-9]+|0:.*", re.DOTALL)
_RENAMED = re.compile(rf"{_PREFIX}(-?[0-9]+|0:.*)", re.DOTALL)


def job_id_for(task: Task, *, child: bool = False) -> str | None:
    """The id of the task's job, by which BullMQ adds it once; None: BullMQ is to count.

    By the idempotency key where the task has one, else by its own id. Colons are legal: Node's ids have them.

    Args:
        child: a flow's child. Its colons become dashes, because Node's getFlow would cut its key at them.
    """
    return job_id(task.idempotency_key or task.id, child=child)


def job_id(task_id: str, *, child: bool = False) -> str | None:
    """The id of the job for a task's id or idempotency key: the same, but

    - `task-<digits>` for digits, as Node does it, since BullMQ keeps integers to itself; also for negative ones, and
      for what begins with `0:`;
    - `key-<digest>` for what is longer than 256 characters, or can't be written to Redis (a lone surrogate);
    - None for an empty one.
    """
    if not task_id:
        return None
    if len(task_id) > MAX_CHARS or not is_unicode(task_id):
        return f"key-{hashlib.sha256(task_id.encode('utf-8', 'surrogatepass')).hexdigest()}"
    named = f"{_PREFIX}{task_id}" if _RESERVED.fullmatch(task_id) else task_id
    return named.replace(":", "-") if child else named


def task_id_of(job_id: str, data: Any = None) -> str:
    """The id of a job's task: what its data say, else by the job's own id. They may well differ: Node adds
    notifications without an id of their own, so that BullMQ counts.
    """
    if isinstance(data, Mapping):
        for key in ("id", "idempotencyKey"):
            if isinstance(said := data.get(key), str) and said:
                return said
    return job_id.removeprefix(_PREFIX) if _RENAMED.fullmatch(job_id) else job_id
