"""Where a list of jobs goes on: an opaque text for whoever asks, checked like anything else that comes from outside."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from workers.broker.job_reader import MAX_ANCHORS, Mark, Order
from workers.broker.json_text import UnreadableError
from workers.broker.json_text import read as read_json
from workers.broker.numbers import MAX_SAFE
from workers.queue_service.errors import InvalidRequestError

#: Characters of the longest cursor: it has to fit into an address.
MAX_CHARS = 6000
_VERSION = 1
_SCORE = re.compile(r"[-+0-9.e]{1,32}|-?inf")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a list of several states is."""

    state: str
    mark: Mark | None = None
    """Within the state; None: at its beginning."""


def write(place: Place, *, of: str, order: Order) -> str:
    """The cursor for what follows.

    Args:
        of: what is listed; the cursor is good for that alone.
    """
    mark = place.mark
    parts: list[Any] = [_VERSION, _digest(of, order), place.state]
    if mark is not None:
        parts += [mark.score, mark.job_id, mark.place, mark.length, list(mark.anchors)]
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def read(cursor: str, *, of: str, order: Order, states: tuple[str, ...]) -> Place:
    """What a cursor says.

    Raises:
        InvalidRequestError: it is none of ours, or of another list.
    """
    parts = _parts(cursor)
    if parts[0] != _VERSION or len(parts) not in (3, 8):
        _refuse()
    if parts[1] != _digest(of, order) or parts[2] not in states:
        raise InvalidRequestError("cursor", "is of another list: ask for the first page of this one")
    return Place(parts[2], _mark(parts[3:]) if len(parts) == 8 else None)


def _parts(cursor: str) -> list[Any]:
    if not isinstance(cursor, str) or len(cursor) > MAX_CHARS or not cursor.isascii():
        _refuse()
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        parts = read_json(raw.decode("utf-8", "surrogatepass"), "cursor")
    except (binascii.Error, UnicodeDecodeError, UnreadableError):
        _refuse()
    return parts if isinstance(parts, list) and parts else _refuse()


def _mark(parts: list[Any]) -> Mark:
    score, job_id, place, length, anchors = parts
    if not isinstance(score, str) or not isinstance(job_id, str | None) or not isinstance(anchors, list):
        _refuse()
    if score and (not _SCORE.fullmatch(score) or not _is_number(score)):
        _refuse()
    if not all(type(each) is int and 0 <= each <= MAX_SAFE for each in (place, length)):
        _refuse()
    if len(anchors) > MAX_ANCHORS or not all(isinstance(each, str) for each in anchors):
        _refuse()
    return Mark(score, job_id, place, length, tuple(anchors))


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


def _digest(of: str, order: Order) -> str:
    return hashlib.sha256(f"{order} {of}".encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _refuse() -> NoReturn:
    raise InvalidRequestError("cursor", "is none that a page ended with: ask for the first page")
