"""Reads what belongs to one job beside its row: its children, and its log. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from redis.asyncio import Redis

from workers.broker.batch import Batch, Command, Lua, told
from workers.broker.job_view import JobKey
from workers.broker.json_text import UnreadableError
from workers.broker.json_text import read as read_json

Kind: TypeAlias = Literal["processed", "unprocessed", "ignored", "failed"]

#: What is behind each kind of child: the end of the key, and the type. Source: npm bullmq, Job.getDependencies.
#: `failed` are those because of which the parent fails; why they did is in their own rows. Without the `ignored` ones
#: it goes on.
KINDS: dict[Kind, tuple[str, str]] = {
    "processed": (":processed", "hash"),
    "unprocessed": (":dependencies", "set"),
    "ignored": (":failed", "hash"),
    "failed": (":unsuccessful", "zset"),
}
_COUNTS = {"hash": "HLEN", "set": "SCARD", "zset": "ZCARD"}
#: Bytes of a child's result, of a line of a log, and of all that one look returns.
MAX_VALUE, MAX_LINE, MAX_REPLY = 4096, 16 * 1024, 4 * 2**20

_PAGE = Lua("""
local kind, cursor, count, limit = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if kind == "zset" then
  local first = tonumber(cursor)
  local found = redis.call("ZRANGE", KEYS[1], first, first + count - 1)
  return {#found == count and tostring(first + count) or "0", found}
end
local page = redis.call(kind == "set" and "SSCAN" or "HSCAN", KEYS[1], cursor, "COUNT", count)
if kind == "hash" then
  for i = 2, #page[2], 2 do
    if #page[2][i] > limit then page[2][i] = string.sub(page[2][i], 1, limit) .. "…" end
  end
end
return page
""")

_LINES = Lua("""
local first, count, limit, left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local total, lines = redis.call("LLEN", KEYS[1]), {}
for _, line in ipairs(redis.call("LRANGE", KEYS[1], first, first + count - 1)) do
  if #line > limit then line = string.sub(line, 1, limit) .. "…" end
  left = left - #line
  if left < 0 then break end
  lines[#lines + 1] = line
end
return {total, lines}
""")


@dataclass(frozen=True, slots=True)
class Child:
    """A child of a job."""

    key: JobKey
    value: Any = None
    """Of a processed one its result, of an ignored one why it failed; cut after 4 KB, then as text."""

    def json(self) -> dict[str, Any]:
        """For output."""
        return {**self.key.json(), "value": self.value}


@dataclass(frozen=True, slots=True)
class Children:
    """Children of one kind, as many as one look shows."""

    total: int
    items: tuple[Child, ...]
    cursor: str | None
    """For the next ones; None: these were the last."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What belongs to one job."""

    logs: int
    """Lines of its log."""
    children: dict[Kind, Children]


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a log. Long ones are cut."""

    total: int
    lines: tuple[str, ...]


class ChildrenReader:
    """Reads children and logs of the jobs under one prefix.

    Every method raises redis.exceptions.RedisError or OSError where Redis is away, or does not permit the look.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
    """

    def __init__(self, client: Redis, prefix: str) -> None:
        self._prefix = prefix
        self._batch = Batch(client, _PAGE, _LINES)

    async def beside(self, queue: str, job_id: str, *, limit: int) -> Beside:
        """How long its log is, how many children of each kind it has, and the first of them. One round trip.

        Args:
            limit: children of each kind, about: Redis may show some more.
        """
        row = f"{self._prefix}:{queue}:{job_id}"
        asked = [("LLEN", f"{row}:logs"), *(each for kind in KINDS for each in _commands(row, kind, "0", limit))]
        logs, *replies = [told(reply) for reply in await self._batch(asked)]
        pairs = zip(KINDS, replies[::2], replies[1::2], strict=True)
        return Beside(logs, {kind: self._children(kind, total, page) for kind, total, page in pairs})

    async def children(self, queue: str, job_id: str, kind: Kind, *, cursor: str, limit: int) -> Children:
        """More children of one kind. As they are kept in no order, one that is added or moved meanwhile may come twice
        or not at all; the others come at least once.

        Args:
            cursor: of the page before; "0" for the first.
        """
        row = f"{self._prefix}:{queue}:{job_id}"
        total, page = [told(reply) for reply in await self._batch(_commands(row, kind, cursor, limit))]
        return self._children(kind, total, page)

    async def log(self, queue: str, job_id: str, *, start: int, limit: int) -> Lines:
        """Lines of its log from this one on, the first is 0; fewer than `limit` where they are long."""
        key = f"{self._prefix}:{queue}:{job_id}:logs"
        (reply,) = await self._batch([_LINES.call([key], [start, limit, MAX_LINE, MAX_REPLY])])
        total, lines = told(reply)
        return Lines(total, tuple(lines))

    def _children(self, kind: Kind, total: int, page: Sequence[Any]) -> Children:
        cursor, found = page
        if KINDS[kind][1] == "hash":
            items = [Child(JobKey.of(key, self._prefix), _value(kind, text)) for key, text in _pairs(found)]
        else:
            items = [Child(JobKey.of(key, self._prefix)) for key in found]
        return Children(total, tuple(items), None if str(cursor) == "0" else str(cursor))


def _commands(row: str, kind: Kind, cursor: str, limit: int) -> list[Command]:
    suffix, kept = KINDS[kind]
    return [(_COUNTS[kept], row + suffix), _PAGE.call([row + suffix], [kept, cursor, limit, MAX_VALUE])]


def _pairs(flat: Sequence[str]) -> zip[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _value(kind: Kind, text: str) -> Any:
    if kind == "ignored":  # a failure's reason is stored as it is, a result as JSON
        return text
    try:
        return read_json(text, "returnvalue")
    except UnreadableError:
        return text
