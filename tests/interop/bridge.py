"""BullMQ for Node at the other end of a pipe (node/bridge.mjs): one process a major version for the whole run."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "node" / "bridge.mjs"
#: How long one answer may take, seconds.
ANSWER_S = 30.0


async def eventually(question: Callable[[], Awaitable[object]], *, timeout_s: float = 20.0) -> None:
    """Ask Node until the answer is true."""
    end = time.monotonic() + timeout_s
    while not await question():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {question}"
        await asyncio.sleep(0.02)


class BridgeError(AssertionError):
    """Node answered with an error."""


class Bridge:
    """One Node process. A thread reads its lines, so that it outlives the event loop of a test."""

    def __init__(self, node: str, url: str, major: int) -> None:
        self.major = major
        self._numbers = itertools.count(1)
        self._answers: dict[int, Future[Any]] = {}
        self._ready: Future[None] = Future()
        self.lines: list[dict[str, Any]] = []
        """What it said unasked."""
        self.process = subprocess.Popen(
            [node, str(SCRIPT), json.dumps({"redis": url, "bullmq": major})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ready.result(ANSWER_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "n" in said:
                answer = self._answers.pop(said["n"])
                if "error" in said:
                    answer.set_exception(BridgeError(said["error"]))
                else:
                    answer.set_result(said["ok"])
            elif "ready" in said:
                self._ready.set_result(None)
            else:
                self.lines.append(said)
        if not self._ready.done():
            self._ready.set_exception(BridgeError("Node ended before it was ready"))
        for answer in list(self._answers.values()):
            answer.set_exception(BridgeError("Node has ended"))

    async def ask(self, request: Mapping[str, Any]) -> Any:
        """Node's answer."""
        number = next(self._numbers)
        answer: Future[Any] = Future()
        self._answers[number] = answer
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**request, "n": number}) + "\n")
        self.process.stdin.flush()
        return await asyncio.wait_for(asyncio.wrap_future(answer), ANSWER_S)

    def end(self) -> None:
        """Close its input, which ends it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(10)
        self.process.stdout.close()


class Js:
    """A bridge seen by one test, under its prefix."""

    def __init__(self, bridge: Bridge, prefix: str) -> None:
        self.major = bridge.major
        self.prefix = prefix
        self._bridge = bridge
        self._before = len(bridge.lines)

    async def _ask(self, what: str, **request: Any) -> Any:
        return await self._bridge.ask({"prefix": self.prefix, "do": what, **request})

    async def queue(self, name: str, method: str, *args: Any) -> Any:
        """A method of Node's Queue."""
        return await self._ask("queue", queue=name, method=method, args=args)

    async def add(self, queue: str, do: list[Any] | None = None, /, *, name: str = "n", **opts: Any) -> dict[str, Any]:
        """Add a job that does this (see `acts`), with these options."""
        data = {"do": do} if do else {}
        job: dict[str, Any] = await self.queue(queue, "add", name, data, opts)
        return job

    async def flow(self, method: str, *args: Any) -> Any:
        """A method of Node's FlowProducer."""
        return await self._ask("flow", method=method, args=args)

    async def job(self, queue: str, job_id: str, method: str = "", *args: Any) -> Any:
        """The job as Node sees it, or what its method returns."""
        return await self._ask("job", queue=queue, id=job_id, method=method, args=args)

    async def wait(self, queue: str, job_id: str, ttl: int = 20_000) -> dict[str, Any]:
        """waitUntilFinished: {"result": …} or {"reason": …}."""
        ended: dict[str, Any] = await self._ask("wait", queue=queue, id=job_id, ttl=ttl)
        return ended

    async def listen(self, queue: str) -> None:
        """Hear the queue's events, see `heard`."""
        await self._ask("listen", queue=queue)

    async def work(self, queue: str, *, backoff: str | None = None, **opts: Any) -> None:
        """Start a Node worker."""
        await self._ask("work", queue=queue, opts=opts, backoff=backoff)

    async def repeat(self, after_ms: int, repeat: dict[str, Any], count: int) -> list[int]:
        """When a scheduler with these repeat options runs next, after this time, and next …: by Node's library."""
        times: list[int] = await self._ask("repeat", args=[after_ms, repeat, count])
        return times

    async def stop(self, queue: str) -> None:
        """End the queue's worker as the Node stack does on SIGTERM: the queue is paused for everyone."""
        await self._ask("stop", queue=queue)

    async def rest(self, queue: str) -> None:
        """Close the queue's Node worker."""
        await self._ask("rest", queue=queue)

    async def close(self) -> None:
        """Close all that this test made."""
        await self._ask("close")

    def told(self, event: str, queue: str = "q") -> list[dict[str, Any]]:
        """What the queue's Node worker said of this kind."""
        return [line for line in self._mine(queue) if line.get("worker") == event]

    def heard(self, event: str, queue: str = "q") -> list[dict[str, Any]]:
        """The payloads of the queue's events of this kind."""
        return [line["heard"][1] for line in self._mine(queue) if line.get("heard", [None])[0] == event]

    def errors(self) -> list[str]:
        """Errors that Node's objects emitted, and those that nobody in Node awaited."""
        mine = [line for line in self._bridge.lines[self._before :] if line["prefix"] in (self.prefix, "")]
        return [line["error"] for line in mine if "error" in line]

    def _mine(self, queue: str) -> list[dict[str, Any]]:
        here = (self.prefix, queue)
        return [line for line in self._bridge.lines[self._before :] if (line["prefix"], line["queue"]) == here]
