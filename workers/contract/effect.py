"""Effects that must happen once, whatever happens to the runs of their job."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeAlias

from workers.contract.errors import PermanentError

EffectState: TypeAlias = Literal["fresh", "done", "unknown"]


class UnavailableError(PermanentError):
    """The processor asked for what this fleet is not configured to give; the message says what to set."""


class Effect(Protocol):
    """One effect for one recipient, reserved."""

    @property
    def state(self) -> EffectState:
        """fresh: nobody has done it, do it now. done: an earlier run did it. unknown: an earlier run began it and died
        before it could say how it went; what that means is the module's declared rule.
        """

    @property
    def result(self) -> Any:
        """What the run that did it settled it with, where it is done."""

    async def settle(self, result: Any = None) -> None:
        """It is done. Args: result: JSON, for later runs."""


class Ledger(Protocol):
    """The port to what remembers effects."""

    def once(self, queue: str, job_id: str, fence: int, effect: str) -> AbstractAsyncContextManager[Effect]:
        """Reserve the effect for this run of this job."""
