"""The Node producer as a child process: where it is, whether it can run, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
from collections import deque
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

#: One thing that a producer says, such as `{"event": "added", "queue": …, "id": …}`.
Message: TypeAlias = dict[str, object]

FOLDER = Path(__file__).parent / "producer_node"
OLDEST_NODE = 18
VERSION_S = 10.0  # for `node --version`
STDERR_LINES = 20  # the last ones are kept
LONGEST_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class NodeRuntime:
    """A Node that can run the producer."""

    path: str
    version: str
    bullmq: str
    """Version of the npm package."""

    def __str__(self) -> str:
        return f"Node {self.version} with bullmq {self.bullmq}"


@dataclass(frozen=True, slots=True)
class NodeMissing:
    """Why there is none."""

    reason: str


async def find_node(folder: Path = FOLDER) -> NodeRuntime | NodeMissing:
    """The installed Node, if it is new enough and the producer's npm packages are in place."""
    path = shutil.which("node")
    if path is None:
        return NodeMissing("Node is not installed")
    version = await _version(path)
    if version is None:
        return NodeMissing(f"{path} does not tell its version")
    if int(version.split(".")[0]) < OLDEST_NODE:
        return NodeMissing(f"Node {version} is too old, {OLDEST_NODE} is needed")
    try:
        package = json.loads((folder / "node_modules/bullmq/package.json").read_text("utf-8"))
        if (folder / "node_modules/ioredis/package.json").is_file():
            return NodeRuntime(path, version, str(package["version"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return NodeMissing(f"the producer's npm packages are not installed, run: npm ci --prefix {folder}")


async def _version(path: str) -> str | None:
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(VERSION_S):
            output, _ = await process.communicate()
    except TimeoutError:
        _signal_all(process, signal.SIGKILL)
        await process.wait()
        return None
    match = re.fullmatch(r"v(\d+\.\d+\.\d+\S*)", output.decode(errors="replace").strip())
    return match[1] if match else None


def _signal_all(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal the process and its children: `node` may be a version manager's script that runs the real one."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


class NodeProducer:
    """`producer.mjs` as a child: away from the terminal's Ctrl-C, and gone when this process is.

    Args:
        node: which Node.
        url: of Redis; handed over in the environment, where `ps` does not show it.
        prefix: BullMQ's key prefix.
        queues: jobs of these are added.
        rate: jobs a second.
    """

    def __init__(
        self, node: NodeRuntime, *, url: str, prefix: str, queues: Collection[str], rate: float, folder: Path = FOLDER
    ) -> None:
        self._url = url
        self._command = [node.path, str(folder / "producer.mjs"), "--with-parent"]
        self._command += ["--rate", repr(rate), "--queues", ",".join(queues), "--prefix", prefix]
        self._process: asyncio.subprocess.Process | None = None
        self._errors: deque[str] = deque(maxlen=STDERR_LINES)
        self._failure = ""

    async def messages(self) -> AsyncGenerator[Message]:
        """Run it and yield what it says until it ends; `ending` tells why."""
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, "REDIS_URL": self._url},
                stdin=asyncio.subprocess.PIPE,  # kept open: its end tells the child that this process died
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self._failure = f"it can't be started: {error}"
            return
        errors = asyncio.create_task(self._read_errors(process.stderr))
        try:
            async for line in _lines(process.stdout):
                message = _parsed(line)
                if message.get("event") == "failed":
                    self._failure = str(message.get("message", ""))
                yield message
            await process.wait()
            await errors
        finally:
            errors.cancel()
            await self.kill()

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end, and kill it after `timeout_s` seconds."""
        if self._process is None:
            return
        _signal_all(self._process, signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            _signal_all(self._process, signal.SIGKILL)
            await self._process.wait()

    def ending(self) -> str:
        """Why it ended, on one line."""
        if self._failure:
            return self._failure
        code = None if self._process is None else self._process.returncode
        words = [line for line in self._errors if "Error" in line] or list(self._errors)
        return f"exit code {code}" + (f": {words[-1]}" if words else "")

    async def _read_errors(self, stderr: asyncio.StreamReader | None) -> None:
        async for line in _lines(stderr):
            if text := line.decode(errors="replace").strip():
                self._errors.append(text[:LONGEST_REASON])


async def _lines(stream: asyncio.StreamReader | None) -> AsyncGenerator[bytes]:
    """Line by line to the end; what is too long for the reader's buffer is left out."""
    while stream is not None and not stream.at_eof():
        try:
            yield await stream.readline()
        except ValueError:
            continue


def _parsed(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
