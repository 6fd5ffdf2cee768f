"""A queue module with what its contract is tried on."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tasks.base import Task
from tasks.codec import decode
from tests.job_context import Context, SyncContext
from workers.contract import QueueModule, Services
from workers.queues import discover

ROOT = Path(__file__).parents[3]
#: Jobs as the Node stack adds them, of all queues: beside the project where there is such a folder, else its own copy.
FIXTURES = (ROOT.parent / "shared" / "fixtures" / "example_jobs.json", ROOT / "workers" / "dev" / "example_jobs.json")
#: Slots of a module that is opened for a rule.
SLOTS = 3


@dataclass(frozen=True, kw_only=True)
class Example:
    """What one module works with, once its surroundings (servers, files) are there."""

    options: dict[str, Any]
    """What `task.options` says, complete."""
    data: Sequence[dict[str, Any]] = ()
    """Data of jobs that it does, besides those of FIXTURES. At least one of both kinds must be there."""
    secrets: Sequence[str] = ()
    """Texts in `options` that nobody may see."""
    context: type[Context] = Context
    """What its processor is given, if it must not ask its host for all that there is."""


Surroundings: TypeAlias = Callable[[], AbstractAsyncContextManager[Example]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One module under test: a folder here (`cases()`), or a module of somebody's own by its import."""

    queue: str
    module: QueueModule[Any, Any]
    sources: Path
    """Its folder, or its file."""
    surroundings: Surroundings
    patience_s: float = 15.0
    """How long what should end may take, seconds: for a machine that is busy, not for a module that is slow."""

    @asynccontextmanager
    async def opened(self, example: Example, slots: int = SLOTS) -> AsyncIterator[Opened]:
        """The module, opened as its host opens it."""
        options = self.module.options.model_validate(example.options)
        async with asyncio.timeout(self.patience_s):
            manager = self.module.open(Services(queue=self.queue, slots=slots), options)
            processor = await manager.__aenter__()
        try:
            yield Opened(self, example, processor)
        finally:
            async with asyncio.timeout(self.patience_s):
                await manager.__aexit__(None, None, None)

    def jobs(self, example: Example) -> list[dict[str, Any]]:
        """Data of jobs that the module does."""
        found = [*fixtures(self.queue, self.module.task), *example.data]
        assert found, (
            f"queue {self.queue} has no example jobs: give `data` to the Example in"
            f" tests/queues/{self.queue.replace('-', '_')}/examples.py"
        )
        return found

    def tasks(self, example: Example) -> list[Task]:
        """The same, decoded."""
        types = {self.module.task.type_name(): self.module.task}
        return [decode(data, types) for data in self.jobs(example)]


@dataclass
class Opened:
    """A module between its opening and its closing."""

    case: Case
    example: Example
    processor: Any
    contexts: list[Context | SyncContext] = field(default_factory=list)

    @property
    def is_sync(self) -> bool:
        """The processor is a plain `def`, which its host runs in a thread."""
        call = self.processor if inspect.isfunction(self.processor) else type(self.processor).__call__
        return not inspect.iscoroutinefunction(call)

    async def process(self, task: Task, **context: Any) -> Any:
        """One run, without a time limit of ours."""
        context.setdefault("deadline", time.monotonic() + 2 * self.case.patience_s)
        if self.is_sync:
            self.contexts.append(SyncContext(**context))
            return await asyncio.to_thread(self.processor, task, self.contexts[-1])
        self.contexts.append(self.example.context(**context))
        return await self.processor(task, self.contexts[-1])

    async def ends(self, task: Task, **context: Any) -> Any:
        """The same, which must end in time."""
        async with asyncio.timeout(self.case.patience_s):
            return await self.process(task, **context)


def fixtures(queue: str, task: type[Task]) -> list[dict[str, Any]]:
    """The data of this queue's jobs of this type; none where there are no FIXTURES."""
    file = next((file for file in FIXTURES if file.is_file()), None)
    jobs = json.loads(file.read_text(encoding="utf-8")) if file is not None else []
    return [job["data"] for job in jobs if job["queue"] == queue and job["data"]["type"] == task.type_name()]


def cases() -> list[Case]:
    """Every queue module that there is. `tests/queues/<folder>/examples.py` has the SURROUNDINGS of each."""
    return [
        Case(
            queue=queue,
            module=module,
            sources=ROOT / "workers" / "queues" / queue.replace("-", "_"),
            surroundings=surroundings_of(queue),
        )
        for queue, module in discover().items()
    ]


def surroundings_of(queue: str) -> Surroundings:
    """What the module of this queue works with, found by its folder."""
    name = f"tests.queues.{queue.replace('-', '_')}.examples"

    @asynccontextmanager
    async def found() -> AsyncIterator[Example]:
        try:
            surroundings: Surroundings = importlib.import_module(name).SURROUNDINGS
        except (ImportError, AttributeError) as error:
            raise AssertionError(f"{name}: expected SURROUNDINGS, what the module works with: {error}") from error
        async with surroundings() as example:
            yield example

    return found
