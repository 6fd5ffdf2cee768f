"""One run in a thread: between the loop, which waits for it, and the thread that performs it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from workers.broker import running
from workers.contract import StopRequest, SyncJobContext
from workers.runtime.containment import EscapedError
from workers.runtime.isolation import forks
from workers.runtime.isolation.call import Call, RunContext
from workers.runtime.isolation.desk import Desk
from workers.runtime.isolation.processors import checked
from workers.runtime.isolation.sync_context import SyncContext, Waiting


class KilledError(BaseException):
    """Raised inside of a processor whose thread is to end by force; no `except Exception` stops it."""


class ThreadRun:
    """See above.

    Args:
        process: the module's processor.
    """

    def __init__(self, call: Call, process: Callable[[Any, SyncJobContext], Any]) -> None:
        self._call = call
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._waiting = Waiting()
        self._host = _ThreadHost(call.context, self._loop, self._waiting)
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._cancelled = False
        self._ended = False
        self.killed = False
        self.on_end: Callable[[], None] = lambda: None
        """Called on the loop when it has ended."""

    # ----------------------------------------------------------------- the loop's

    def done(self) -> bool:
        """Whether it has ended."""
        return self._ended

    async def wait(self) -> None:
        """Return when it has ended."""
        self._waiter = self._loop.create_future()
        await self._waiter

    def result(self) -> Any:
        """What the processor returned; raises what it raised, as an Exception or CancelledError."""
        error = self._error
        if error is None:
            return self._value
        self._error = None  # it and its traceback hold on to this frame, and this frame to it
        if isinstance(error, asyncio.CancelledError) and self._cancelled:
            raise error
        if isinstance(error, KilledError):
            raise asyncio.CancelledError
        raise error if isinstance(error, Exception) else EscapedError(error) from error

    def cancel(self) -> None:
        """Ask it to end."""
        self._cancelled = True
        self._host.cancelled()
        self._waiting.cancel()

    def kill(self) -> None:
        """End it by force, where Python can."""
        if self.killed or self._ended:
            return
        self.killed = self._cancelled = True
        self._waiting.close()
        with self._lock:
            if self._thread is not None:
                _raise_in(self._thread, KilledError)

    def close(self) -> None:
        """Whatever its context is asked from now on, it doesn't reach the job."""
        self._host.close()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self.on_end()

    # --------------------------------------------------------------- the thread's

    def perform(self) -> None:
        """Run the processor. A kill may strike anywhere in here, also after the processor has returned."""
        try:
            try:
                self._value = self._context.run(self._processed)
            finally:
                with self._lock:
                    self._thread = None
        except BaseException as error:
            self._error = error
        try:
            self._tell()
        except BaseException:
            self._tell()

    def _processed(self) -> Any:
        with self._lock:
            if self.killed:
                raise KilledError
            self._thread = threading.get_ident()
        try:
            with running.in_thread():
                return checked(self._process(self._call.task, SyncContext(self._host)))
        finally:
            forks.end_copy()

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._ended = True


class _ThreadHost:
    """What a thread asks of the loop; see Host."""

    def __init__(self, context: RunContext, loop: asyncio.AbstractEventLoop, waiting: Waiting) -> None:
        self._context = context
        self._loop = loop
        self._waiting = waiting
        self._desk = Desk(context)
        self._cancelled: StopRequest | None = None
        self._over = False

    @property
    def job_id(self) -> str:
        return self._context.job_id

    @property
    def attempt(self) -> int:
        return self._context.attempt

    @property
    def fence(self) -> int:
        return self._context.fence

    @property
    def deadline(self) -> float:
        return self._context.deadline

    @property
    def restored(self) -> Any:
        return self._context.restored

    @property
    def stop(self) -> StopRequest | None:
        return self._context.stop or self._cancelled

    @property
    def checkpoint_due(self) -> bool:
        return self._context.checkpoint_due

    def decline(self, reason: str) -> None:
        forks.end_copy()
        self._loop.call_soon_threadsafe(self._declined, reason)

    def ask(self, do: str, *arguments: Any) -> Any:
        forks.end_copy()
        if self._over:
            raise asyncio.CancelledError("the run is over")
        if asyncio._get_running_loop() is self._loop:
            raise RuntimeError("a SyncJobContext waits for its answers: not on the event loop")
        answer = self._desk.answer(do, arguments)
        try:
            call: concurrent.futures.Future[Any] = asyncio.run_coroutine_threadsafe(answer, self._loop)
        except RuntimeError as error:  # the loop is closed
            answer.close()
            raise asyncio.CancelledError("the run is over") from error
        return self._waiting.result(call)

    def cancelled(self) -> None:
        """The run was cancelled: `stop` is set in any case."""
        self._cancelled = StopRequest(kind="deadline", reason="its run was cancelled", by=time.monotonic())

    def close(self) -> None:
        """The run is over."""
        self._over = True
        self._waiting.close()
        self._desk.close()

    def _declined(self, reason: str) -> None:
        if not self._over:
            self._context.decline(reason)


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Raise it in another thread at its next bytecode, CPython's only way to break a loop from outside."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
