"""One call of a processor, and what a kind of isolation does with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.base import Task
from workers.broker.memory import JobMemory
from workers.contract import JobContext, JobError, Verdict


class RunContext(JobContext, Protocol):
    """The host's side of a JobContext, used on the loop: an isolation whose processor runs elsewhere carries `stop` and
    `checkpoint_due` there, and calls back.
    """

    @property
    def closed(self) -> bool:
        """The run is over for its host, whatever still goes on of it: nothing that it asks is done."""

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever `stop` or `checkpoint_due` has changed; returns what ends that."""


@dataclass(slots=True)
class Call:
    """One run of one job, on its way to the processor.

    Args:
        queue: the queue's name.
        task: the decoded task.
        data: the job's data as it came, for what must send it on.
        context: what the processor may ask.
    """

    queue: str
    task: Task
    data: Mapping[str, Any]
    context: RunContext
    memory: JobMemory | None = None
    """Set by an isolation that can measure it, before the call ends."""
    on_kill: Callable[[], None] | None = field(default=None, repr=False)
    """Set by an isolation that can do more than cancel."""

    def kill(self) -> None:
        """The ladder's last rung: end it by force, where the isolation has any. Legal at any time, also twice."""
        if self.on_kill is not None:
            self.on_kill()


class Isolator(Protocol):
    """Runs a module's processor, call by call. Opened once a process, entered and left like the module itself."""

    async def run(self, call: Call) -> Any:
        """Return the processor's result or outcome; raise what it raised.

        Cancelled, it asks the processor to end and waits for that; a result that it still gives is returned.

        Raises:
            RemoteError: the processor raised, in another process.
            CrashedError: what ran it died.
        """


class RemoteError(JobError):
    """What a processor raised in another process, told by its name, text and stack, classified there.

    Args:
        name: the exception's class.
        reason: its text, with the secrets as they were.
        stack: its last frames.
        verdict: what the module says of it.
    """

    def __init__(self, name: str, reason: str, stack: str, verdict: Verdict) -> None:
        super().__init__(reason)
        self.name = name
        self.stack = stack
        self.verdict = verdict
