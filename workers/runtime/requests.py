"""What the host asks of one run, as it stands: written by its driver, read and answered through its context.

All of it happens on the loop; who stands elsewhere (a thread, another process) is told of changes and sends answers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from workers.broker.hold import Hold
from workers.broker.result import clean
from workers.contract import StopRequest

log = logging.getLogger(__name__)

#: Characters of a refusal's reason that are logged.
MAX_SAID = 200


class Requests:
    """The requests to one run.

    Args:
        hold: the job; its interrupts are requests too.
        deadline: monotonic seconds at which the run is cancelled at the latest.
    """

    __slots__ = ("_binding", "_deadline", "_hold", "_listeners", "_stop", "answered", "checkpoint_due", "on_answer")

    def __init__(self, hold: Hold, deadline: float = math.inf) -> None:
        self._hold = hold
        self._deadline = deadline
        self._stop: StopRequest | None = None
        self._binding = False
        self._listeners: list[Callable[[], None]] | None = None
        self.checkpoint_due = False
        """See JobContext."""
        self.answered = False
        """The run has declined what the ladder asked last, or saved what it asked for; read and reset by the driver."""
        self.on_answer: Callable[[], None] | None = None
        """Called when it has; the driver's."""

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which the run is cancelled at the latest."""
        return self._deadline

    @property
    def stop(self) -> StopRequest | None:
        """What counts of the interrupt and the ladder: a lost lock outranks a cancellation, that a time that is up,
        that a drain, and that a pause.
        """
        interrupt, asked = self._hold.interrupt, self._stop
        if interrupt is None:
            return asked
        by = min(interrupt.by, self._deadline if asked is None else asked.by)
        if asked is not None and asked.kind == "deadline" and interrupt.kind == "drain":
            return StopRequest(kind="deadline", reason=asked.reason, by=by)
        kind = "stop" if interrupt.kind == "cancel" else interrupt.kind
        return StopRequest(kind=kind, reason=interrupt.reason, by=by)

    # ------------------------------------------------------------- the host's

    def ask(self, stop: StopRequest | None = None, *, checkpoint: bool = False, binding: bool = False) -> None:
        """Replace what the ladder asks; nothing takes it back.

        Args:
            binding: it can't be declined.
        """
        self._stop, self.checkpoint_due, self._binding, self.answered = stop, checkpoint, binding, False
        self.changed()

    def changed(self) -> None:
        """Tell the listeners; for an interrupt, which is written elsewhere."""
        for listener in tuple(self._listeners or ()):
            try:
                listener()
            except Exception:
                log.exception("a listener to the requests of a run failed")

    # -------------------------------------------------------------- the run's

    def decline(self, reason: str) -> None:
        """See JobContext."""
        if (self._stop is not None or self.checkpoint_due) and not self._binding:
            log.info("a run declined what its ladder asked: %s", clean(str(reason), MAX_SAID))
            self._answer()

    def saved(self) -> None:
        """The run has saved a checkpoint."""
        if self.checkpoint_due:
            self._answer()

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` on the loop whenever `stop` or `checkpoint_due` has changed; returns what ends that."""
        listeners = self._listeners = self._listeners or []
        listeners.append(listener)

        def unsubscribe() -> None:
            if listener in listeners:
                listeners.remove(listener)

        return unsubscribe

    def _answer(self) -> None:
        """What was asked is over; the driver sees what follows."""
        self.ask()
        self.answered = True
        if self.on_answer is not None:
            self.on_answer()
