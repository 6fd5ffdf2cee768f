"""Isolation `thread`: the processor, a plain `def`, runs in a thread of its queue's own, beside the event loop.

A thread shares the process: what it breaks is broken for all, and the GIL is one. It can be asked to end (`stop`, and
calls of its context that raise CancelledError), and a loop in Python can be broken by force; a call in C can't be. The
slot of such a thread goes on with another one.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from workers.contract import SyncJobContext
from workers.runtime.isolation import forks, left_behind
from workers.runtime.isolation.call import Call
from workers.runtime.isolation.thread_run import ThreadRun


class AbandonedError(Exception):
    """A thread goes on although its run is over."""

    def __init__(self, queue: str, threads: int) -> None:
        said = f"{threads} threads of queue {queue} still run" if threads > 1 else f"a thread of queue {queue} runs"
        super().__init__(f"{said} although the jobs are over: isolation process can end such processors")


class Threads:
    """Runs the processor in threads, each one job at a time.

    Args:
        process: the module's processor.
        on_error: told of each thread that had to be left behind.
    """

    def __init__(
        self,
        process: Callable[[Any, SyncJobContext], Any],
        queue: str,
        on_error: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._process = process
        self._queue = queue
        self._on_error = on_error
        self._idle: list[_Thread] = []
        self._names = itertools.count(1)
        self._closed = False
        self.abandoned = 0
        """Threads that run on without a slot."""
        forks.install()
        left_behind.watch(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads that are idle; those that are not end with their jobs."""
        self._closed = True
        for thread in self._idle:
            thread.take(None)
        self._idle.clear()

    async def run(self, call: Call) -> Any:
        """See Isolator."""
        thread = self._idle.pop() if self._idle else _Thread(f"{self._queue}-{next(self._names)}")
        run = ThreadRun(call, self._process)
        call.on_kill = run.kill
        thread.take(run)
        try:
            return await self._ended(run)
        finally:
            call.on_kill = None
            run.close()
            if run.done() and not run.killed and not self._closed:
                self._idle.append(thread)
            else:
                thread.take(None)

    def left_behind(self) -> tuple[str, int]:
        """See left_behind.Source."""
        return self._queue, self.abandoned

    async def _ended(self, run: ThreadRun) -> Any:
        while not run.done():
            try:
                await run.wait()
            except asyncio.CancelledError:
                if run.done():
                    break
                if run.killed or self._closed:
                    self._abandon(run)
                    raise
                run.cancel()
        return run.result()

    def _abandon(self, run: ThreadRun) -> None:
        self.abandoned += 1
        run.on_end = self._found
        self._on_error(AbandonedError(self._queue, self.abandoned))

    def _found(self) -> None:
        self.abandoned -= 1


class _Thread:
    """One thread, which waits for work. A daemon: what can't be ended must not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[ThreadRun | None] = SimpleQueue()
        threading.Thread(target=self._main, name=name, daemon=True).start()

    def take(self, run: ThreadRun | None) -> None:
        """Do this next; None: end."""
        self._work.put(run)

    def _main(self) -> None:
        while (run := self._work.get()) is not None:
            run.perform()
            del run  # or the job's data would live as long as the thread is idle
