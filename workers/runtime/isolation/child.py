"""One child process, on its host's side: from its start to its end, one run at a time.

Its end is seen by the process, not by the socket, which a copy that it forked may hold open.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any, cast

from workers.broker.result import clean, message
from workers.contract import CrashedError
from workers.runtime.isolation import family, records
from workers.runtime.isolation.brief import Brief, command
from workers.runtime.isolation.call import Call
from workers.runtime.isolation.channel import Channel
from workers.runtime.isolation.child_run import ChildRun
from workers.runtime.isolation.crash import MemoryKills, judged
from workers.runtime.isolation.frames import FrameError
from workers.runtime.isolation.output import Output
from workers.runtime.isolation.processors import ResultError
from workers.runtime.isolation.wire import MAX_REASON

log = logging.getLogger(__name__)

#: How long a child may take to open its module, seconds.
START_S = 300.0
#: How long what a dead child has still said may take to arrive, seconds.
LAST_WORDS_S = 0.5
#: How long the system may need to end a killed process, seconds.
KILLED_S = 5.0


class StartError(Exception):
    """A child process could not be started, or could not open its module; the message says why."""


class DiedAtStartError(StartError):
    """It could not be made, or ended before its module had a say: another one may do better."""


class _Process(asyncio.SubprocessProtocol):
    """Tells when the process is there, and when it has ended."""

    def __init__(self, on_birth: Callable[[asyncio.SubprocessTransport], None], on_exit: Callable[[], None]) -> None:
        self._on_birth = on_birth
        self._on_exit = on_exit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.SubprocessProtocol."""
        self._on_birth(cast(asyncio.SubprocessTransport, transport))

    def process_exited(self) -> None:
        """See asyncio.SubprocessProtocol."""
        self._on_exit()


