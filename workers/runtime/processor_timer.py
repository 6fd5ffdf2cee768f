"""A signal after so much processor time, handled by the main thread between two of its instructions.

That is the one moment at which code sees who held the GIL: right after the call that did, before anything else. Only
time spent computing counts, so no blocking call is ever interrupted because it waits. Where somebody else uses
SIGVTALRM, or the loop is not the main thread's, there is no such timer, and nothing else changes.

The signal's default ends the process, so the timer never outlives its handler: an interpreter that ends unwatched (a
job has closed the loop's descriptors) gives every signal its default back while the timer would still run.
"""

from __future__ import annotations

import atexit
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

log = logging.getLogger(__name__)


class ProcessorTimer:
    """One timer of the process.

    Args:
        call: called in the main thread with the frame that was interrupted. What it raises is logged.
    """

    def __init__(self, call: Callable[[FrameType | None], None]) -> None:
        self._call = call
        self._installed = False

    def install(self) -> bool:
        """Take the signal; False where that is not possible."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            return False
        if signal.getsignal(signal.SIGVTALRM) != signal.SIG_DFL or signal.getitimer(signal.ITIMER_VIRTUAL) != (0, 0):
            return False
        signal.signal(signal.SIGVTALRM, self._handle)
        signal.siginterrupt(signal.SIGVTALRM, False)
        atexit.register(self.remove)
        self._installed = True
        return True

    def arm(self, seconds: float) -> None:
        """Call after so much processor time, counted from now and once. What was armed before is not."""
        if not self._installed:
            return
        if signal.getsignal(signal.SIGVTALRM) == self._handle:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        else:  # a job's code has taken the signal: the timer is its own now
            self.remove()

    def remove(self) -> None:
        """Give the signal back. Legal at any time, also twice."""
        if not self._installed:
            return
        self._installed = False
        atexit.unregister(self.remove)
        handler = signal.getsignal(signal.SIGVTALRM)
        if handler in (self._handle, signal.SIG_DFL):
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if handler == self._handle:
            signal.signal(signal.SIGVTALRM, signal.SIG_IGN)  # so that one on its way is dropped
            signal.signal(signal.SIGVTALRM, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            self._call(frame)
        except Exception:  # it would come out of whatever the main thread is doing: a job
            log.exception("what the main thread is doing can't be told")
