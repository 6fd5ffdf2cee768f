"""A JobContext without a host, for tests of queue modules: answers as a host does, refuses what a host refuses, and
notes what it was asked.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tasks.base import Task
from tasks.codec import encode
from workers.broker.checkpoints import encoded
from workers.broker.progress import check as check_progress
from workers.contract import StopRequest
from workers.contract.effect import EffectState

#: All that a processor may do with a context, beyond reading it.
CALLS = frozenset({"decline", "progress", "log", "checkpoint", "add", "once", "children"})


@dataclass
class Reserved:
    """An effect, as the ledger of one job has it."""

    state: EffectState = "fresh"
    result: Any = None


class SettledEffect:
    """An Effect whose `settle` is awaited."""

    def __init__(self, reserved: Reserved, state: EffectState) -> None:
        self._reserved = reserved
        self.state: EffectState = state
        self.result = reserved.result

    async def settle(self, result: Any = None) -> None:
        self._reserved.state, self._reserved.result = "done", result


class SettledSyncEffect:
    """A SyncEffect."""

    def __init__(self, reserved: Reserved, state: EffectState) -> None:
        self._reserved = reserved
        self.state: EffectState = state
        self.result = reserved.result

    def settle(self, result: Any = None) -> None:
        self._reserved.state, self._reserved.result = "done", result


@dataclass
class _Context:
    """What both kinds of context are, and what they note."""

    job_id: str = "job-1"
    attempt: int = 1
    fence: int = 1
    deadline: float = field(default_factory=lambda: time.monotonic() + 30)
    stop: StopRequest | None = None
    checkpoint_due: bool = False
    restored: Any = None
    children: dict[str, Any] = field(default_factory=dict)
    """The results of its children."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why children failed that it may go on without."""
    effects: dict[str, Reserved] = field(default_factory=dict)
    """The ledger: give it to the next context for another run of the same job."""
    progressed: list[Any] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    checkpoints: list[Any] = field(default_factory=list)
    added: list[tuple[Task, bool]] = field(default_factory=list)
    """Tasks, and whether as a child."""
    declined: list[str] = field(default_factory=list)

    allowed: ClassVar[frozenset[str]] = CALLS
    """Those of CALLS that the module under test may make; a subclass names fewer."""

    def _asked(self, call: str) -> None:
        assert call in self.allowed, f"the module asked its host for {call!r}, which it has no business with"

    def decline(self, reason: str) -> None:
        self._asked("decline")
        assert isinstance(reason, str), "a reason is a text"
        self.declined.append(reason)

    def _progress(self, value: Any) -> None:
        self._asked("progress")
        check_progress(value)
        self.progressed.append(value)

    def _log(self, line: str) -> None:
        self._asked("log")
        assert isinstance(line, str), "a line is a text"
        self.lines.append(line)

    def _checkpoint(self, state: Any) -> StopRequest | None:
        self._asked("checkpoint")
        encoded(state)
        self.checkpoints.append(state)
        self.checkpoint_due = False
        return self.stop

    def _add(self, task: Task, child: bool) -> str:
        self._asked("add")
        assert isinstance(task, Task), "a task is added"
        encode(task)
        self.added.append((task, child))
        return f"{task.type}-{len(self.added)}"

    def _reserve(self, effect: str) -> tuple[Reserved, EffectState]:
        self._asked("once")
        reserved = self.effects.setdefault(effect, Reserved())
        state = reserved.state
        if state == "fresh":
            reserved.state = "unknown"  # until it is settled
        return reserved, state

    def _children(self, what: dict[str, Any]) -> dict[str, Any]:
        self._asked("children")
        return dict(what)


class Context(_Context):
    """A JobContext."""

    async def progress(self, value: Any) -> None:
        self._progress(value)

    async def log(self, line: str) -> None:
        self._log(line)

    async def checkpoint(self, state: Any) -> StopRequest | None:
        return self._checkpoint(state)

    async def add(self, task: Task, *, child: bool = False, **how: Any) -> str:
        return self._add(task, child)

    @asynccontextmanager
    async def once(self, effect: str) -> AsyncIterator[SettledEffect]:
        yield SettledEffect(*self._reserve(effect))

    async def children_values(self) -> dict[str, Any]:
        return self._children(self.children)

    async def children_failures(self) -> dict[str, str]:
        return self._children(self.failures)


class SyncContext(_Context):
    """A SyncJobContext."""

    def progress(self, value: Any) -> None:
        self._progress(value)

    def log(self, line: str) -> None:
        self._log(line)

    def checkpoint(self, state: Any) -> StopRequest | None:
        return self._checkpoint(state)

    def add(self, task: Task, *, child: bool = False, **how: Any) -> str:
        return self._add(task, child)

    @contextmanager
    def once(self, effect: str) -> Iterator[SettledSyncEffect]:
        yield SettledSyncEffect(*self._reserve(effect))

    def children_values(self) -> dict[str, Any]:
        return self._children(self.children)

    def children_failures(self) -> dict[str, str]:
        return self._children(self.failures)
