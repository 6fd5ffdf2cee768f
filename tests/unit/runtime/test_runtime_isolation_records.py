"""Log records on their way from a child to its host: bounded, whatever they hold, and never an error of who logs."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.isolation import records
from workers.runtime.isolation.records import Allowance, RecordSender, record_fields, write


def record(text: Any = "text", *args: Any, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("some.logger", logging.WARNING, "/x/file.py", 7, text, args, None)
    vars(made).update(extra)
    return made


class _UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def crossed(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_record_arrives_as_it_left(caplog: pytest.LogCaptureFixture) -> None:
    write(crossed(record_fields(record("a %s", "b", detail={"n": 1}))), queue="q")
    (found,) = caplog.records
    assert (found.name, found.levelname, found.getMessage()) == ("some.logger", "WARNING", "a b")
    assert (found.filename, found.lineno) == ("file.py", 7)
    assert (vars(found)["detail"], vars(found)["queue"]) == ({"n": 1}, "q")


def test_stack_arrives_as_text(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError("why")
    except KeyError as error:
        made = record(exc_info=(type(error), error, error.__traceback__))
    write(crossed(record_fields(made)))
    assert "KeyError: 'why'" in (caplog.records[0].stack_info or "")


@pytest.mark.parametrize(
    "made",
    [
        record("%d", "no number"),
        record("%s", _UnspeakableError()),
        record(_UnspeakableError()),
        record("x" * 100_000),
        record("\ud800"),
        record(**{f"key{n}": object() for n in range(100)}),
        record(value=_UnspeakableError(), other={1, 2}, nan=float("nan"), long="y" * 5000),
        record(exc_info=(_UnspeakableError, _UnspeakableError(), None)),
    ],
)
def test_any_record_becomes_json_of_bounded_size(made: logging.LogRecord) -> None:
    fields = record_fields(made)
    assert len(json.dumps(fields)) < 200_000
    assert len(fields["text"]) <= records.MAX_TEXT
    assert len(fields["extra"]) <= records.MAX_VALUES


def test_record_of_a_level_that_the_host_does_not_want_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    write(crossed(record_fields(record())))
    assert caplog.records == []


def test_loggers_that_a_child_invents_are_not_made_here(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(50):
        write({**record_fields(record()), "name": f"invented.{number}"})
    assert not [name for name in logging.Logger.manager.loggerDict if name.startswith("invented")]
    assert caplog.records[-1].name == "invented.49"


@given(st.dictionaries(st.sampled_from(["name", "level", "text", "at", "file", "line", "extra", "stack"]), st.text()))
def test_forged_record_is_refused_or_written(fields: Mapping[str, Any]) -> None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        write(fields)


def test_record_can_not_replace_what_is_the_hosts(caplog: pytest.LogCaptureFixture) -> None:
    write({**record_fields(record()), "extra": {"levelno": 10, "msg": "forged", "exc_info": True}})
    assert (caplog.records[0].levelno, caplog.records[0].getMessage()) == (logging.WARNING, "text")


def test_who_logs_feels_nothing_of_a_host_that_is_gone() -> None:
    def gone(message: Mapping[str, Any]) -> None:
        raise ValueError

    sender = RecordSender(gone)
    sender.emit(record())
    assert sender.allowance.refused == 1


def test_allowance_lets_a_burst_through_and_then_a_trickle() -> None:
    now = 0.0
    allowance = Allowance(5, 2.0, lambda: now)
    assert [allowance.take() for _ in range(7)] == [True] * 5 + [False] * 2
    assert allowance.refused == 2
    now = 1.0
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    now = 1000.0
    assert [allowance.take() for _ in range(6)] == [True] * 5 + [False]
