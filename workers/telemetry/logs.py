"""Structured logs on one stream: structlog and the standard library's loggers go through one chain.

A record can't break its caller and can't forge another record: what can't be rendered is replaced by one line that
says where it came from, every value is redacted and bounded, and control characters are escaped. JSON is one line a
record; on a terminal only a stack takes more lines, and those stand behind a gutter.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog
from opentelemetry import trace
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from config.schema import LogConfig
from workers.telemetry.redaction import redact, redact_text

#: Frames, exceptions of a chain, and characters of each, that a stack shows: the nearest to the failure.
_FRAMES, _CHAIN, _STACK_TEXT = 15, 4, 4_096
#: The lowest number of our own descriptor: out of the way of code that closes the first few.
_HIGH = 200
#: Libraries whose debug records tell about themselves, not about jobs.
_CHATTY = ("asyncio", "aiohttp", "urllib3", "opentelemetry")
#: Line ends, terminal escapes, bidirectional overrides and lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def configure(config: LogConfig, *, stream: TextIO | None = None, process: str | None = None) -> None:
    """Send every record of this process to one stream. Called again, it replaces what it set before.

    Args:
        config: level and format. `auto` is pretty on a terminal, else JSON lines.
        stream: where records go. Defaults to the present `sys.stderr`, by a descriptor of our own: a job may close that
            one.
        process: a name that every record carries, since several processes share one stream. Defaults to none.
    """
    out = _own(sys.stderr) if stream is None else stream
    terminal = _is_terminal(out)
    pretty = config.format == "pretty" or (config.format == "auto" and terminal)
    renderer = _pretty(colors=terminal and not os.environ.get("NO_COLOR")) if pretty else _json
    handler = _StreamHandler(out, renderer, process, owned=stream is None and out is not sys.stderr)
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _StreamHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[config.level.upper()]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.INFO))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def stack_text(error: BaseException) -> str:
    """A traceback as Python prints it, redacted and bounded, the first cause first."""
    try:
        link: traceback.TracebackException | None = traceback.TracebackException.from_exception(
            error, limit=-_FRAMES, compact=True
        )
        texts: list[str] = []
        while link is not None and len(texts) < _CHAIN:
            texts.append(redact_text("".join(link.format(chain=False)), _STACK_TEXT))
            link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    except Exception:
        return f"<unprintable {type(error).__name__}>"
    return "\nwhich led to:\n".join(text.rstrip("\n") for text in reversed(texts))


def visible(text: str) -> str:
    """Show control characters as escapes, so that a text stays on its line and a terminal obeys nobody's mail."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


