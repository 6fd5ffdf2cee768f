"""JobContext for processors that are a plain `def`: the same questions, answered before the call returns."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from tasks.base import Task
from tasks.priority import Urgency
from workers.contract.context import Progress, StopRequest
from workers.contract.effect import EffectState


class SyncEffect(Protocol):
    """See Effect."""

    @property
    def state(self) -> EffectState: ...

    @property
    def result(self) -> Any: ...

    def settle(self, result: Any = None) -> None: ...


class SyncJobContext(Protocol):
    """One execution of one job, seen from a thread. Every method means what JobContext's of that name does."""

    @property
    def job_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def fence(self) -> int: ...

    @property
    def deadline(self) -> float: ...

    @property
    def restored(self) -> Any: ...

    @property
    def stop(self) -> StopRequest | None: ...

    @property
    def checkpoint_due(self) -> bool: ...

    def decline(self, reason: str) -> None: ...

    def progress(self, value: Progress) -> None: ...

    def log(self, line: str) -> None: ...

    def checkpoint(self, state: Any) -> StopRequest | None: ...

    def add(
        self,
        task: Task,
        *,
        child: bool = False,
        priority: int | None = None,
        urgency: Urgency | None = None,
        delay_s: float = 0.0,
    ) -> str: ...

    def once(self, effect: str) -> AbstractContextManager[SyncEffect]: ...

    def children_values(self) -> dict[str, Any]: ...

    def children_failures(self) -> dict[str, str]: ...
