"""The row of a job, read tolerantly: what can't be read is told as it is, and named."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.broker.json_text import UnreadableError
from workers.broker.json_text import read as read_json
from workers.broker.numbers import is_number, whole

#: Characters of a row's own text that a problem quotes.
MAX_QUOTED = 40
#: Digits of a number that is below MAX_SAFE for sure.
MAX_DIGITS = 15
#: What BullMQ calls an option in Node, by what it is stored as. Source: npm bullmq, `optsDecodeMap` in classes/job.js.
OPTIONS = {
    "de": "deduplication",
    "fpof": "failParentOnFailure",
    "cpof": "continueParentOnFailure",
    "idof": "ignoreDependencyOnFailure",
    "kl": "keepLogs",
    "rdof": "removeDependencyOnFailure",
}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


@dataclass(frozen=True, slots=True)
class JobKey:
    """Another job: a parent or a child, perhaps of another queue."""

    key: str
    """Its key in Redis."""
    queue: str | None
    """None: the key is not under this fleet's prefix."""
    id: str

    @classmethod
    def of(cls, key: str, prefix: str) -> JobKey:
        """What a key names. Job ids may have colons, and queue names can't: BullMQ refuses them."""
        if not key.startswith(f"{prefix}:"):
            return cls(key, None, key.rpartition(":")[2])
        queue, _, job_id = key.removeprefix(f"{prefix}:").partition(":")
        return cls(key, queue, job_id)

    def json(self) -> dict[str, Any]:
        """For output."""
        return {"key": self.key, "queueName": self.queue, "id": self.id}


class JobRow:
    """One row while it is read.

    Args:
        row: its fields.
        cut: those that are not whole, and their sizes in bytes.
    """

    def __init__(self, row: Mapping[str, str], cut: Mapping[str, int]) -> None:
        self.row = row
        self.cut = cut
        self.problems: list[str] = []
        self.unparsed: set[str] = set()

    def json(self, name: str, default: Any) -> Any:
        """A field's value; its text where it is no JSON or not whole."""
        text = self.row.get(name)
        if not text:
            return default
        if name in self.cut:
            self.unparsed.add(name)
            return text
        try:
            return read_json(text, name)
        except UnreadableError as error:
            self.problems.append(str(error))
            self.unparsed.add(name)
            return text

    def options(self) -> dict[str, Any]:
        """The job's options with the names that they have in Node."""
        read = self.json("opts", {})
        if not isinstance(read, dict):
            if "opts" not in self.unparsed:
                self.problems.append("opts: expected an object")
            return {}
        found: dict[str, Any] = read
        opts = {OPTIONS.get(name, name): value for name, value in found.items() if name not in ("tm", "omc")}
        for name, long in (("tm", "metadata"), ("omc", "omitContext")):
            if name in found:
                telemetry = opts.get("telemetry")
                opts["telemetry"] = {**(telemetry if isinstance(telemetry, dict) else {}), long: found[name]}
        return opts

    def number(self, name: str) -> int:
        """A count; 0 where there is none."""
        text = self.row.get(name)
        return 0 if not text else self._whole(name, text) or 0

    def time(self, name: str) -> int | None:
        """A time in ms since the epoch; None where there is none."""
        text = self.row.get(name)
        return self._whole(name, text) if text else None

    def _whole(self, name: str, text: str) -> int | None:
        if len(text) <= MAX_DIGITS and text.isdecimal():  # all but hostile ones; lists read many
            return int(text)
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if is_number(number):
            return whole(number)
        self.problems.append(f"{name}: expected a number, found {json.dumps(text[:MAX_QUOTED])}")
        return None

    def stacks(self) -> tuple[str, ...]:
        """The stack traces, the oldest first."""
        found = self.json("stacktrace", [])
        if "stacktrace" in self.unparsed:
            return (str(found),)
        if not isinstance(found, list):
            self.problems.append("stacktrace: expected a list")
            return ()
        return tuple(each if isinstance(each, str) else json.dumps(each) for each in found)

    def parent(self, prefix: str) -> JobKey | None:
        """The job that waits for this one; None where there is none."""
        found = self.json("parent", None)
        if found is None:
            key = self.row.get("parentKey")
            return JobKey.of(key, prefix) if key else None
        job_id = found.get("id") if isinstance(found, dict) else None
        queue_key = found.get("queueKey") if isinstance(found, dict) else None
        if not isinstance(job_id, str) or not isinstance(queue_key, str):
            self.problems.append("parent: expected an object with id and queueKey")
            return None
        inside = queue_key.startswith(f"{prefix}:")
        return JobKey(f"{queue_key}:{job_id}", queue_key.removeprefix(f"{prefix}:") if inside else None, job_id)


def trace_id(opts: Mapping[str, Any]) -> str | None:
    """The trace that a job was added in, by its options with Node's names: `telemetry.metadata` is the carrier as
    JSON, of which we read `traceparent` (W3C Trace Context).
    """
    telemetry = opts.get("telemetry")
    carrier = telemetry.get("metadata") if isinstance(telemetry, Mapping) else None
    if not isinstance(carrier, str):
        return None
    try:
        told = read_json(carrier, "tm")
    except UnreadableError:
        return None
    parent = told.get("traceparent") if isinstance(told, dict) else None
    match = _TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
    return match[1] if match and match[1].strip("0") else None
