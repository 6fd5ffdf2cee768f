"""One process of a pool: spawned, watched by its beat, restarted with backoff, asked to drain.

It is a fresh interpreter (no fork of a running loop) that reads what to do from its standard input and beats on a pipe.
The end of its standard input means that the supervisor is gone: it drains then.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from workers.runtime import beat
from workers.runtime.beat import Beat
from workers.runtime.process import State

log = logging.getLogger(__name__)

#: A child's exit code for "started in vain, the operator must act" (sysexits.h, EX_CONFIG): not restarted.
EXIT_REFUSED = 78
#: Waits before a restart, seconds: the first and the longest; a child that lived for CALM_S starts over at the first.
RESTART_FIRST_S, RESTART_MAX_S, CALM_S = 0.5, 30.0, 60.0
#: A beat older than this counts as silence, seconds.
SILENT_S = 10.0
#: Between two looks at how long a process has been silent, seconds.
LISTEN_S = 0.5


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """How to start one process.

    Args:
        name: pool and number, `communication-0`.
        argv: the command; `{beat_fd}` in it becomes the number of the beat pipe's descriptor.
        stdin: what it reads first; its standard input then stays open as a sign of life.
        silence_s: seconds without a beat after which it is killed: longer than any of its jobs may run, since a job
            that blocks its loop blocks the beat too. Defaults to 60.
    """

    name: str
    argv: tuple[str, ...]
    stdin: bytes
    silence_s: float = 60.0
    env: Mapping[str, str] = field(default_factory=dict)


class RefusedToStartError(Exception):
    """A process refused to start for a reason that a restart can't mend; its own message was logged."""


#: Why a program can't be started that no waiting mends; a machine short of memory, processes or descriptors recovers.
_NO_PROGRAM = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC, errno.EPERM, errno.E2BIG)


def restart_delay_s(deaths: int) -> float:
    """The wait before the restart after so many early deaths in a row: doubling, at most 30 s."""
    return float(min(RESTART_MAX_S, RESTART_FIRST_S * 2.0 ** min(max(deaths - 1, 0), 16)))


def death_notice(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class PoolChild:
    """One process of a pool and its successors.

    Args:
        spec: how to start it.
        on_death: told the pid of each one that ended, before its successor starts.
    """

    def __init__(self, spec: ChildSpec, on_death: Callable[[int], None]) -> None:
        self.spec = spec
        self._on_death = on_death
        self.process: asyncio.subprocess.Process | None = None
        self.beat: Beat | None = None
        self.beat_at = 0.0
        self.started = False
        """It has opened its queues once."""
        self.code: int | None = None
        """How it ended last; None: it has not, or could not be started."""
        self.drained = True
        """After `stop`: it ended as one that has finished or handed back its jobs."""
        self._stopping = asyncio.Event()
        self._deaths = 0

    async def run(self) -> None:
        """Start, watch, restart; returns when stopped, raises RefusedToStartError."""
        while not self._stopping.is_set():
            born = time.monotonic()
            notice = await self._life()
            if self._stopping.is_set():
                return
            self._deaths = 1 if time.monotonic() - born >= CALM_S else self._deaths + 1
            delay = restart_delay_s(self._deaths)
            log.error("process %s %s; restarting it in %.1f s", self.spec.name, notice, delay)
            await self._pause(delay)

    async def _life(self) -> str:
        """One process from birth to death; returns what happened to it."""
        try:
            process, pipe = await self._spawn()
        except OSError as error:
            notice = f"can't be started: {error}"
            if error.errno in _NO_PROGRAM:
                log.error("process %s %s", self.spec.name, notice)
                raise RefusedToStartError(f"process {self.spec.name} {notice}") from error
            return notice
        self.code = await self._watch(process, pipe)
        if self.code == EXIT_REFUSED:
            raise RefusedToStartError(f"process {self.spec.name} refused to start")
        if self._stopping.is_set():
            # SIGTERM kills only where its handler is not, or no longer, installed: before the first job, after the last
            self.drained = self.code in (0, -signal.SIGTERM)
        return f"died ({death_notice(self.code)})"

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, BinaryIO]:
        read_fd, write_fd = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(part.replace("{beat_fd}", str(write_fd)) for part in self.spec.argv),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(write_fd,),
                env={**os.environ, **self.spec.env},
                start_new_session=True,  # the terminal's Ctrl-C reaches the supervisor alone, which forwards a drain
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return process, os.fdopen(read_fd, "rb", 0)

    async def _watch(self, process: asyncio.subprocess.Process, pipe: BinaryIO) -> int:
        self.process = process
        if self._stopping.is_set():  # stopped while it was being born
            self.signal(signal.SIGTERM)
        self.beat_at = time.monotonic()
        senses = [asyncio.create_task(self._listen(pipe)), asyncio.create_task(self._mind_silence())]
        try:
            await self._brief(process)
            return await process.wait()
        finally:
            for sense in senses:
                sense.cancel()
            await asyncio.wait(senses)
            pipe.close()
            self.beat = None
            self.process = None
            self._tell(process.pid)

    def _tell(self, pid: int) -> None:
        try:
            self._on_death(pid)
        except Exception:
            log.exception("what was to be done after the death of process %s failed", self.spec.name)

    async def _mind_silence(self) -> None:
        """Say it when the process falls silent, and kill it when that lasts: its loop is blocked past all time-outs."""
        said = False
        while True:
            await asyncio.sleep(LISTEN_S)
            silent = time.monotonic() - self.beat_at
            if silent <= SILENT_S:
                said = False
            elif silent > self.spec.silence_s:
                log.error("process %s was silent for %.0f s; killing it", self.spec.name, silent)
                self.signal(signal.SIGKILL)
                return
            elif not said:
                said = True
                left = self.spec.silence_s
                log.warning("process %s is silent; it is killed when that lasts for %.0f s", self.spec.name, left)

    async def _brief(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None:
            return
        try:
            process.stdin.write(self.spec.stdin)
            await process.stdin.drain()
        except OSError:
            return  # it died at once; its exit code says more

    async def _listen(self, pipe: BinaryIO) -> None:
        reader = asyncio.StreamReader(limit=beat.MAX_LINE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    log.warning("process %s sent a beat that is too long", self.spec.name)
                    continue
                if not line:
                    return
                self._hear(beat.read(line))
        finally:
            transport.close()

    def _hear(self, heard: Beat | None) -> None:
        if heard is not None:
            self.beat, self.beat_at = heard, time.monotonic()
            self.started = self.started or heard.started

    def signal(self, number: signal.Signals) -> None:
        """Send it to the process, if there is one."""
        if self.process is not None and self.process.returncode is None:
            try:
                self.process.send_signal(number)
            except ProcessLookupError:
                return

    def stop(self) -> None:
        """Drain; and no restart."""
        self._stopping.set()
        self.signal(signal.SIGTERM)

    def states(self) -> list[State]:
        """What is known about it."""
        name = self.spec.name
        if self.process is None:
            return [State(name, False, self._absence())]
        if self.beat is None:
            return [State(name, False, "starting")]
        silent = time.monotonic() - self.beat_at
        if silent > SILENT_S:
            return [State(name, False, f"silent for {silent:.0f} s")]
        states = [State(f"{name}.{s.name}", s.ok, s.detail) for s in self.beat.states]
        if not self.beat.ready and all(state.ok for state in states):
            states.append(State(name, False, "not ready"))
        return states

    def _absence(self) -> str:
        if self._stopping.is_set():
            return "stopped"
        return f"died ({death_notice(self.code)}), restarting" if self.code is not None else "not started"

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