class Child:
    """A process that performs runs.

    Args:
        brief: what it is to open.
        on_end: told when its process has ended.
        memory_kills: shared by all children.
    """

    def __init__(self, brief: Brief, on_end: Callable[[Child], None], memory_kills: MemoryKills) -> None:
        self._brief = brief
        self._on_end = on_end
        self._memory_kills = memory_kills
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._ready: asyncio.Future[str | None] = self._loop.create_future()
        self._channel = Channel(self._take, self._broken)
        self._transport: asyncio.SubprocessTransport | None = None
        self._output: Output | None = None
        self._run: ChildRun | None = None
        self._wrong = ""
        self._burial: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the process is gone, and everything of it closed."""
        self.pid = 0
        self.doomed = False
        """It was killed, or told to end."""
        self.cause: str | None = None
        """Why it has ended unasked, see events.ChildDied. None: it has not, or was not ready yet."""
        self._open = self._unable = self._asked = self._killed = False
        self.spent = False
        """Its last job has left it in a state that the next one would suffer from."""
        self.jobs = 0
        """Runs that it has performed."""
        self.resident: int | None = None
        """Its memory after the last one, bytes."""

    async def start(self) -> None:
        """Return when its module is open.

        Raises:
            StartError: see there.
        """
        try:
            await self._spawn()
            self._channel.send({"is": "open", "brief": self._brief.fields()})
            async with asyncio.timeout(START_S):
                why = await self._ready
        except BaseException as error:
            self.kill()
            await self._gone()
            if isinstance(error, TimeoutError):
                raise DiedAtStartError(f"its module was not open within {START_S:g} s") from None
            if isinstance(error, OSError | RuntimeError | MemoryError):  # the latter by asyncio: no thread, no memory
                raise DiedAtStartError(f"its process can't be started: {message(error, MAX_REASON)}") from error
            if isinstance(error, ValueError | TypeError):
                raise StartError(f"what it is told is not JSON (task.options): {error}") from error
            raise
        if why is not None:
            await self._gone()
            raise StartError(why) if self._unable else DiedAtStartError(self._at_start(why))

    def _at_start(self, why: str) -> str:
        limit = self._brief.memory_limit
        more = "" if limit is None else f" (task.children.memory_limit: {limit:,} bytes)"
        return f"{why.removesuffix(' before the job did')} while it started{more}"

    async def run(self, call: Call) -> Any:
        """See Isolator. One at a time.

        Raises:
            ResultError: the job's data can't be sent.
        """
        run = ChildRun(
            call, next(self._numbers), self._channel.send, self._channel.hold, memory_limit=self._brief.memory_limit
        )
        self._output_of(run.context)  # before the child has heard of it, and writes
        try:
            frame = run.frame()
            self._run = run
            self._channel.send(frame)
        except (FrameError, ValueError, TypeError) as error:
            self._over(run)
            raise ResultError(f"its data can't be sent to a child process: {error}") from error
        call.on_kill = self.kill
        unsubscribe = call.context.on_change(run.asked)
        try:
            return await self._ended(run)
        finally:
            unsubscribe()
            call.on_kill = None
            self._over(run)
            self.jobs += 1
            self.spent = run.spent
            self.resident = call.memory.after if call.memory is not None else None
            if not run.done():  # nobody waits for it any more
                self.kill()

    def _over(self, run: ChildRun) -> None:
        run.close()
        self._run = None
        self._output_of(_IDLE.copy())

    def _output_of(self, context: Context) -> None:
        if self._output is not None:
            self._output.belongs_to(context)

    async def _ended(self, run: ChildRun) -> Any:
        while not run.done():
            try:
                await run.wait()
            except asyncio.CancelledError:
                if run.done():
                    break
                if self.doomed:
                    raise
                run.cancel()
        return run.result()

    async def end(self, timeout_s: float) -> None:
        """Let it close its module and end; kill it where that takes longer. Returns when it is gone."""
        self.doomed = self._asked = True
        self._channel.send({"is": "end"})
        await asyncio.wait({self.ended}, timeout=timeout_s)
        if not self.ended.done():
            log.warning("a child process of queue %s did not end within %g s; killing it", self._brief.queue, timeout_s)
            self.kill()
            await self._gone()

    async def buried(self) -> None:
        """Return when it is gone."""
        await asyncio.wait({self.ended})

    def kill(self) -> None:
        """End it by force, and all that it has started. Idempotent."""
        self.doomed = self._killed = True
        if self._transport is not None and self._transport.get_returncode() is None:
            family.kill(self.pid)

    # --------------------------------------------------------------------- birth

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            reading, writing = os.pipe()
        except OSError:
            ours.close()
            theirs.close()
            raise
        try:
            ours.setblocking(False)
            self._output = Output(reading, self._brief.queue)
            await self._loop.subprocess_exec(
                lambda: _Process(self._born, self._exited),
                *command(),
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
            await self._channel.open(ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(writing)

    def _born(self, transport: asyncio.SubprocessTransport) -> None:
        self._transport, self.pid = transport, transport.get_pid()

    # ---------------------------------------------------------------------- life

    def _take(self, message: dict[str, Any]) -> None:
        kind, run = message["is"], self._run
        if kind == "ready":
            self._opened(None)
        elif kind == "unable":
            self._unable = True
            self._opened(clean(str(message["why"]), MAX_REASON))
        elif kind == "log":
            self._write(message["record"], run)
        elif run is not None and message["run"] == run.number:
            run.take(message)

    def _opened(self, why: str | None) -> None:
        if not self._ready.done():
            self._open = why is None
            self._ready.set_result(why)

    def _write(self, record: Any, run: ChildRun | None) -> None:
        if run is not None:
            run.write(record)
        else:
            _IDLE.copy().run(records.write, record, queue=self._brief.queue)

    def _broken(self, error: Exception) -> None:
        self._wrong = f"its process sent what is no frame ({clean(str(error), MAX_REASON)}) and was killed"
        self.kill()

    # --------------------------------------------------------------------- death

    def _exited(self) -> None:
        self.doomed = True
        self._burial = self._loop.create_task(self._bury())
        self._on_end(self)

    async def _bury(self) -> None:
        """Take its last words, end what it has left behind, close everything."""
        with suppress(OSError):  # nobody is left in its group
            os.killpg(self.pid, signal.SIGKILL)
        self._channel.hold(False)
        await asyncio.wait({self._channel.closed}, timeout=LAST_WORDS_S)
        code = self._transport.get_returncode() if self._transport is not None else None
        end = judged(code or 0, self._memory_kills, wrong=self._wrong, killed=self._killed)
        if self._open and not self._asked:
            self.cause = end.label
        self._opened(end.reason)
        if self._run is not None:
            self._run.crashed(CrashedError(end.reason))
        self._close()
        self.ended.set_result(None)

    def _close(self) -> None:
        self._channel.close()
        if self._output is not None:
            self._output.close()
        if self._transport is not None:
            self._transport.close()

    async def _gone(self) -> None:
        """Return when it is gone, or where it never came to be."""
        if self._transport is None:
            self._close()
            return
        await asyncio.wait({self.ended}, timeout=KILLED_S)
        if not self.ended.done():
            log.error("child process %d of queue %s can't be killed", self.pid, self._brief.queue)


#: The log context of nobody's job.
_IDLE = Context()
