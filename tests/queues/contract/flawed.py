"""Parts of a queue module, each with one thing wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, SecretStr

from tasks.base import Task
from tests.queues.contract import modules
from tests.queues.contract.modules import QUEUE, Echo, EchoOptions, EchoSend, Inner, Trash
from workers.contract import JobContext, Services, Snooze, TransientError, Verdict


class OtherType(Task):
    type: Literal["other-send"] = "other-send"


class LooseType(Task):
    type: str = QUEUE


class OwnMail(Task):
    type: Literal["email-send"] = "email-send"


class Forgetful(EchoSend):
    model_config = ConfigDict(extra="ignore")


class Lenient(EchoSend):
    model_config = ConfigDict(strict=False, coerce_numbers_to_str=True)


class TakesAll(EchoOptions):
    model_config = ConfigDict(extra="ignore")


class TakesAllInside(EchoOptions):
    class Loose(Inner):
        model_config = ConfigDict(extra="ignore")

    inner: Inner = Loose()


class ShowsPassword(EchoOptions):
    password: str  # type: ignore[assignment]


class ShowsInput(BaseModel):
    model_config = ConfigDict(extra="forbid")

    password: SecretStr


def picky(error: Exception) -> Verdict:
    return Verdict(retry="later" in error.args[0])


def speechless(error: Exception) -> Any:
    return None


def moody(error: Exception) -> Verdict:
    return Verdict(retry_after_s=random.random())


def meddling(error: Exception) -> Verdict:
    error.args = ()
    return Verdict()


def timeless(error: Exception) -> Verdict:
    return Verdict(retry_after_s=float("nan"))


def vague(error: Exception) -> Any:
    return Verdict(failure="strange")  # type: ignore[arg-type]


Open: TypeAlias = Callable[[Services, EchoOptions], Any]


def eager(trash: Trash) -> Open:
    def open_echo(services: Services, options: EchoOptions) -> Any:
        trash.task(modules.for_ever())
        return modules.opened_with(modules.sound, trash)(services, options)

    return open_echo


def leaking(leave: Callable[[Trash], object]) -> Callable[[Trash], Open]:
    def make(trash: Trash) -> Open:
        @asynccontextmanager
        async def open_echo(services: Services, options: EchoOptions) -> AsyncIterator[Any]:
            async with modules.opened_with(modules.sound, trash)(services, options) as process:
                leave(trash)
                yield process

        return open_echo

    return make


def lonely(trash: Trash) -> Open:
    """One connection for all that are open: the first to close closes it for the others."""
    shared: list[asyncio.Event] = []

    @asynccontextmanager
    async def open_echo(services: Services, options: EchoOptions) -> AsyncIterator[Any]:
        closed = asyncio.Event()
        shared[:] = shared or [closed]

        async def process(task: EchoSend, ctx: JobContext) -> Any:
            if shared[0].is_set():
                raise TransientError("the connection is closed")
            return ctx.stop and ctx.stop.outcome()

        yield process
        shared[0].set()

    return open_echo


def deaf(trash: Trash) -> Open:
    @asynccontextmanager
    async def open_echo(services: Services, options: EchoOptions) -> AsyncIterator[Any]:
        with suppress(RuntimeError):
            yield modules.sound

    return open_echo


def careless(trash: Trash) -> Open:
    """Closes what it has opened only if all went well."""

    @asynccontextmanager
    async def open_echo(services: Services, options: EchoOptions) -> AsyncIterator[Any]:
        connection = trash.socket()
        async with modules.opened_with(modules.sound, trash)(services, options) as process:
            yield process
        connection.close()

    return open_echo


async def raises(echo: Echo, task: Any, ctx: Any) -> Any:
    raise TransientError("not today")


async def returns_a_set(echo: Echo, task: Any, ctx: Any) -> Any:
    return {1, 2}


async def changes_its_task(echo: Echo, task: Any, ctx: Any) -> Any:
    task.words.append("and another")


async def works_alone(echo: Echo, task: Any, ctx: Any) -> Any:
    """A lock that waits for the other jobs, each of which takes its time."""
    async with echo.lock:
        await asyncio.sleep(modules.SOON_S / 2)


async def says_progress_wrongly(echo: Echo, task: Any, ctx: Any) -> Any:
    await ctx.progress("half")


async def never_looks(echo: Echo, task: Any, ctx: Any) -> Any:
    return "done"


async def snoozes(echo: Echo, task: Any, ctx: JobContext) -> Any:
    return Snooze(5.0, "later") if ctx.stop else None


async def waits_for_more_time(echo: Echo, task: Any, ctx: JobContext) -> Any:
    if ctx.stop:
        return ctx.stop.outcome()
    if ctx.deadline < time.monotonic():
        await asyncio.Event().wait()
    return None


async def goes_on(echo: Echo, task: Any, ctx: Any) -> Any:
    """Takes its cancellation for something that passes."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
        return None
    await asyncio.Event().wait()


async def leaves_its_connection(echo: Echo, task: Any, ctx: Any) -> Any:
    connection = echo.trash.socket()
    await asyncio.sleep(0.001)
    connection.close()


async def leaves_its_child(echo: Echo, task: Any, ctx: Any) -> Any:
    child = echo.trash.task(modules.for_ever())
    await asyncio.sleep(0.001)
    child.cancel()
    await asyncio.wait({child})


async def leaves_the_door_shut(echo: Echo, task: Any, ctx: Any) -> Any:
    await echo.lock.acquire()
    await asyncio.sleep(0)
    echo.lock.release()


async def forgets_an_error(echo: Echo, task: Any, ctx: Any) -> Any:
    async def fails() -> None:
        raise ValueError("nobody asks")

    failing = asyncio.ensure_future(fails())
    await asyncio.sleep(0)
    failing.done()


async def works_in_a_shelter(echo: Echo, task: Any, ctx: Any) -> Any:
    work = echo.trash.task(asyncio.sleep(60))
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(work)
