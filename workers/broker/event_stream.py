"""Reads BullMQ's event streams, of several queues at once, as npm bullmq's QueueEvents does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from workers.broker.json_text import UnreadableError
from workers.broker.json_text import read as read_json

#: Events that one read returns of each queue, at most.
MAX_READ = 200
#: Characters of one value that are kept of an event: of a job's result, say.
MAX_VALUE = 16 * 1024
#: What is before all events.
FIRST = "0-0"
#: What BullMQ writes as JSON, by event.
_JSON = {"progress": "data", "completed": "returnvalue"}
_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")


@dataclass(frozen=True, slots=True)
class QueueEvent:
    """Something happened in a queue."""

    queue: str
    id: str
    """Its place in the queue's stream, `<ms>-<n>`: what comes after it can be asked for. Empty for the three that are
    no entry of the stream: `dropped` (fields.count events were not taken in time), `gap` (of the events after
    fields.after some have been deleted), `unreadable` (fields.error: the queue's events can't be read)."""
    event: str
    """In BullMQ's words: added, waiting, active, progress, completed, failed, retries-exhausted, delayed, stalled, …"""
    job_id: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else it says: prev, returnvalue, failedReason, data (a progress), delay, name, …"""

    @property
    def at_ms(self) -> int | None:
        """When, ms since the epoch."""
        return int(self.id.partition("-")[0]) if self.id else None

    def json(self) -> dict[str, Any]:
        """For output."""
        return {
            **self.fields,
            "queueName": self.queue,
            "event": self.event,
            "id": self.id or None,
            "jobId": self.job_id,
            "timestamp": self.at_ms,
        }


def event(queue: str, event_id: str, said: Mapping[str, str]) -> QueueEvent:
    """Read an entry of a stream. Never raises: what is no JSON stays a text, what is long is cut."""
    fields: dict[str, Any] = {}
    name = said.get("event", "")
    for key, text in said.items():
        if key in ("event", "jobId"):
            continue
        fields[key] = f"{text[: MAX_VALUE - 1]}…" if len(text) > MAX_VALUE else text
        if key == _JSON.get(name) and len(text) <= MAX_VALUE:
            try:
                fields[key] = read_json(text, key)
            except UnreadableError:
                continue
        elif key == "delay" and text.isdecimal() and len(text) < 16:
            fields[key] = int(text)
    return QueueEvent(queue, event_id, name, said.get("jobId"), fields)


def order(event_id: str) -> tuple[int, int]:
    """By which ids are compared. An id without its second part is the first of its ms.

    Raises:
        ValueError: it is no id.
    """
    match = _ID.fullmatch(event_id)
    if match is None:
        raise ValueError("not an id of an event, like 1700000000000-0")
    return int(match[1]), int(match[2] or 0)


class EventStream:
    """Reads the streams under one prefix.

    Every method raises redis.exceptions.RedisError or OSError where Redis is away, or does not permit it.

    Args:
        client: closed by whoever made it. For `read`, one of `Endpoint.listening`.
        prefix: BullMQ's key prefix.
    """

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix

    async def last(self, queues: Iterable[str]) -> dict[str, str]:
        """The id of each queue's last event; FIRST where there is none."""
        pipe = self._client.pipeline(transaction=False)
        names = list(queues)
        for queue in names:
            pipe.execute_command("XREVRANGE", self._key(queue), "+", "-", "COUNT", 1)
        replies = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not is_wrong_type(reply):
                raise reply
        found = zip(names, replies, strict=True)
        return {queue: FIRST if isinstance(reply, Exception) or not reply else reply[0][0] for queue, reply in found}

    async def read(self, after: Mapping[str, str], *, block_ms: int) -> list[QueueEvent]:
        """Events after these ids, by queue; waits for one as long. Of one queue in their order."""
        keys = {self._key(queue): queue for queue in after}
        words: list[Any] = ["XREAD", "COUNT", MAX_READ, "BLOCK", block_ms, "STREAMS", *keys, *after.values()]
        found = await self._client.execute_command(*words) or []
        streams = found.items() if isinstance(found, Mapping) else found
        return [event(keys[key], event_id, said) for key, entries in streams for event_id, said in _flat(entries)]

    async def between(self, queue: str, after: str, until: str) -> list[QueueEvent]:
        """Some events behind the one and up to the other, the first ones; none: there are no more."""
        start, number = order(after)
        begin = f"{start}-{number + 1}"
        key = self._key(queue)
        found = await self._client.execute_command("XRANGE", key, begin, until, "COUNT", MAX_READ)
        return [event(queue, event_id, said) for event_id, said in found or []]

    async def is_gap(self, queue: str, after: str) -> bool:
        """Whether events behind this one have been deleted, as far as can be told: the stream begins later."""
        if order(after) == (0, 0):
            return False
        found = await self._client.execute_command("XRANGE", self._key(queue), "-", "+", "COUNT", 1)
        return not found or order(found[0][0]) > order(after)

    async def unreadable(self, queues: Iterable[str]) -> dict[str, str]:
        """The queues whose events can't be read, and why."""
        found = {}
        for queue in queues:
            try:
                await self._client.execute_command("XRANGE", self._key(queue), "-", "+", "COUNT", 1)
            except ResponseError as error:
                if not is_wrong_type(error):
                    raise
                found[queue] = str(error)
        return found

    def _key(self, queue: str) -> str:
        return f"{self._prefix}:{queue}:events"


def is_wrong_type(error: Exception) -> bool:
    """Whether what lies under a stream's key is none."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def _flat(entries: Any) -> Sequence[tuple[str, Mapping[str, str]]]:
    """redis-py nests RESP3's answer once more."""
    return entries[0] if len(entries) == 1 and isinstance(entries[0], list) else entries
