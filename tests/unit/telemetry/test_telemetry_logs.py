"""What reaches the stream: one honest line a record, from structlog and from the standard library alike."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NoReturn

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from structlog.contextvars import bound_contextvars

from config.schema import LogConfig
from workers.telemetry.logs import configure, stack_text, visible
from workers.telemetry.redaction import HIDDEN, MAX_TEXT

Style = Literal["auto", "json", "pretty"]
SECRET = "hunter2hunter2"
log = logging.getLogger("workers.broker.worker")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Hostile:
    """Raises whatever is asked of it, with the one error that logging lets through to its caller."""

    def __repr__(self) -> NoReturn:
        raise RecursionError

    __str__ = __repr__


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is global: put back what was there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("asyncio", "aiohttp", "urllib3", "opentelemetry")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def start(style: Style = "json", level: Any = "info", stream: io.StringIO | None = None) -> io.StringIO:
    out = stream or io.StringIO()
    logging.getLogger().handlers.clear()  # pytest's own would raise where ours must not
    configure(LogConfig(format=style, level=level), stream=out)
    return out


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_both_kinds_of_loggers_write_the_same_four_fields_and_their_own() -> None:
    out = start()
    log.warning("retrying %s", "mail", extra={"queue": "email-send"})
    structlog.get_logger("workers.broker.worker").warning("retrying mail", queue="email-send")
    structlog.get_logger("workers.broker.worker").warning("retrying %s", "mail", queue="email-send")
    first, *others = lines(out)
    assert list(first) == ["timestamp", "level", "logger", "event", "queue"]
    for line in (first, *others):
        stamp = line.pop("timestamp")
        assert len(stamp) == len("2026-11-24T03:05:00.123Z")
        assert abs(datetime.fromisoformat(stamp) - datetime.now(UTC)) < timedelta(minutes=1)
    assert first == {
        "level": "warning", "logger": "workers.broker.worker", "event": "retrying mail", "queue": "email-send",
    }  # fmt: skip
    assert others == [first, first]


def test_what_another_handler_has_formatted_is_no_field() -> None:
    out = start()
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "hello", (), None)
    logging.Formatter("%(asctime)s %(message)s").format(record)
    log.handle(record)
    assert lines(out)[0].keys() == {"timestamp", "level", "logger", "event"}


@pytest.mark.parametrize(
    ("level", "seen"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level_holds_for_both_kinds_of_loggers(level: str, seen: int) -> None:
    out = start(level=level)
    for logger in (log, structlog.get_logger("x")):
        for method in (logger.debug, logger.info, logger.warning, logger.error):
            method("x")
    assert len(lines(out)) == 2 * seen


def test_libraries_do_not_chat_on_debug_level() -> None:
    out = start(level="debug")
    logging.getLogger("urllib3.connectionpool").debug("Starting new HTTP connection")
    logging.getLogger("asyncio").warning("slow callback")
    assert [line["event"] for line in lines(out)] == ["slow callback"]


def test_bound_context_is_on_every_record_and_own_fields_win() -> None:
    out = start()
    with bound_contextvars(queue="email-send", job_id="7", attempt=2):
        log.info("a")
        structlog.get_logger("x").info("b", job_id="8")
    log.info("c")
    a, b, c = lines(out)
    assert (a["queue"], a["job_id"], a["attempt"]) == ("email-send", "7", 2)
    assert (b["job_id"], b["attempt"]) == ("8", 2)
    assert "queue" not in c


def test_the_current_span_gives_trace_and_span_id() -> None:
    out = start()
    span = TracerProvider().get_tracer("t").start_span("process q")
    context = span.get_span_context()
    with trace.use_span(span):
        log.info("inside")
        log.info("own", extra={"trace_id": "f" * 32})
    log.info("outside")
    inside, own, outside = lines(out)
    assert inside["trace_id"] == f"{context.trace_id:032x}"
    assert inside["span_id"] == f"{context.span_id:016x}"
    assert own["trace_id"] == "f" * 32
    assert "span_id" not in own
    assert "trace_id" not in outside


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_secrets_are_hidden_wherever_a_record_carries_them(style: Style) -> None:
    out = start(style)
    url = f"redis://user:{SECRET}@host"
    log.info("connecting to %s", url)
    log.info("x", extra={"smtp_password": SECRET, "nested": {"a": [{"token": SECRET}]}})
    with bound_contextvars(api_key=SECRET):
        structlog.get_logger("x").info(url, authorization=SECRET, recipient="dora@example.com")
    try:
        raise ConnectionError(f"no {url}")
    except ConnectionError as error:
        log.exception("failed: %s", error)
        structlog.get_logger("x").error("failed", exc_info=error)
    log.error("here", stack_info=True, extra={"password": SECRET})
    assert SECRET not in out.getvalue()
    assert out.getvalue().count(HIDDEN) >= 10
    assert "d***@example.com" in out.getvalue()


def test_an_exception_is_a_field_with_its_stack_and_causes() -> None:
    out = start()
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer\nforged") from error
    except ValueError:
        log.exception("boom")
        structlog.get_logger("x").exception("boom")
    first, second = lines(out)
    for line in (first, second):
        text = line["exception"]
        assert line["level"] == "error"
        assert text.index("KeyError: 'inner'") < text.index("which led to") < text.index("ValueError: outer\nforged")
        assert "test_telemetry_logs.py" in text


def test_a_stack_keeps_its_end_however_deep_and_long_it_is() -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError("the reason")

    def chained(links: int) -> None:
        try:
            if links:
                chained(links - 1)
            else:
                raise OSError("x" * 5_000_000)
        except OSError as error:
            raise OSError(f"link {links}" + "y" * 5_000_000) from error

    with pytest.raises(ValueError) as info:
        deep(500)
    assert stack_text(info.value).endswith("ValueError: the reason")
    with pytest.raises(OSError) as long:
        chained(50)
    assert "link 50" in stack_text(long.value)
    assert len(stack_text(long.value)) < 5 * (MAX_TEXT + 100)


def test_an_exception_group_shows_its_members() -> None:
    group = ExceptionGroup("several", [ValueError("one"), OSError(f"password={SECRET}")])
    text = stack_text(group)
    assert "ValueError: one" in text
    assert SECRET not in text


class HostileError(Exception):
    def __str__(self) -> NoReturn:
        raise KeyError


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_nothing_hostile_raises_into_the_code_that_logs(style: Style) -> None:
    out = start(style)
    log.info("%s", Hostile())
    log.info("%d", "not a number")
    log.info("field", extra={"value": Hostile(), "cycle": (cycle := [])})  # type: ignore[var-annotated]
    cycle.append(cycle)
    log.error("error", exc_info=HostileError())
    structlog.get_logger("x").info("%d", "not a number")
    structlog.get_logger("x").info(Hostile(), value=object())
    assert len(out.getvalue().splitlines()) >= 6
    assert out.getvalue().count("a log record could not be rendered") == 3
    assert "test_telemetry_logs.py:" in out.getvalue()
    assert "<unprintable Hostile>" in out.getvalue()


@pytest.mark.parametrize("stream", ["closed", "broken"])
def test_a_stream_that_is_gone_is_no_error(stream: str, capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> NoReturn:
            raise BrokenPipeError

    out = Broken() if stream == "broken" else io.StringIO()
    start(stream=out)
    if stream == "closed":
        out.close()
    log.error("anybody?")
    assert capfd.readouterr() == ("", "")


FORGERIES = (
    "ok\n2026-11-24 [error] forged",
    "ok\r\nforged",
    "ok\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029forged",
    "\x1b[2J\x1b[31mforged",
    "\x9b2Jforged",
    "\u202eforged",
    "\x00\x08\x7fforged",
    "\ud800forged",
)


@pytest.mark.parametrize("text", FORGERIES)
@pytest.mark.parametrize("style", ["json", "pretty"])
@pytest.mark.parametrize("place", ["event", "argument", "value", "nested", "key", "bound", "stack"])
def test_user_content_can_not_forge_a_line(style: Style, place: str, text: str) -> None:
    out = start(style)
    match place:
        case "event":
            structlog.get_logger("x").info(text)
        case "argument":
            log.info("to %s", text)
        case "value":
            log.info("x", extra={"subject": text})
        case "nested":
            log.info("x", extra={"d": {text: [text]}})
        case "key":
            log.info("x", extra={text: 1, "level": text, "timestamp": text})
        case "bound":
            with bound_contextvars(job_name=text):
                log.info("x")
        case "stack":
            log.info("x", extra={"exception": text, "stack": text})
    first, *rest = out.getvalue().removesuffix("\n").splitlines()
    assert not first.startswith("forged")
    assert all(line.startswith("    │ ") for line in rest)
    assert not rest or (style == "pretty" and place == "stack")
    assert visible(out.getvalue().replace("\n", "")) == out.getvalue().replace("\n", "")


def test_a_stack_on_a_terminal_stands_behind_a_gutter() -> None:
    out = start("pretty")
    try:
        raise ValueError("one\n00:00:00.000Z [info] forged\n\x1b[2J")
    except ValueError:
        log.exception("boom")
    first, *rest = out.getvalue().splitlines()
    assert "[error" in first
    assert len(rest) >= 5
    assert all(line.startswith("    │ ") for line in rest)
    assert "\x1b" not in out.getvalue()


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.floats() | st.text() | st.binary(), st.lists)), st.text())
def test_every_record_is_one_line_of_json(fields: dict[str, Any], event: str) -> None:
    out = start()
    log.info("%s", event, extra={k: v for k, v in fields.items() if k not in ("message", "asctime", *vars(RECORD))})
    (line,) = out.getvalue().removesuffix("\n").split("\n")
    assert json.loads(line)["logger"] == log.name


RECORD = logging.LogRecord("x", 20, "x", 1, "x", (), None)


def test_a_huge_record_is_bounded() -> None:
    out = start()
    log.info("%s", "x" * 5_000_000, extra={"a": ["y" * 5_000_000] * 10, "b": list(range(1_000_000))})
    assert len(out.getvalue()) < 64 * 1024


@pytest.mark.parametrize(
    ("style", "stream", "json_lines"),
    [
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
        ("json", Terminal(), True),
        ("pretty", io.StringIO(), False),
    ],
)
def test_auto_is_pretty_on_a_terminal_alone(style: Style, stream: io.StringIO, json_lines: bool) -> None:
    start(style, stream=stream)
    log.info("hello")
    assert stream.getvalue().startswith("{") == json_lines


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    wanted = start(stream=Terminal(), style="auto")
    log.info("hello")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = start(stream=Terminal(), style="auto")
    log.info("hello")
    assert "\x1b[" in wanted.getvalue()
    assert "\x1b[" not in plain.getvalue()


def test_configured_again_it_writes_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    for out in (first, second):
        configure(LogConfig(format="json"), stream=out)
    log.info("x")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_warnings_become_records() -> None:
    out = start()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("old\nthing", DeprecationWarning, "x.py", 1)
    (line,) = lines(out)
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert "old\nthing" in line["event"]


def test_a_stream_without_unicode_gets_escapes() -> None:
    script = (
        "import logging\nfrom config.schema import LogConfig\nfrom workers.telemetry.logs import configure\n"
        "configure(LogConfig(format='pretty'))\nlogging.getLogger('x').info('caf\\u00e9 \\u2713')\n"
    )
    env = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, timeout=60, check=True)
    assert rb"caf\xe9 \u2713" in run.stderr
