"""One job as it was fetched: BullMQ's hash, read tolerantly, because a bad row must fail with its real reason."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from workers.broker.json_text import UnreadableError, read
from workers.broker.numbers import MAX_SAFE, is_number, whole

_KINDS = {NoneType: "null", bool: "true or false", str: "a string", list: "a list"}
_DIGITS = re.compile(r"-?[0-9]{1,19}")
_SAFE_DIGITS = len(str(MAX_SAFE))

#: A count of attempts that can still grow in a Redis integer.
MAX_COUNT = 2**62
#: Characters of the longest `opts` and `parent` that are parsed. What producers write there is a few hundred long.
MAX_OPTS = 2**20
#: Characters of the longest `stacktrace` that is parsed: above all that a worker stores (`MAX_STACKS`, `MAX_STACK`).
MAX_STACKTRACE = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What of a job is parsed at all, and how its data are refused beyond that."""

    data_bytes: int | None = None
    """Bytes of the largest data, as stored. None: whatever Redis holds."""
    depth: int | None = None
    """The levels that the reader of the data accepts; named where the parser itself gives up."""


UNBOUNDED = Bounds()


def too_large(size: int, limit: int) -> str:
    """Why data of so many bytes are refused."""
    return f"data: {size:,} bytes, more than the {limit:,} this queue accepts (max_data)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A job that became active under our lock.

    Times are milliseconds since the epoch, as BullMQ stores them.
    """

    queue: str
    id: str
    token: str
    """The lock token; it belongs to the slot."""
    name: str = ""
    data: Any = None
    opts: Mapping[str, Any] = field(default_factory=dict)
    data_bytes: int = 0
    attempts_made: int = 0
    fence: int = 1
    """BullMQ's `ats`."""
    stalls: int = 0
    timestamp: int = 0
    processed_on: int = 0
    priority: int = 0
    stack: tuple[str, ...] = ()
    deferred_failure: str | None = None
    """Set by BullMQ when the job must fail without running: it stalled too often, or a child failed."""
    defects: tuple[str, ...] = ()
    """What of the row could not be read; the job fails with these words."""
    broken: frozenset[str] = frozenset()
    """Fields that BullMQ's scripts would stumble over half-way; mended before the job is ended."""
    raw: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def type(self) -> str:
        """`data.type`, or empty where there is none."""
        value = self.data.get("type") if isinstance(self.data, dict) else None
        return value if isinstance(value, str) else ""

    @property
    def scheduler(self) -> str | None:
        """The id of the job scheduler that made this job."""
        return self.raw.get("rjk") or None

    @property
    def due(self) -> int:
        """When it was first to be started: its timestamp plus the delay it was added with."""
        delay = self.opts.get("delay")
        return self.timestamp + (whole(delay) if is_number(delay) else 0)

    @property
    def wait_s(self) -> float | None:
        """Seconds between being due and being started; None after the first start, where BullMQ keeps no due time."""
        if self.fence > 1 or self.attempts_made or self.stalls:
            return None
        return max(0.0, (self.processed_on - self.due) / 1000)


def parse(
    queue: str, job_id: str, flat: Sequence[str] | Mapping[str, str], token: str, bounds: Bounds = UNBOUNDED
) -> Activation:
    """Read the reply of HGETALL. Never raises: what can't be read, or is too large to be, is listed in `defects`."""
    row = dict(flat) if isinstance(flat, Mapping) else dict(zip(flat[::2], flat[1::2], strict=False))
    defects: list[str] = []
    opts = _json(row.get("opts", "{}"), "opts", defects, MAX_OPTS)
    if not isinstance(opts, dict):
        if not defects:
            defects.append(f"opts: expected an object, found {_KINDS.get(type(opts), 'a number')}")
        opts = {}
    stack = _json(row["stacktrace"], "stacktrace", [], MAX_STACKTRACE) if "stacktrace" in row else ()
    broken = _broken(row, defects)
    data, data_bytes = _data(row.get("data", ""), bounds, defects)
    if row.get("rjk") and isinstance(data, dict) and not data.keys() & {"id", "idempotencyKey"}:
        data = {**data, "id": job_id}  # all runs of a scheduler have the same data: each is a task of its own
    return Activation(
        queue=queue,
        id=job_id,
        token=token,
        name=row.get("name", ""),
        data=data,
        opts=opts,
        data_bytes=data_bytes,
        attempts_made=_int(row.get("atm") or row.get("attemptsMade")),
        fence=_int(row.get("ats"), 1),
        stalls=_int(row.get("stc")),
        timestamp=_int(row.get("timestamp")),
        processed_on=_int(row.get("processedOn")),
        priority=_int(row.get("priority")),
        stack=tuple(s for s in stack if isinstance(s, str)) if isinstance(stack, list) else (),
        deferred_failure=row.get("defa") or None,
        defects=tuple(defects),
        broken=broken,
        raw=row,
    )


def _broken(row: Mapping[str, str], defects: list[str]) -> frozenset[str]:
    """moveToFinished-14.lua adds 1 to `atm` and joins two fields of `parent`, after it has released the lock."""
    broken = set()
    made = row.get("atm")
    if made is not None and not (_DIGITS.fullmatch(made) and int(made) < MAX_COUNT):
        broken.add("atm")
        defects.append(f"atm: expected a number of attempts, found {made[:40]!r}")
    if (text := row.get("parent")) is not None:
        parent = _json(text, "parent", [], MAX_OPTS)
        named = isinstance(parent, dict) and all(isinstance(parent.get(key), str) for key in ("id", "queueKey"))
        if not named:
            broken.add("parent")
            defects.append("parent: expected an object with id and queueKey")
    return frozenset(broken)


def _int(text: str | None, default: int = 0) -> int:
    if not text:
        return default
    if len(text) < _SAFE_DIGITS and text.isdecimal():  # nearly always, and several times faster
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return default
    return whole(number) if is_number(number) else default


def _data(text: str, bounds: Bounds, defects: list[str]) -> tuple[Any, int]:
    """The data, and their bytes; what is too large is not parsed."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if bounds.data_bytes is not None and size > bounds.data_bytes:
        defects.append(too_large(size, bounds.data_bytes))
        return None, size
    try:
        return read(text, "data", max_depth=bounds.depth), size
    except UnreadableError as error:
        defects.append(str(error))
    return None, size


def _json(text: str, name: str, defects: list[str], max_chars: int) -> Any:
    if len(text) > max_chars:
        defects.append(f"{name}: {len(text):,} characters, more than the {max_chars:,} that are read")
        return None
    try:
        return read(text, name)
    except UnreadableError as error:
        defects.append(str(error))
    return None
