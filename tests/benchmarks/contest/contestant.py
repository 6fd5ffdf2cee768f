"""The parent's side of a contestant: a process of its own, spoken to in JSON lines (see child.py)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil

from workers.runtime.supervision.event_loop import LoopName

ROOT = Path(__file__).parents[3]
NODE = ROOT / "tests" / "interop" / "node"
#: The longest that anything asked of a contestant may take, seconds; and that an idle worker may take to close.
PATIENCE_S, CLOSE_S = 120.0, 15.0


class SilentError(Exception):
    """A contestant gives no answer."""


class Contestant:
    """One running process.

    Args:
        name: node, or a kind of child.py.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(cls, name: str, url: str, loop: LoopName = "asyncio") -> Contestant:
        """Spawn it, with this event loop where it is a Python process. Its logs go nowhere."""
        command = [sys.executable, "-m", "tests.benchmarks.contest.child", name, url, loop]
        if name == "node":
            command = ["node", str(NODE / "contest.mjs"), json.dumps({"redis": url, "timeout_ms": 3_600_000})]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "NODE_ENV": "production", "NODE_NO_WARNINGS": "1", "OTEL_SDK_DISABLED": "true"},
            limit=2**24,
        )
        return cls(name, process)

    async def ask(self, do: str, *, patience_s: float = PATIENCE_S, **fields: Any) -> dict[str, Any]:
        """Have it do something and wait for the answer.

        Raises:
            SilentError: it died, or does not answer.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), patience_s)
        except TimeoutError:
            raise SilentError(f"{self.name} did not {do} within {patience_s:g} s") from None
        if not line:
            raise SilentError(f"{self.name} died while it was asked to {do}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def rss_mb(self) -> float:
        """Resident memory now, MB."""
        return float(psutil.Process(self._process.pid).memory_info().rss) / 1e6

    async def closes(self) -> bool:
        """Have it close its worker, which is idle; False when that hangs. The process is of no use then."""
        try:
            await self.ask("close", patience_s=CLOSE_S)
        except SilentError:
            return False
        return True

    async def end(self) -> None:
        """Close its input, and see it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
