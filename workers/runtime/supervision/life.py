"""One process of the supervisor's, from its birth to its end.

Each is a fresh interpreter (no fork of a running loop) that reads what to do from its standard input and beats on a
pipe. The end of its standard input means that the supervisor is gone: the process drains then.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import BinaryIO, TypeAlias

from workers.runtime.process import State
from workers.runtime.supervision import beat, orphans, recycle, silence
from workers.runtime.supervision.beat import NO_REPORT, Beat, Report
from workers.runtime.supervision.death import Death, Killed, death
from workers.runtime.supervision.spec import ChildSpec

log = logging.getLogger(__name__)

#: A child's exit code for "started in vain, the operator must act" (sysexits.h, EX_CONFIG): not restarted.
EXIT_REFUSED = 78
#: Between two looks at how long a process has been silent, seconds.
LISTEN_S = 0.5
#: A supervisor that looks so much too late was away itself, and can't blame a process for that time; seconds.
AWAY_S = 1.0
#: How long after its own deadline a process may need to be gone, seconds; then it is killed.
KILL_SLACK_S = 2.0
#: Why a program can't be started that no waiting mends; a machine short of memory, processes or descriptors recovers.
_NO_PROGRAM = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC, errno.EPERM, errno.E2BIG)

BusyUntil: TypeAlias = Callable[[int], float | None]
"""Of a process id: monotonic seconds until which one of its jobs may run, infinite where it holds some of which none
runs; None: it holds none."""


class Life:
    """One process.

    Args:
        spec: how to start it.
        busy_until: asked while it is silent.
    """

    def __init__(self, spec: ChildSpec, busy_until: BusyUntil = lambda pid: None) -> None:
        self.spec = spec
        self.mark = orphans.new_mark()
        """In its environment, and in that of all that it starts."""
        self._busy_until = busy_until
        self._process: asyncio.subprocess.Process | None = None
        self._kill: asyncio.TimerHandle | None = None
        self.pid = 0
        """0 until it was born."""
        self.beat: Beat | None = None
        self.born_at = self.beat_at = time.monotonic()
        self.started = asyncio.Event()
        """It has opened its queues."""
        self.started_at = 0.0
        self.settled_rss = 0
        """What it had in memory once it had lived for recycle.LIFE_S."""
        self.asked = False
        """It was asked to drain."""
        self.killed: Killed | None = None
        self.code: int | None = None
        """How it ended; None: it has not, or it could not be started."""
        self.notice = ""
        """How it ended, in words."""
        self.death: Death | None = None
        """How it ended; None: it has not, or was never born."""
        self.error: Exception | None = None
        """A defect of ours that ended its watch."""
        self.over = asyncio.Event()
        """It has ended, or was never born, and whoever had to be told was told."""
        self.refused = ""
        """Why it refused to start, or can't be started, where trying again is of no use."""

    # ----------------------------------------------------------------- its life

    async def run(self) -> None:
        """From birth to end."""
        try:
            process, pipe = await self._spawn()
        except OSError as error:
            self.notice = f"can't be started: {error}"
            if error.errno in _NO_PROGRAM:
                log.error("process %s %s", self.spec.name, self.notice)
                self.refused = f"process {self.spec.name} {self.notice}"
            return
        self._process, self.pid, self.beat_at = process, process.pid, time.monotonic()
        if self.asked:  # while it was being born
            self._signal(signal.SIGTERM)
        self.code = await self._watch(process, pipe)
        self.death = self._judged(self.code)
        self.notice = f"died ({self.death.notice})"

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, BinaryIO]:
        read_fd, write_fd = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(part.replace("{beat_fd}", str(write_fd)) for part in self.spec.argv),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(write_fd,),
                env={**os.environ, **self.spec.env, orphans.MARK: self.mark},
                start_new_session=True,  # the terminal's Ctrl-C reaches the supervisor alone, which forwards a drain
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return process, os.fdopen(read_fd, "rb", 0)

    async def _watch(self, process: asyncio.subprocess.Process, pipe: BinaryIO) -> int:
        senses = [asyncio.create_task(self._listen(pipe)), asyncio.create_task(self._mind_silence())]
        try:
            await self._brief(process)
            return await process.wait()
        finally:
            for sense in senses:
                sense.cancel()
            await asyncio.wait(senses)
            pipe.close()
            if self._kill is not None:
                self._kill.cancel()

    def _judged(self, code: int) -> Death:
        if code == EXIT_REFUSED and not self.started.is_set():  # once jobs ran, any code may be one of theirs
            self.refused = f"process {self.spec.name} refused to start"
        return death(
            self.spec.name,
            self.spec.pool,
            self.pid,
            code,
            asked=self.asked,
            killed=self.killed,
            silent_s=time.monotonic() - self.beat_at,
            mark=self.mark,
        )

    # ---------------------------------------------------------------- its senses

    async def _mind_silence(self) -> None:
        """Say it when the process falls silent, and kill it when nothing is left that it could be busy with."""
        said, looked_at = False, time.monotonic()
        while True:
            await asyncio.sleep(LISTEN_S)
            now = time.monotonic()
            if now - looked_at > LISTEN_S + AWAY_S:  # it was us who did not listen
                self.beat_at = max(self.beat_at, now - silence.SILENT_S)
            looked_at, silent_s = now, now - self.beat_at
            if silent_s <= silence.SILENT_S:
                said = False
            elif self._is_overdue(silent_s, now):
                log.error("process %s was silent for %.0f s; killing it", self.spec.name, silent_s)
                self.kill("silence")
                return
            elif not said:
                said = True
                log.warning("process %s is silent; it is killed when none of its jobs may run any more", self.spec.name)

    def _is_overdue(self, silent_s: float, now: float) -> bool:
        return silence.overdue(
            silent_s,
            started=self.started.is_set(),
            busy_until=self._busy_until(self.pid),
            now=now,
            limit_s=self.spec.silence_s,
        )

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
        if heard is None:
            return
        self.beat, self.beat_at = heard, time.monotonic()
        if heard.started and not self.started.is_set():
            self.started_at = self.beat_at
            self.started.set()
        if not self.settled_rss and self.age_s >= recycle.LIFE_S:
            self.settled_rss = heard.report.rss

    # ------------------------------------------------------------------ its end

    def drain(self, within_s: float | None = None) -> None:
        """SIGTERM; again: the process hurries. With `within_s` it is killed when it has not ended by then."""
        self.asked = True
        self._signal(signal.SIGTERM)
        if within_s is not None and self._kill is None:
            loop = asyncio.get_running_loop()
            self._kill = loop.call_later(within_s + KILL_SLACK_S, self.kill, "drain")

    def kill(self, why: Killed) -> None:
        """SIGKILL."""
        if self.code is None:
            self.killed = why
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                return

    # ---------------------------------------------------------- what is known of it

    @property
    def drained(self) -> bool:
        """It ended as one that has finished or handed back its jobs, or was never born. SIGTERM kills only where its
        handler is not, or no longer, installed: before the first job, after the last.
        """
        return self.code in (None, 0, -signal.SIGTERM)

    @property
    def age_s(self) -> float:
        """Seconds since it has opened its queues; 0 before that."""
        return time.monotonic() - self.started_at if self.started.is_set() else 0.0

    @property
    def report(self) -> Report:
        """What it said last of how it is."""
        return self.beat.report if self.beat is not None else NO_REPORT

    @property
    def silent_s(self) -> float:
        """How long it has been silent, seconds; 0 while that is too short to count, and before its first beat."""
        silent_s = time.monotonic() - self.beat_at
        return silent_s if self.beat is not None and silent_s > silence.SILENT_S else 0.0

    def states(self) -> list[State]:
        """What it says of itself, in the supervisor's words. No I/O."""
        name = self.spec.name
        if self.beat is None:
            return [State(name, False, "starting")]
        if self.silent_s:
            return [State(name, False, f"silent for {self.silent_s:.0f} s")]
        states = [State(f"{name}.{s.name}", s.ok, s.detail) for s in self.beat.states]
        if not self.beat.ready and all(state.ok for state in states):
            states.append(State(name, False, "not ready"))
        return states
