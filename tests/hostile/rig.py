"""Isolations with the hostile module in them, and runs without a server: a context that answers by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from config.schema import LogConfig, QueueConfig
from tasks.base import Task
from tests.hostile import module, sync_module
from tests.hostile.task import Hostile
from workers.contract import Effect, StopRequest
from workers.contract.effect import EffectState
from workers.runtime.isolation.call import Call, Isolator
from workers.runtime.isolation.children import Children, Limits
from workers.runtime.isolation.choice import brief, isolate

MODULES = {"async": module, "sync": sync_module}
#: Where a processor may run, and of which kind it is there.
KINDS = {
    "async": ("async", "async"),
    "thread": ("thread", "sync"),
    "process": ("process", "async"),
    "process, def": ("process", "sync"),
}


@dataclass
class Ledger:
    """Effects in memory, with what became of each reservation."""

    effects: dict[str, tuple[EffectState, Any]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def once(self, name: str) -> AsyncIterator[Effect]:
        task = asyncio.current_task()
        held = Held(self, name)
        try:
            yield held
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        else:
            self.left.append("well")
        finally:
            assert asyncio.current_task() is task, "left in another task than it was entered in"


@dataclass
class Held:
    ledger: Ledger
    name: str

    def __post_init__(self) -> None:
        self.state, self.result = self.ledger.effects.get(self.name, ("fresh", None))
        self.ledger.effects.setdefault(self.name, ("unknown", None))

    async def settle(self, result: Any = None) -> None:
        self.ledger.effects[self.name] = ("done", result)


@dataclass(eq=False)
class Answers:
    """The host's side of a run; says what it was asked. `raises` has what a call raises, by its name."""

    job_id: str = "job 1"
    attempt: int = 2
    fence: int = 3
    deadline: float = field(default_factory=lambda: time.monotonic() + 100)
    restored: Any = None
    stop: StopRequest | None = None
    checkpoint_due: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    raises: dict[str, Exception] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    slow_s: float = 0.0
    closed: bool = False
    _listeners: list[Callable[[], None]] = field(default_factory=list)

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def ask(self, stop: StopRequest | None = None, *, checkpoint: bool = False) -> None:
        """As the run's driver does."""
        self.stop, self.checkpoint_due = stop, checkpoint
        for listener in tuple(self._listeners):
            listener()

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [each[1:] for each in self.asked if each[0] == name]

    async def _answer(self, *asked: Any) -> None:
        await asyncio.sleep(self.slow_s)
        self.asked.append(asked)
        if asked[0] in self.raises:
            raise self.raises[asked[0]]

    def decline(self, reason: str) -> None:
        self.asked.append(("decline", reason))
        self.ask()

    async def progress(self, value: Any) -> None:
        await self._answer("progress", value)

    async def log(self, line: str) -> None:
        await self._answer("log", line)

    async def checkpoint(self, state: Any) -> StopRequest | None:
        await self._answer("checkpoint", state)
        return self.stop

    async def add(self, task: Task, *, child: bool = False, **how: Any) -> str:
        await self._answer("add", task, child)
        return "added 1"

    def once(self, effect: str) -> AbstractAsyncContextManager[Effect]:
        if "once" in self.raises:
            raise self.raises["once"]
        return self.ledger.once(effect)

    async def children_values(self) -> dict[str, Any]:
        await self._answer("children_values")
        return {"bull:q:7": {"n": 1}}

    async def children_failures(self) -> dict[str, str]:
        await self._answer("children_failures")
        return {"bull:q:8": "why"}


def call(act: str, context: Answers | None = None, **args: Any) -> Call:
    """One run of an act."""
    data = {"type": "hostile", "id": "1", "act": act, "args": args}
    return Call(queue="hostile", task=Hostile.model_validate(data), data=data, context=context or Answers())


def entry(kind: str = "process", flavour: str = "async", *, slots: int = 2, **task: Any) -> QueueConfig:
    """A queue of fleet.yaml that is served by the hostile module."""
    fields = {"timeout": "60s", "isolation": kind, **task}
    served = {"pool": "p", "module": MODULES[flavour].__name__, "concurrency": slots, "task": fields}
    return QueueConfig.model_validate(served)


@asynccontextmanager
async def isolated(
    kind: str = "process",
    flavour: str = "async",
    *,
    errors: list[Exception] | None = None,
    log: LogConfig | None = None,
    **more: Any,
) -> AsyncIterator[Isolator]:
    """The hostile module, opened where its jobs are to run."""
    on_error = (errors if errors is not None else []).append
    chosen = entry(kind, flavour, **more)
    module = MODULES[flavour].MODULE
    options = module.options.model_validate(chosen.task.options)
    async with isolate("hostile", module, options, chosen, log or LogConfig(level="debug"), on_error) as there:
        yield there


def children(
    flavour: str = "async", *, size: int = 2, max_jobs: int = 1000, memory: int = 2**40, **more: Any
) -> Children:
    """Child processes alone, not started yet."""
    options = {name: more.pop(name) for name in ("on_error", "backoff", "tell", "patience_s") if name in more}
    starts = more.pop("starts", 0)
    told = brief("hostile", entry("process", flavour, **more), LogConfig(level="debug"))
    return Children(told, Limits(size=size, max_jobs=max_jobs, memory=memory, starts=starts), **options)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; it may still be a zombie of somebody else's."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def own_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def own_zombies() -> list[int]:
    return [each.pid for each in psutil.Process().children() if each.status() == psutil.STATUS_ZOMBIE]
