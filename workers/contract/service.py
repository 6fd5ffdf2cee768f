"""Anything long-lived: one shape for starting, watching and stopping it."""

from __future__ import annotations

from typing import Protocol


class Health(Protocol):
    """A named check's answer."""

    @property
    def ok(self) -> bool: ...

    @property
    def detail(self) -> str:
        """One line for a person; no secrets."""


class Service(Protocol):
    """A long-lived part. Constructors do no I/O."""

    @property
    def name(self) -> str: ...

    async def start(self) -> None:
        """Return when ready to work."""

    async def wait(self) -> None:
        """Return after `stop`; raise if the service died by itself."""

    async def stop(self, *, by: float) -> None:
        """End by `by` (monotonic seconds), whatever the dependencies do. Idempotent; legal before `start`."""

    def health(self) -> Health:
        """The present state. No I/O."""
