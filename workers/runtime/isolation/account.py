"""What a child tells its host of a run that has ended: how, what memory it took, and what it has left behind."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from workers.broker import result
from workers.contract import Verdict
from workers.runtime import retry
from workers.runtime.containment import EscapedError
from workers.runtime.isolation import surroundings
from workers.runtime.isolation.family import Leftovers
from workers.runtime.isolation.frames import FrameError
from workers.runtime.isolation.gauge import Gauge, Reading
from workers.runtime.isolation.processors import ResultError, checked
from workers.runtime.isolation.records import RecordSender
from workers.runtime.isolation.wire import failure_fields, outcome_fields
from workers.runtime.opinion import classified

log = logging.getLogger(__name__)


class Account:
    """Made when the module is open: what it has started or changed for itself is no job's.

    Args:
        send: sends a message to the host.
        records: sends the log; knows what it has dropped.
    """

    def __init__(self, send: Callable[[Mapping[str, Any]], None], records: RecordSender) -> None:
        self._send = send
        self._records = records
        self._gauge = Gauge()
        self._before: int | None = None
        self._standard = surroundings.Standard()
        self._leftovers = Leftovers()
        self._look()

    def close(self, run: int, said: Mapping[str, Any]) -> None:
        """Tell the host that this run is over, and prepare for the next.

        Args:
            said: how it has ended.
        """
        after = self._gauge.read()
        surroundings.flush()
        more: dict[str, Any] = {"memory": _memory(self._before, after)}
        if not self._standard.intact():
            more["spent"] = True
        if left := self._leftovers.end():
            more["left_behind"] = left
        if refused := self._records.allowance.refused:
            more["unlogged"], self._records.allowance.refused = refused, 0
        self._tell({"is": "done", "run": run, **said, **more})
        self._look()

    def _tell(self, done: Mapping[str, Any]) -> None:
        try:
            self._send(done)
            return
        except FrameError as error:
            failure = ResultError(f"its result can't leave its child process: {error}")
            said: Mapping[str, Any] = {"failure": failure_fields(failure, retry.verdict_of(failure))}
        except Exception:  # no JSON: replaced by the words that would replace it where it is stored
            text, note = result.dump(done["result"])
            log.warning("%s", note)
            said = {"result": json.loads(text)}
        self._send({**done, "result": None, **said})

    def _look(self) -> None:
        """Before the next job, while nobody waits."""
        self._gauge.reset_peak()
        self._before = self._gauge.resident()


def returned(value: Any) -> dict[str, Any]:
    """A run that returned this.

    Raises:
        ResultError: see processors.checked.
    """
    value = checked(value)
    fields = outcome_fields(value)
    return {"result": value} if fields is None else {"outcome": fields}


def raised(error: BaseException, classify: Callable[[Exception], Verdict]) -> dict[str, Any]:
    """A run that raised this, of which its module has this opinion."""
    failure = error if isinstance(error, Exception) else _escaped(error)
    return {"failure": failure_fields(failure, classified(failure, classify))}


def _escaped(error: BaseException) -> EscapedError:
    escaped = EscapedError(error)
    escaped.__cause__ = error
    return escaped


def _memory(before: int | None, after: Reading | None) -> list[int | None] | None:
    return None if before is None or after is None else [before, after.resident, after.peak]
