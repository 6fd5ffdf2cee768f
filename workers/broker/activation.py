"""One job as it was fetched: BullMQ's hash, read tolerantly, because a bad row must fail with its real reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from workers.broker.numbers import is_number, whole

_KINDS = {NoneType: "null", bool: "true or false", str: "a string", list: "a list"}


_DIGITS = re.compile(r"-?[0-9]{1,19}")
#: A count of attempts that can still grow in a Redis integer.
MAX_COUNT = 2**62


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


def parse(queue: str, job_id: str, flat: Sequence[str] | Mapping[str, str], token: str) -> Activation:
    """Read the reply of HGETALL. Never raises: what can't be read is listed in `defects`."""
    row = dict(flat) if isinstance(flat, Mapping) else dict(zip(flat[::2], flat[1::2], strict=False))
    defects: list[str] = []
    text = row.get("data", "")
    opts = _json(row.get("opts", "{}"), "opts", defects)
    if not isinstance(opts, dict):
        if not defects:
            defects.append(f"opts: expected an object, found {_KINDS.get(type(opts), 'a number')}")
        opts = {}
    stack = _json(row.get("stacktrace", "[]"), "stacktrace", [])
    broken = _broken(row, defects)
    return Activation(
        queue=queue,
        id=job_id,
        token=token,
        name=row.get("name", ""),
        data=_json(text, "data", defects),
        opts=opts,
        data_bytes=len(text.encode("utf-8", "surrogatepass")),
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
        parent = _json(text, "parent", [])
        named = isinstance(parent, dict) and all(isinstance(parent.get(key), str) for key in ("id", "queueKey"))
        if not named:
            broken.add("parent")
            defects.append("parent: expected an object with id and queueKey")
    return frozenset(broken)


def _int(text: str | None, default: int = 0) -> int:
    try:
        number = float(text or default)
    except ValueError:
        return default
    return whole(number) if is_number(number) else default


def _json(text: str, name: str, defects: list[str]) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        defects.append(f"{name}: nested too deeply")
    except ValueError as error:
        defects.append(f"{name}: not JSON ({error})")
    return None
