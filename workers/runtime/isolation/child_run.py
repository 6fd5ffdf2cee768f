"""One run that a child performs, on its host's side: its calls, its log, and how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

from opentelemetry import propagate

from config.schema import MAX_DEPTH
from tasks import TASKS
from tasks.base import Task
from tasks.codec import TooNewError, decode
from tasks.limits import Limits
from workers.broker.memory import JobMemory
from workers.contract import StopRequest, Verdict
from workers.runtime.containment import EscapedError
from workers.runtime.isolation import records
from workers.runtime.isolation.call import Call, RemoteError
from workers.runtime.isolation.crash import beyond_limit
from workers.runtime.isolation.desk import Desk, Reserved
from workers.runtime.isolation.frames import FrameError
from workers.runtime.isolation.wire import error_fields, failure_of, outcome_of, stop_fields

log = logging.getLogger(__name__)

#: Calls of one run that are answered at once; further ones wait in the socket.
MAX_CALLS = 32
#: Of what a child adds: the widest that any queue may have. Those of the queue it goes to are looked at when it is
#: added, as for runs elsewhere (`queue_service/new_jobs.py`).
ADDED = Limits(max_depth=MAX_DEPTH)


class ChildRun:
    """A run from its frame to its end.

    Args:
        number: names it in frames.
        send: sends a message to the child.
        hold: told whether the child's messages are to wait.
        memory_limit: the child's address space, bytes, where it is limited.
    """

    def __init__(
        self,
        call: Call,
        number: int,
        send: Callable[[Mapping[str, Any]], None],
        hold: Callable[[bool], None],
        memory_limit: int | None = None,
    ) -> None:
        self.number = number
        self.context = copy_context()
        """That of the slot: log fields, trace."""
        self.cancelled = False
        self.spent = False
        """It has done to its process what the next job would suffer from."""
        self._call = call
        self._send = send
        self._hold = hold
        self._memory_limit = memory_limit
        self._desk = Desk(call.context)
        self._answers: set[asyncio.Task[None]] = set()
        self._waiter: asyncio.Future[None] | None = None
        self._done = self._over = False
        self._value: Any = None
        self._error: BaseException | None = None

    # -------------------------------------------------------------- to the child

    def frame(self) -> dict[str, Any]:
        """What tells the child to begin."""
        context = self._call.context
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return {
            "is": "run",
            "run": self.number,
            "job_id": context.job_id,
            "attempt": context.attempt,
            "fence": context.fence,
            "deadline_s": context.deadline - time.monotonic(),
            "restored": context.restored,
            "stop": stop_fields(context.stop),
            "checkpoint_due": context.checkpoint_due,
            "trace": carrier,
            "data": self._call.data,
        }

    def asked(self) -> None:
        """The host asks something else now."""
        context = self._call.context
        stop, due = stop_fields(context.stop), context.checkpoint_due
        self._send({"is": "asked", "run": self.number, "stop": stop, "checkpoint_due": due})

    def cancel(self) -> None:
        """Ask the processor to end."""
        self.cancelled = True
        self._send({"is": "cancel", "run": self.number})

    # ------------------------------------------------------------ from the child

    def take(self, message: Mapping[str, Any]) -> None:
        """A message about this run.

        Raises:
            FrameError, KeyError, TypeError, ValueError: it is none.
        """
        match message["is"]:
            case "call":
                self._answer(message)
            case "declined":
                self._call.context.decline(str(message["reason"]))
            case "done":
                self._ended(message)
            case _:
                raise FrameError("a message of no known kind")

    def write(self, record: Any) -> None:
        """Write a record of the child's log as one of this job."""
        self.context.run(records.write, record)

    def crashed(self, error: Exception) -> None:
        """What performed it is gone."""
        self._settle(error=error)

    def _answer(self, message: Mapping[str, Any]) -> None:
        answer = self._answered(int(message["call"]), str(message["do"]), list(message["with"]))
        task = asyncio.get_running_loop().create_task(answer, context=self.context.copy())
        self._answers.add(task)
        task.add_done_callback(self._answered_one)
        if len(self._answers) == MAX_CALLS:
            self._hold(True)

    def _answered_one(self, task: asyncio.Task[None]) -> None:
        self._answers.discard(task)
        if len(self._answers) == MAX_CALLS - 1:
            self._hold(False)

    async def _answered(self, number: int, do: str, arguments: list[Any]) -> None:
        reply: dict[str, Any] = {"is": "reply", "run": self.number, "call": number}
        try:
            value = await self._desk.answer(do, _arguments(do, arguments))
            answer = {**reply, "value": _value(value)}
        except Exception as error:
            answer = {**reply, "error": error_fields(error)}
        if self._over:
            return
        try:
            self._send(answer)
        except (ValueError, TypeError) as error:
            self._send({**reply, "error": error_fields(error)})

    def _ended(self, message: Mapping[str, Any]) -> None:
        self._call.memory = _memory(message["memory"])
        self.spent = message.get("spent") is True
        if left := message.get("left_behind"):
            self._warn("the job left processes behind; they were killed", processes=int(left))
        if refused := message.get("unlogged"):
            self._warn("the job logged too fast; what was more was dropped", lines=int(refused))
        if "failure" in message:
            self._settle(error=self._failure(message["failure"]))
        elif "outcome" in message:
            self._settle(outcome_of(message["outcome"]))
        elif message.get("cancelled"):
            cut = asyncio.CancelledError()
            self._settle(error=cut if self.cancelled else EscapedError(cut))
        else:
            self._settle(message["result"])

    def _failure(self, fields: Any) -> RemoteError:
        error = failure_of(fields)
        if error.name != MemoryError.__name__:
            return error
        return RemoteError(error.name, beyond_limit(str(error), self._memory_limit), error.stack, error.verdict)

    def _warn(self, text: str, **fields: int) -> None:
        self.context.run(log.warning, text, extra=fields)

    # --------------------------------------------------------------- for the slot

    def done(self) -> bool:
        """Whether it has ended."""
        return self._done

    async def wait(self) -> None:
        """Return when it has ended."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def result(self) -> Any:
        """What the processor returned; raises what it raised."""
        error, self._error = self._error, None  # its traceback will hold on to this frame
        if error is not None:
            raise error
        return self._value

    def close(self) -> None:
        """The slot goes on: nothing reaches the job any more."""
        self._over = True
        self._desk.close()
        if len(self._answers) >= MAX_CALLS:
            self._hold(False)

    def _settle(self, value: Any = None, error: BaseException | None = None) -> None:
        if self._done:
            return
        self._done, self._value, self._error = True, value, error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _arguments(do: str, arguments: list[Any]) -> list[Any]:
    """As JobContext takes them: a task from its data, what ended a block as an exception."""
    if do == "add":
        return [_task(arguments[0]), *arguments[1:]]
    if do == "leave" and arguments[1] is not None:
        ended_by = arguments[1]
        name = str(ended_by["ended_by"])
        cut: BaseException = RemoteError(name, name, "", Verdict()) if ended_by["failed"] else asyncio.CancelledError()
        return [arguments[0], cut]
    return arguments


def _task(data: Any) -> Task:
    """The task, of its own model where that is known here."""
    try:
        return decode(data, TASKS, limits=ADDED)
    except TooNewError:
        return _ForeignTask.model_validate(data, by_alias=True, by_name=False)


class _ForeignTask(Task):
    """A task of a type that only its own module knows: all that its producer set, and no more."""

    id: str = ""


def _value(value: Any) -> Any:
    match value:
        case Reserved():
            return {"number": value.number, "state": value.state, "result": value.result}
        case StopRequest():  # the child has it by `asked`
            return None
    return value


def _memory(fields: Any) -> JobMemory | None:
    if fields is None:
        return None
    before, after, peak = fields
    return JobMemory(before=int(before), after=int(after), peak=None if peak is None else int(peak))
