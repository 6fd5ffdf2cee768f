"""Exceptions of all kinds, for what must be able to deal with any."""

from __future__ import annotations

import asyncio
import builtins
import json
import ssl
from collections.abc import Callable
from functools import partial

from pydantic import BaseModel

from workers.contract import (
    BudgetError,
    CrashedError,
    JobError,
    PermanentError,
    RateLimitError,
    TransientError,
    UserError,
)


class SilentError(Exception):
    """Says nothing."""


class BrokenError(Exception):
    """Its text can't be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class _Model(BaseModel):
    number: int


def _raised(make: Callable[[], object]) -> Callable[[], Exception]:
    """The exception that this raises."""

    def raised() -> Exception:
        try:
            make()
        except Exception as error:
            return error
        raise AssertionError("it raised nothing")

    return raised


def _chained() -> Exception:
    error = RuntimeError("above")
    error.__cause__ = ConnectionResetError(104, "below")
    error.__context__ = error  # as deep as one likes
    return error


def _builtin() -> list[Callable[[], Exception]]:
    found: list[Callable[[], Exception]] = []
    for kind in vars(builtins).values():
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            continue
        for arguments in ((), ("text",), (5, "text"), ("utf-8", b"\xff", 0, 1, "text")):
            try:
                kind(*arguments)
            except TypeError:
                continue
            found.append(partial(kind, *arguments))
    return found


#: Each makes one.
EXCEPTIONS: tuple[Callable[[], Exception], ...] = (
    *_builtin(),
    SilentError,
    BrokenError,
    lambda: Exception(b"\xff", object(), None),
    lambda: Exception("\ud800 half a character"),
    lambda: Exception("x" * 1_000_000),
    lambda: ExceptionGroup("several", [ValueError("a"), ExceptionGroup("inner", [OSError(5, "b")])]),
    _chained,
    lambda: asyncio.InvalidStateError(),
    lambda: asyncio.IncompleteReadError(b"", 5),
    lambda: asyncio.LimitOverrunError("text", 5),
    lambda: ssl.SSLError(1, "text"),
    lambda: ssl.SSLCertVerificationError(1, "text"),
    _raised(lambda: json.loads("{")),
    _raised(lambda: _Model.model_validate({"number": "x"})),
    lambda: JobError("text"),
    lambda: TransientError("text", retry_after_s=float("nan")),
    lambda: RateLimitError("text", retry_after_s=5.0),
    lambda: CrashedError("text"),
    lambda: PermanentError("text"),
    lambda: BudgetError(""),
    lambda: UserError("text"),
)
