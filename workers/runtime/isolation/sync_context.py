"""JobContext for a processor that is a plain `def`: each call returns when its host has answered."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from tasks.base import Task
from tasks.priority import Urgency
from workers.contract import Progress, StopRequest, SyncEffect
from workers.contract.effect import EffectState
from workers.runtime.isolation.desk import Reserved


class Host(Protocol):
    """What answers a run in a thread; legal from that thread."""

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

    def ask(self, do: str, *arguments: Any) -> Any:
        """Wait for the desk's answer (desk.py).

        Raises:
            CancelledError: the run was asked to end, once for each time; or it is over.
        """


class SyncContext:
    """See SyncJobContext.

    Args:
        host: answers.
    """

    __slots__ = ("_host",)

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def job_id(self) -> str:
        """See JobContext."""
        return self._host.job_id

    @property
    def attempt(self) -> int:
        """See JobContext."""
        return self._host.attempt

    @property
    def fence(self) -> int:
        """See JobContext."""
        return self._host.fence

    @property
    def deadline(self) -> float:
        """See JobContext."""
        return self._host.deadline

    @property
    def restored(self) -> Any:
        """See JobContext."""
        return self._host.restored

    @property
    def stop(self) -> StopRequest | None:
        """See JobContext."""
        return self._host.stop

    @property
    def checkpoint_due(self) -> bool:
        """See JobContext."""
        return self._host.checkpoint_due

    def decline(self, reason: str) -> None:
        """See JobContext."""
        self._host.decline(reason)

    def progress(self, value: Progress) -> None:
        """See JobContext."""
        self._host.ask("progress", value)

    def log(self, line: str) -> None:
        """See JobContext."""
        self._host.ask("log", line)

    def checkpoint(self, state: Any) -> StopRequest | None:
        """See JobContext."""
        self._host.ask("checkpoint", state)
        return self.stop

    def add(
        self,
        task: Task,
        *,
        child: bool = False,
        priority: int | None = None,
        urgency: Urgency | None = None,
        delay_s: float = 0.0,
    ) -> str:
        """See JobContext."""
        job_id: str = self._host.ask("add", task, child, priority, urgency, delay_s)
        return job_id

    @contextmanager
    def once(self, effect: str) -> Iterator[SyncEffect]:
        """See JobContext."""
        held = HeldEffect(self._host, self._host.ask("reserve", effect))
        try:
            yield held
        except BaseException as error:
            # What ended the block matters more than what becomes of a reservation, which ends with the run in any case.
            with suppress(Exception, asyncio.CancelledError):
                self._host.ask("leave", held.number, error)
            raise
        self._host.ask("leave", held.number, None)

    def children_values(self) -> dict[str, Any]:
        """See JobContext."""
        values: dict[str, Any] = self._host.ask("children_values")
        return values

    def children_failures(self) -> dict[str, str]:
        """See JobContext."""
        failures: dict[str, str] = self._host.ask("children_failures")
        return failures


class HeldEffect:
    """See SyncEffect."""

    __slots__ = ("_host", "_reserved")

    def __init__(self, host: Host, reserved: Reserved) -> None:
        self._host = host
        self._reserved = reserved

    @property
    def number(self) -> int:
        """By which the desk knows it."""
        return self._reserved.number

    @property
    def state(self) -> EffectState:
        """See Effect."""
        return self._reserved.state

    @property
    def result(self) -> Any:
        """See Effect."""
        return self._reserved.result

    def settle(self, result: Any = None) -> None:
        """See Effect."""
        self._host.ask("settle", self._reserved.number, result)


class Waiting:
    """The calls in which a thread waits, one at a time, and the requests to end that reach it there.

    As with a task, each request is raised once: what the processor does then to clean up may ask its host again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due = False
        self._over = False
        self._call: concurrent.futures.Future[Any] | None = None

    def result(self, call: concurrent.futures.Future[Any]) -> Any:
        """What the call returns or raises; CancelledError where the run is to end."""
        with self._lock:
            if self._due or self._over:
                self._due = False
                call.cancel()
                raise asyncio.CancelledError
            self._call = call
        try:
            return call.result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None
        finally:
            self._call = None

    def cancel(self) -> None:
        """Ask the run to end: the call that it waits in is cut short, or the next one."""
        with self._lock:
            if self._call is None or not self._call.cancel():
                self._due = True

    def close(self) -> None:
        """The run is over: no call waits any more."""
        with self._lock:
            self._over = True
            if self._call is not None:
                self._call.cancel()
