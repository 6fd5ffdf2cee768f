"""`fleet dev` as a process of its own, as `make run` starts it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import wait_until
from workers.dev.embedded import EmbeddedValkey
from workers.dev.resp import ask

FOREIGN = re.compile(r"FLEET_|REDIS_URL|SMTP_URL|SITE_EMAIL_|OTEL_|NO_COLOR|HTTP_PORT")


class Command:
    """A running `fleet dev`; its standard output and error are in `out` and `err`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.out: list[str] = []
        self.err: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []

    async def start(self, *arguments: str, **variables: str) -> Command:
        env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers",
            "dev",
            *arguments,
            cwd=self.directory,
            env={**env, "PYTHONPATH": str(Path(__file__).parents[3]), "FLEET__HTTP__PORT": "0", **variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        for stream, lines in ((process.stdout, self.out), (process.stderr, self.err)):
            assert stream is not None
            self._readers.append(asyncio.create_task(self._read(stream, lines)))
        return self

    async def _read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        async for line in stream:
            lines.append(line.decode().rstrip("\n"))

    def says(self, pattern: str) -> re.Match[str] | None:
        """The first line of its output that matches, as a match."""
        return next((match for line in self.out if (match := re.search(pattern, line))), None)

    async def hear(self, pattern: str) -> re.Match[str]:
        """Wait for such a line."""

        def heard() -> re.Match[str] | None:
            assert self.running or self.says(pattern), "\n".join(["it ended:", *self.out, *self.err])
            return self.says(pattern)

        match = await wait_until(heard, timeout_s=40)
        assert match is not None
        return match

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def interrupt(self) -> None:
        """What a terminal does on Ctrl-C: the whole foreground group gets it."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)

    async def end(self) -> int:
        """Wait for its end and return the exit code."""
        assert self._process is not None
        async with asyncio.timeout(40):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        return code

    async def kill(self) -> None:
        if self._process is not None and self.running:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._readers)


@pytest.fixture
async def fleet_dev(tmp_path: Path) -> AsyncIterator[Callable[..., Command]]:
    commands: list[Command] = []

    def make() -> Command:
        commands.append(Command(tmp_path))
        return commands[-1]

    yield make
    for command in commands:
        await command.kill()


async def test_main_job_runs_end_to_end_and_ctrl_c_drains(fleet_dev: Callable[[], Command], tmp_path: Path) -> None:
    command = await fleet_dev().start("--rate", "10")
    health = (await command.hear(r"health: (http://\S+)"))[1]
    await command.hear(r"welcome-\S+-1 completed in ")
    await command.hear(r"reset-password:\S+ completed in ")
    await command.hear(r"newsletter-\S+-3 attempt 1 failed, again in .*: .*451")
    await command.hear(r"trial-\S+-8 failed: .*550")
    await command.hear(r"newsletter-\S+-3 completed in ")
    assert await asyncio.to_thread(lambda: urlopen(health).status) == 200

    command.interrupt()
    assert await command.end() == 0
    summary = command.says(r"email-send: (\d+) completed, (\d+) retried, (\d+) failed")
    mails = command.says(r"^mails: (\d+) in \.fleet/mails")
    assert summary is not None
    assert mails is not None
    stored = list((tmp_path / ".fleet" / "mails").glob("*.eml"))
    assert len(stored) == int(mails[1]) == int(summary[1])
    assert command.err == []


#: Imported by the interpreter at its start: every mail is given to a processor that ignores its cancellation.
DEAF = """
import asyncio
from workers.queues.email_send.processor import EmailProcessor

async def deaf(self, task, ctx):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

EmailProcessor.__call__ = deaf
"""


async def test_processor_that_ignores_its_cancellation_does_not_keep_it_from_ending(
    fleet_dev: Callable[[], Command], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEAF)
    path = f"{tmp_path}{os.pathsep}{Path(__file__).parents[3]}"
    command = await fleet_dev().start("--set", "pools.communication.grace=1s", PYTHONPATH=path)
    await command.hear(r"welcome-\S+-1 started")
    command.interrupt()
    assert await command.end() == 0
    assert command.says(r"welcome-\S+-1 handed back")
    log = (tmp_path / ".fleet" / "fleet.log").read_text()
    assert "a processor still runs although it was cancelled" in log


async def test_data_survives_a_kill_and_nothing_is_left_running(
    fleet_dev: Callable[[], Command], tmp_path: Path
) -> None:
    first = await fleet_dev().start("--rate", "5")
    await first.hear("completed in")
    await first.kill()
    second = await fleet_dev().start("--no-producer", "--for", "1s")
    assert await second.end() == 0
    record = json.loads((tmp_path / ".fleet" / "valkey" / "server.json").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(record["pid"], 0)


async def test_without_node_the_python_producer_works_and_says_so(
    fleet_dev: Callable[[], Command], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    command = await fleet_dev().start("--rate", "20", PATH=str(tmp_path / "empty"))
    await command.hear(r"jobs from: the Python producer \(Node is not installed\)")
    await command.hear(r"k3j9x0ab12cd:reset-password:\S+ completed in ")
    await command.hear("welcome-.*completed in ")
    command.interrupt()
    assert await command.end() == 0


async def test_own_redis_is_joined_and_gets_no_jobs(fleet_dev: Callable[[], Command], tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "other", durable=False)
    await server.start()
    try:
        command = await fleet_dev().start("--for", "1s", REDIS_URL=server.url)
        assert await command.end() == 0
        assert command.out[0] == "Fleet, with the Redis server of the configuration"
        assert command.says(f"redis: {server.url}")
        assert command.says("email-send 5 slots running")
        assert not command.says("jobs from|mails:")
        assert not (tmp_path / ".fleet").exists()
        assert "cmdstat_evalsha" in await ask(server.port, "INFO", "commandstats")
        assert any('"event": "worker running"' in line for line in command.err)
    finally:
        await server.stop(by=time.monotonic() + 5)


async def test_terminal_shows_the_live_board(tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers", "dev", "--rate", "5", "--for", "4s"),
        cwd=tmp_path,
        env={**env, "PYTHONPATH": str(Path(__file__).parents[3]), "FLEET__HTTP__PORT": "0", "TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    drawn = bytearray()

    def read() -> None:
        while True:
            try:
                drawn.extend(os.read(screen, 65536))
            except OSError:  # EIO: the other side is closed
                return

    reading = asyncio.create_task(asyncio.to_thread(read))
    async with asyncio.timeout(40):
        assert await process.wait() == 0
        await reading
    os.close(screen)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.decode())
    last = text[text.rindex("Fleet, all on this machine") :]
    for part in ("mails", ".fleet/mails", "health", "http://127.0.0.1:", "email-send", "completed in", "✓"):
        assert part in last
    assert '"event":' not in text  # the log goes to its file
    assert "job completed" in (tmp_path / ".fleet" / "fleet.log").read_text()
