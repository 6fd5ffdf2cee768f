"""Where a run can begin: an isolation that has only so many places hands one out before the run's time counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from workers.contract import Snooze
from workers.runtime.isolation.call import Call
from workers.runtime.isolation.child import Child


class NoPlaceError(Exception):
    """A run can't begin here now; the message says why. Nothing has been done, and nothing is spent.

    Args:
        wait_s: when it is worth another try, seconds.
    """

    def __init__(self, reason: str, wait_s: float) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Place(Protocol):
    """What one run needs; ours until the run has ended, or `free`."""

    async def run(self, call: Call) -> Any:
        """See Isolator. Once; it gives the place back itself."""

    def free(self) -> None:
        """Give it back, unless a run has begun here. Idempotent."""


@runtime_checkable
class Places(Protocol):
    """An isolation that has only so many places."""

    patience_s: float
    """How long `place` waits at most, seconds."""

    def take(self) -> Place | None:
        """One that is free now."""

    def place(self) -> Awaitable[Place]:
        """Wait for one. Cancelled, it has taken none.

        Raises:
            NoPlaceError: none was free in time.
        """

    @property
    def trouble(self) -> str:
        """Why there is no place at all, and none is to be had; empty while all is well."""


def trouble_of(isolation: object) -> Callable[[], str]:
    """Tells what keeps an isolation from running anything: see Places."""
    return (lambda: isolation.trouble) if isinstance(isolation, Places) else str


class ChildPlace:
    """A child that waits for one run; see Place.

    Args:
        release: takes the child back.
    """

    __slots__ = ("_child", "_release")

    def __init__(self, child: Child, release: Callable[[Child], None]) -> None:
        self._child: Child | None = child
        self._release = release

    async def run(self, call: Call) -> Any:
        """See Place."""
        child, self._child = self._child, None
        assert child is not None  # noqa: S101 - once
        try:
            if child.doomed:  # it has died since it was taken
                return Snooze(delay_s=0.0, reason="its child process died before the job began")
            return await child.run(call)
        finally:
            self._release(child)

    def free(self) -> None:
        """See Place."""
        child, self._child = self._child, None
        if child is not None:
            self._release(child)
