"""Log records of a child, which its host writes: with the job's fields, in its format, on its stream."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from workers.broker.result import clean
from workers.runtime.error_stack import error_stack

log = logging.getLogger(__name__)

#: Characters of a record's text, of a stack and of a value that came with it; the most values; frames of a stack.
MAX_TEXT, MAX_STACK, MAX_VALUE, MAX_VALUES, STACK_FRAMES = 8_192, 8_192, 1_024, 32, 15
#: Records that may come at once, and a second after that; what is more is counted and not sent, since the host has
#: other jobs to serve.
BURST, PER_SECOND = 500, 100.0

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Allowance:
    """A bucket of tokens.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, burst: int, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._rate, self._clock = burst, per_second, clock
        self._left, self._at = float(burst), clock()
        self.refused = 0
        """How many were refused since it was last set to 0."""

    def take(self) -> bool:
        """Whether one more may pass."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True


class RecordSender(logging.Handler):
    """Sends the records of a child to its host.

    Args:
        send: takes the message.
    """

    def __init__(self, send: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._send = send
        self.allowance = Allowance(BURST, PER_SECOND)

    def emit(self, record: logging.LogRecord) -> None:
        """Send it. Raises nothing into the code that logs."""
        if not self.allowance.take():
            return
        try:
            self._send({"is": "log", "record": record_fields(record)})
        except Exception:  # the host is gone, or the record can't be told: nobody is left to tell
            self.allowance.refused += 1


def record_fields(record: logging.LogRecord) -> dict[str, Any]:
    """A record as JSON, bounded."""
    extra = [(key, value) for key, value in vars(record).items() if key not in _OWN and not key.startswith("_")]
    fields: dict[str, Any] = {
        "name": record.name,
        "level": record.levelno,
        "text": _text(record),
        "at": record.created,
        "file": record.filename,
        "line": record.lineno,
        "extra": {clean(str(key), 100): _value(value) for key, value in extra[:MAX_VALUES]} | _trace(),
    }
    if record.exc_info and record.exc_info[1] is not None:
        fields["stack"] = _stack(record.exc_info[1])
    elif record.stack_info:
        fields["stack"] = clean(record.stack_info, MAX_STACK)
    return fields


def write(fields: Any, **more: Any) -> None:
    """Write a child's record here.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    name, level = str(fields["name"])[:200], int(fields["level"])
    logger = logging.getLogger(name if name in logging.Logger.manager.loggerDict or name == "root" else "fleet.child")
    if not logger.isEnabledFor(level):
        return
    extra = {str(key): value for key, value in dict(fields["extra"]).items() if str(key) not in _OWN}
    at = float(fields["at"])
    record = logging.makeLogRecord(
        {
            **extra,
            **more,
            "name": name,
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": str(fields["text"])[:MAX_TEXT],
            "args": None,
            "created": at,
            "msecs": (at % 1) * 1000,
            "filename": str(fields["file"])[:100],
            "lineno": int(fields["line"]),
            "stack_info": str(fields["stack"])[:MAX_STACK] if "stack" in fields else None,
        }
    )
    logger.handle(record)


def log_uncaught() -> None:
    """From now on, exceptions that nobody catches (in `__del__`, in threads) become records, each kind once."""
    told: set[tuple[str, str]] = set()

    def once(error: BaseException | None, where: str) -> None:
        kind = (type(error).__name__, where)
        if kind not in told and len(told) < MAX_VALUES:
            told.add(kind)
            log.error("an exception that nobody catches, %s (told once)", where, exc_info=error)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        # The object may be half gone, and its repr may raise: its class alone is safe to name.
        once(args.exc_value, f"{args.err_msg or 'ignored'} in {type(args.object).__name__}")

    sys.unraisablehook = unraisable
    threading.excepthook = lambda args: once(args.exc_value, "in a thread")


def _text(record: logging.LogRecord) -> str:
    try:
        return clean(record.getMessage(), MAX_TEXT)
    except Exception as error:  # a bad %-format, a hostile repr
        return f"a log record could not be rendered ({type(error).__name__} at {record.filename}:{record.lineno})"


def _value(value: Any) -> Any:
    """What is short and JSON as it is, else its text."""
    try:
        text = json.dumps(value, allow_nan=False)
    except Exception:
        text = ""
    if text and len(text) <= MAX_VALUE:
        return value
    try:
        return clean(str(value), MAX_VALUE)
    except Exception:
        return f"<{type(value).__name__}>"


def _stack(error: BaseException) -> str:
    return error_stack(error, STACK_FRAMES, MAX_STACK) or f"<unprintable {type(error).__name__}>"


def _trace() -> dict[str, str]:
    """The ids of a span that the child's own code has opened; the host knows those of the job."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": api.format_trace_id(context.trace_id), "span_id": api.format_span_id(context.span_id)}
