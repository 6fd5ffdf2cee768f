"""One run, seen in the child that performs it: what is known of it, and the calls that go to its host."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from tasks.base import Task
from tasks.codec import encode
from tasks.priority import Urgency
from workers.contract import Effect, Progress, StopRequest
from workers.contract.effect import EffectState
from workers.runtime.isolation.desk import Reserved
from workers.runtime.isolation.sync_context import Waiting
from workers.runtime.isolation.wire import error_of, stop_of


class RemoteRun:
    """What host and child tell each other about one run; see sync_context.Host. Legal from any thread.

    Args:
        frame: the host's `run`.
        send: sends a message to the host.
    """

    def __init__(self, frame: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._calls: dict[int, concurrent.futures.Future[Any]] = {}
        self._over = False
        self.waiting = Waiting()
        """For a processor that waits in a thread."""
        self.number: int = frame["run"]
        self.job_id: str = frame["job_id"]
        self.attempt: int = frame["attempt"]
        self.fence: int = frame["fence"]
        self.deadline: float = time.monotonic() + frame["deadline_s"]
        self.restored: Any = frame["restored"]
        self.stop: StopRequest | None = None
        self.checkpoint_due = False
        self.cancelled = False
        self.asked(frame)

    # ----------------------------------------------------------- from the host

    def asked(self, frame: Mapping[str, Any]) -> None:
        """The host asks something else now."""
        self.stop = stop_of(frame["stop"])
        self.checkpoint_due = frame["checkpoint_due"]

    def cancel(self) -> None:
        """The host has cancelled the run: `stop` is set in any case."""
        self.cancelled = True
        if self.stop is None:
            self.stop = StopRequest(kind="deadline", reason="its run was cancelled", by=time.monotonic())

    def replied(self, frame: Mapping[str, Any]) -> None:
        """The host has answered a call."""
        call = self._calls.pop(frame["call"], None)
        if call is None or not call.set_running_or_notify_cancel():
            return
        if "error" in frame:
            call.set_exception(error_of(frame["error"]))
        else:
            call.set_result(frame["value"])

    def close(self) -> None:
        """The run is over: nobody waits for answers any more."""
        self._over = True
        self.waiting.close()
        for call in tuple(self._calls.values()):
            call.cancel()
        self._calls.clear()

    # ------------------------------------------------------ from the processor

    def decline(self, reason: str) -> None:
        """See JobContext."""
        if not self._over:
            self._send({"is": "declined", "run": self.number, "reason": str(reason)})

    def ask(self, do: str, *arguments: Any) -> Any:
        """See Host."""
        call = self._call(do, arguments)
        return _answer(do, self.waiting.result(call))

    async def ask_from_loop(self, do: str, *arguments: Any) -> Any:
        """The same for code on the child's event loop."""
        return _answer(do, await asyncio.wrap_future(self._call(do, arguments)))

    def _call(self, do: str, arguments: tuple[Any, ...]) -> concurrent.futures.Future[Any]:
        if self._over:
            raise asyncio.CancelledError("the run is over")
        number = next(self._numbers)
        call: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._calls[number] = call
        try:
            fields = [_argument(each) for each in arguments]
            self._send({"is": "call", "run": self.number, "call": number, "do": do, "with": fields})
        except BaseException:
            self._calls.pop(number, None)
            raise
        return call


class RemoteContext:
    """See JobContext."""

    __slots__ = ("_run",)

    def __init__(self, run: RemoteRun) -> None:
        self._run = run

    @property
    def job_id(self) -> str:
        """See JobContext."""
        return self._run.job_id

    @property
    def attempt(self) -> int:
        """See JobContext."""
        return self._run.attempt

    @property
    def fence(self) -> int:
        """See JobContext."""
        return self._run.fence

    @property
    def deadline(self) -> float:
        """See JobContext."""
        return self._run.deadline

    @property
    def restored(self) -> Any:
        """See JobContext."""
        return self._run.restored

    @property
    def stop(self) -> StopRequest | None:
        """See JobContext."""
        return self._run.stop

    @property
    def checkpoint_due(self) -> bool:
        """See JobContext."""
        return self._run.checkpoint_due

    def decline(self, reason: str) -> None:
        """See JobContext."""
        self._run.decline(reason)

    async def progress(self, value: Progress) -> None:
        """See JobContext."""
        await self._run.ask_from_loop("progress", value)

    async def log(self, line: str) -> None:
        """See JobContext."""
        await self._run.ask_from_loop("log", line)

    async def checkpoint(self, state: Any) -> StopRequest | None:
        """See JobContext."""
        await self._run.ask_from_loop("checkpoint", state)
        return self.stop

    async def add(
        self,
        task: Task,
        *,
        child: bool = False,
        priority: int | None = None,
        urgency: Urgency | None = None,
        delay_s: float = 0.0,
    ) -> str:
        """See JobContext."""
        job_id: str = await self._run.ask_from_loop("add", task, child, priority, urgency, delay_s)
        return job_id

    @asynccontextmanager
    async def once(self, effect: str) -> AsyncIterator[Effect]:
        """See JobContext."""
        held = _RemoteEffect(self._run, await self._run.ask_from_loop("reserve", effect))
        try:
            yield held
        except BaseException as error:
            # What ended the block matters more than what becomes of a reservation, which ends with the run in any case.
            with suppress(Exception, asyncio.CancelledError):
                await self._run.ask_from_loop("leave", held.number, error)
            raise
        await self._run.ask_from_loop("leave", held.number, None)

    async def children_values(self) -> dict[str, Any]:
        """See JobContext."""
        values: dict[str, Any] = await self._run.ask_from_loop("children_values")
        return values

    async def children_failures(self) -> dict[str, str]:
        """See JobContext."""
        failures: dict[str, str] = await self._run.ask_from_loop("children_failures")
        return failures


class _RemoteEffect:
    """See Effect."""

    def __init__(self, run: RemoteRun, reserved: Reserved) -> None:
        self._run = run
        self._reserved = reserved

    @property
    def number(self) -> int:
        return self._reserved.number

    @property
    def state(self) -> EffectState:
        return self._reserved.state

    @property
    def result(self) -> Any:
        return self._reserved.result

    async def settle(self, result: Any = None) -> None:
        await self._run.ask_from_loop("settle", self._reserved.number, result)


def _argument(value: Any) -> Any:
    """An argument as JSON: a task as its data, what ended a block as its name."""
    if isinstance(value, Task):
        return encode(value)
    if isinstance(value, BaseException):
        return {"ended_by": type(value).__name__, "failed": isinstance(value, Exception)}
    return value


def _answer(do: str, value: Any) -> Any:
    return Reserved(value["number"], value["state"], value["result"]) if do == "reserve" else value
