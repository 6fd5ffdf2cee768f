"""A child process: opens one module and performs the runs that its host sends, one at a time, until told to end.

An `async def` processor runs on the event loop, in the main thread; a `def` in a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias

from pydantic import ValidationError

from tasks.codec import decode
from tasks.limits import Limits
from workers.broker import result
from workers.contract import QueueModule, Services
from workers.runtime import containment
from workers.runtime.isolation import forks, surroundings
from workers.runtime.isolation.account import Account, raised, returned
from workers.runtime.isolation.brief import Brief, brief_of
from workers.runtime.isolation.crash import EXIT_BROKEN, EXIT_SPEECHLESS, EXIT_UNABLE
from workers.runtime.isolation.frames import pack
from workers.runtime.isolation.listener import Listener
from workers.runtime.isolation.processors import is_async
from workers.runtime.isolation.records import RecordSender
from workers.runtime.isolation.remote import RemoteContext, RemoteRun
from workers.runtime.isolation.sync_context import SyncContext
from workers.runtime.isolation.wire import MAX_REASON

log = logging.getLogger(__name__)


def serve(channel: socket.socket, load: Callable[[str, str | None], QueueModule[Any, Any]]) -> int:
    """Be a child of the process at the other end of `channel`; returns the exit code.

    Args:
        load: finds a MODULE, by its task type and the name of an importable module.
    """
    channel.set_inheritable(False)
    return _Child(channel, load).serve()


_Runs: TypeAlias = SimpleQueue[tuple[RemoteRun, Mapping[str, Any]]]


class _Child:
    def __init__(self, channel: socket.socket, load: Callable[[str, str | None], QueueModule[Any, Any]]) -> None:
        self._channel = channel
        self._load = load
        self._listener = Listener(channel, self._take, self._orphaned)
        self._writing = threading.Lock()
        self._run: RemoteRun | None = None
        self._task: asyncio.Task[None] | None = None
        self._threads: _Runs | None = None
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._limits: Limits
        self._module: QueueModule[Any, Any]
        self._process: Callable[..., Any]
        self._records: RecordSender
        self._account: Account

    def serve(self) -> int:
        opening = self._listener.first()
        if opening is None or opening["is"] != "open":
            return EXIT_BROKEN
        brief = brief_of(opening["brief"])
        try:
            self._records = surroundings.arrange(brief, self.send)
        except surroundings.OrphanedError:
            return EXIT_BROKEN
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._end = asyncio.Event()
            self._listener.listen(self._loop)
            try:
                return _persistently(self._loop, self._serve(brief))
            finally:
                self._listener.close()

    async def _serve(self, brief: Brief) -> int:
        try:
            self._limits = brief.limits
            self._module = self._load(brief.kind or brief.queue, brief.module)
            options = self._module.options.model_validate(dict(brief.options))
            surroundings.log_structured()
            opened = self._module.open(Services(queue=brief.queue, slots=1), options)
            self._process = await opened.__aenter__()
        except BaseException as error:
            self.send({"is": "unable", "why": _why(error)})
            return EXIT_UNABLE
        try:
            await self._work()
        finally:
            await opened.__aexit__(None, None, None)
        return 0

    async def _work(self) -> None:
        if is_async(self._process):
            self._listener.stand_in()
        else:
            runs = self._threads = SimpleQueue()
            threading.Thread(target=self._perform_all, args=(runs,), name="processor", daemon=True).start()
        self._account = Account(self.send, self._records)
        self.send({"is": "ready"})
        await self._end.wait()

    # ------------------------------------------------------------- the host's words

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message to the host. Legal from any thread.

        Raises:
            FrameError, ValueError, TypeError: it can't be sent.
        """
        forks.end_copy()
        frame = pack(message)
        with self._writing:
            try:
                self._channel.sendall(frame)
            except OSError:  # closed by a job, or the host is gone
                os._exit(EXIT_BROKEN)

    def _orphaned(self) -> None:
        """The host is gone: nothing that was started for it outlives it."""
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(EXIT_BROKEN)

    def _take(self, message: Mapping[str, Any]) -> None:
        """On the loop, or in the listener's thread while the loop is kept busy."""
        run = self._run
        match message["is"]:
            case "run":
                self._run = run = RemoteRun(message, self.send)
                self._listener.began(run)
                if self._threads is not None:
                    self._threads.put((run, message))
                elif threading.current_thread() is threading.main_thread():
                    self._begin(run, message)
                else:
                    self._loop.call_soon_threadsafe(self._begin, run, message)
            case "end":
                self._loop.call_soon_threadsafe(self._end.set)
            case _ if run is None or message["run"] != run.number:
                return  # about a run that has ended
            case "asked":
                run.asked(message)
            case "reply":
                run.replied(message)
            case "cancel":
                run.cancel()
                run.waiting.cancel()
                self._loop.call_soon_threadsafe(self._cancel, run)

    # -------------------------------------------------------------------- one run

    def _begin(self, run: RemoteRun, message: Mapping[str, Any]) -> None:
        task = self._task = containment.start(self._loop, self._perform(run, message))
        task.add_done_callback(partial(self._began, run))

    def _began(self, run: RemoteRun, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step
            self._done(run, {"cancelled": True})

    def _cancel(self, run: RemoteRun) -> None:
        if self._task is not None and run is self._run:
            self._task.cancel()

    async def _perform(self, run: RemoteRun, message: Mapping[str, Any]) -> None:
        """A run of an `async def` processor."""
        try:
            _attach(message["trace"])
            said = returned(await self._process(self._read(message), RemoteContext(run)))
        except BaseException as error:
            said = self._raised(error, run)
        self._task = None
        self._done(run, said)

    def _perform_all(self, runs: _Runs) -> None:
        """Runs of a `def` processor, in its thread."""
        while True:
            run, message = runs.get()
            said = copy_context().run(self._performed, run, message)
            self._done(run, said)
            del run, message, said

    def _performed(self, run: RemoteRun, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            _attach(message["trace"])
            return returned(self._process(self._read(message), SyncContext(run)))
        except BaseException as error:
            return self._raised(error, run)

    def _read(self, message: Mapping[str, Any]) -> Any:
        types = {self._module.task.type_name(): self._module.task}
        return decode(message["data"], types, limits=self._limits)

    def _raised(self, error: BaseException, run: RemoteRun) -> dict[str, Any]:
        if isinstance(error, asyncio.CancelledError) and run.cancelled:
            return {"cancelled": True}
        return raised(error, self._module.classify)

    def _done(self, run: RemoteRun, said: Mapping[str, Any]) -> None:
        """Tell the host how it ended. Where even that fails, for want of memory, this process ends."""
        forks.end_copy()
        try:
            run.close()
            self._listener.ended()
            self._account.close(run.number, said)
        except BaseException:
            traceback.print_exc()
            os._exit(EXIT_SPEECHLESS)


def _persistently(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, int]) -> int:
    """Run the loop to the end of `main`; a SystemExit that gets out of a callback by way of the loop ends neither."""
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):
            if task.done():
                raise


def _why(error: BaseException) -> str:
    """Why the module could not be opened. What pydantic says of options would show them, and secrets in them."""
    if isinstance(error, ValidationError):
        found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)]
        return f"task.options are not valid in its child process: {'; '.join(found)}"
    return result.message(error, MAX_REASON)


def _attach(carrier: Mapping[str, str] | None) -> None:
    """Make the host's span the current one of this context. OpenTelemetry is imported only where there is one."""
    if not carrier:
        return
    try:
        from opentelemetry import context, propagate

        context.attach(propagate.extract(carrier))
    except Exception:
        log.warning("the trace context of a job could not be read", exc_info=True)
