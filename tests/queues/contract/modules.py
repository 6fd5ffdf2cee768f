"""A queue module made for the contract's own tests: sound as it is, and broken one way at a time."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from tasks.base import Task
from tests.queues.contract.case import Case, Example, Surroundings
from workers.contract import JobContext, QueueModule, Services, SyncJobContext, Verdict

QUEUE = "echo-send"
SECRET = "hunter2-hunter2"
#: How long a broken module is waited for, seconds.
SOON_S = 0.7


class EchoSend(Task):
    type: Literal["echo-send"] = "echo-send"
    words: list[str] = Field(default_factory=list)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    times: int = 1


class EchoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    password: SecretStr
    inner: Inner = Inner()


Work: TypeAlias = Callable[["Echo", Any, Any], Awaitable[Any]]


@dataclass
class Trash:
    """What broken modules leave lying about, for the test to take away."""

    tasks: list[asyncio.Future[Any]] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    ends: list[threading.Event] = field(default_factory=list)

    def task(self, work: Any) -> asyncio.Future[Any]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    def socket(self) -> socket.socket:
        self.sockets.append(socket.socket())
        return self.sockets[-1]

    def thread(self) -> None:
        self.ends.append(threading.Event())
        threading.Thread(target=self.ends[-1].wait, daemon=True).start()

    async def empty(self) -> None:
        for each in self.sockets:
            each.close()
        for end in self.ends:
            end.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class Echo:
    """What the module has open."""

    trash: Trash
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    connection: socket.socket | None = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


async def sound(echo: Echo, task: EchoSend, ctx: JobContext) -> Any:
    """Asks its host for all that there is, and has a connection of its own."""
    if stop := ctx.stop:
        return stop.outcome()
    await ctx.progress({"status": "running", "progress": 0.5})
    await ctx.log("half-way")
    if stop := await ctx.checkpoint({"half": True}):
        return stop.outcome()
    async with echo.lock:
        connection = socket.socket()
        try:
            await asyncio.sleep(0)
            async with ctx.once("echo") as effect:
                if effect.state == "fresh":
                    await effect.settle("said")
            await asyncio.sleep(0.001)
        finally:
            connection.close()
    return {"words": task.words}


def opened_with(work: Work, trash: Trash) -> Callable[[Services, EchoOptions], AbstractAsyncContextManager[Any]]:
    """An `open` whose processor does this."""

    @asynccontextmanager
    async def open_echo(services: Services, options: EchoOptions) -> AsyncIterator[Any]:
        echo = Echo(trash)
        await asyncio.sleep(0)

        async def process(task: EchoSend, ctx: JobContext) -> Any:
            return await work(echo, task, ctx)

        try:
            yield process
        finally:
            echo.close()

    return open_echo


@asynccontextmanager
async def open_sync(services: Services, options: EchoOptions) -> AsyncIterator[Any]:
    """A processor that is a plain `def`."""

    def process(task: EchoSend, ctx: SyncJobContext) -> Any:
        if stop := ctx.stop:
            return stop.outcome()
        ctx.progress(50)
        ctx.checkpoint([1])
        with ctx.once("echo") as effect:
            effect.settle()
        return len(task.words)

    yield process


def judge(error: Exception) -> Verdict:
    return Verdict(retry=isinstance(error, OSError))


def module(trash: Trash, **changed: Any) -> QueueModule[Any, Any]:
    """The sound module, with these fields in place of its own; `work` is what its processor does."""
    work = changed.pop("work", sound)
    fields: dict[str, Any] = {"task": EchoSend, "options": EchoOptions, "classify": judge}
    return QueueModule(**{**fields, "open": opened_with(work, trash), **changed})


def surroundings(**changed: Any) -> Surroundings:
    """The Example that the sound module works with, or another."""
    example = Example(
        options={"password": SECRET},
        data=[{"type": QUEUE, "id": "1", "words": ["a"], "newer": {"field": 1}}, {"type": QUEUE, "id": "2"}],
        secrets=[SECRET],
    )

    @asynccontextmanager
    async def found() -> AsyncIterator[Example]:
        yield replace(example, **changed)

    return found


def case(made: QueueModule[Any, Any], sources: Path, *, queue: str = QUEUE, **example: Any) -> Case:
    return Case(queue=queue, module=made, sources=sources, surroundings=surroundings(**example), patience_s=SOON_S)


async def for_ever() -> None:
    """Until it is cancelled."""
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