class _StreamHandler(logging.Handler):
    """Writes each record at once. Unlike the standard handlers it raises nothing into the code that logs."""

    def __init__(self, stream: TextIO, renderer: Processor, process: str | None, *, owned: bool) -> None:
        super().__init__()

        def name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
            return event if process is None else {"process": process, **event}

        self._stream = stream
        self._owned = owned
        self._renderer = renderer
        self.setFormatter(
            ProcessorFormatter(
                foreign_pre_chain=[ExtraAdder(), _drop_formatted],
                processors=[structlog.contextvars.merge_contextvars, name, _add_trace, _compose, renderer],
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a bad %-format, a hostile repr: the standard handler would raise or flood
            line = self._unrendered(record, error)
        with suppress(Exception):  # the reader is gone or the disk is full: nobody is left to tell
            self._stream.write(_encodable(line, self._stream) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Close the stream, if it is this handler's own."""
        super().close()
        if self._owned:
            with suppress(OSError):
                self._stream.close()

    def _unrendered(self, record: logging.LogRecord, error: Exception) -> str:
        fields: EventDict = {
            **_head(record, "a log record could not be rendered"),
            "at": f"{record.filename}:{record.lineno}",
            "error": type(error).__name__,
        }
        return str(self._renderer(None, record.levelname, fields))


def _drop_formatted(logger: WrappedLogger, name: str, fields: EventDict) -> EventDict:
    """What the formatter of another handler has left on the record, which `ExtraAdder` takes for fields."""
    fields.pop("message", None)
    fields.pop("asctime", None)
    return fields


def _add_trace(logger: WrappedLogger, name: str, fields: EventDict) -> EventDict:
    """The ids of the current span, unless the record brought its own."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "trace_id" not in fields:
        fields["trace_id"] = trace.format_trace_id(context.trace_id)
        fields["span_id"] = trace.format_span_id(context.span_id)
    return fields


def _head(record: logging.LogRecord, event: str) -> EventDict:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return {
        "timestamp": moment.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event,
    }


def _compose(logger: WrappedLogger, name: str, fields: EventDict) -> EventDict:
    """The record's own four fields first, then what was bound or passed, redacted; the stack last."""
    record: logging.LogRecord = fields.pop("_record")
    fields.pop("_from_structlog", None)
    event = fields.pop("event", "")
    if arguments := fields.pop("positional_args", None):  # structlog's log.info("%s", value)
        event = str(event) % arguments
    event = redact(event)
    error = _exception(fields.pop("exc_info", None))
    stack = fields.pop("stack_info", None)
    composed = _head(record, event if isinstance(event, str) else json.dumps(event))
    rest = redact({key: value for key, value in fields.items() if key not in composed})
    if isinstance(rest, dict):
        composed.update(rest)
    if error is not None:
        composed["exception"] = stack_text(error)
    elif isinstance(stack, str):
        composed["exception"] = redact_text(stack, _STACK_TEXT)
    return composed


def _exception(exc_info: object) -> BaseException | None:
    """The exception in any form that logging accepts: the instance, `sys.exc_info()`, or True for the current one."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple) and len(exc_info) == 3:
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def _json(logger: WrappedLogger, name: str, fields: EventDict) -> str:
    return json.dumps(fields)


def _pretty(*, colors: bool) -> Processor:
    """A renderer for people: time, level, event, then the fields; a stack behind a gutter."""
    style = ConsoleRenderer.get_default_column_styles(colors)
    levels = ConsoleRenderer.get_default_level_styles(colors)
    renderer = ConsoleRenderer(
        columns=[
            Column("timestamp", KeyValueColumnFormatter(None, style.timestamp, style.reset, lambda at: str(at)[11:])),
            Column("level", LogLevelColumnFormatter(levels, style.reset)),
            Column("event", KeyValueColumnFormatter(None, style.bright, style.reset, lambda e: visible(str(e)), 30)),
            Column("", KeyValueColumnFormatter(style.kv_key, style.kv_value, style.reset, _shown)),
        ],
        sort_keys=False,
    )

    def render(logger: WrappedLogger, name: str, fields: EventDict) -> str:
        safe = {visible(key): value for key, value in fields.items()}
        stacks = [str(safe.pop(key)) for key in ("stack", "exception") if key in safe]
        if stacks:  # the renderer prints these below the line, as they are
            safe["exception"] = "\n".join(f"    │ {visible(line)}" for line in "\n".join(stacks).split("\n"))
        return renderer(logger, name, safe)

    return render


def _shown(value: Any) -> str:
    """A value on its line: bare where it is one word, else as JSON."""
    if isinstance(value, str) and re.fullmatch(r"[^\s\"'=]+", value):
        return visible(value)
    return visible(json.dumps(value, ensure_ascii=False))


def _encodable(line: str, stream: TextIO) -> str:
    """What the stream's encoding lacks becomes an escape instead of an error."""
    if line.isascii():
        return line
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _own(stream: TextIO) -> TextIO:
    """The same file by a descriptor of a high number, where it is a file; a test's stand-in is not."""
    try:
        fd = fcntl.fcntl(stream.fileno(), fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except (AttributeError, OSError, ValueError):
        return stream
    return open(fd, "w", encoding=stream.encoding, errors="backslashreplace", buffering=1)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # no method, or a closed stream
        return False
