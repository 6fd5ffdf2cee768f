"""How long a job says that it may run. Pure.

Two places say it, in milliseconds, and they are not worth the same. `timeout` in the task (or in its `options`) is what
its producer chose for this job. `timeout` in the job's options is ignored by BullMQ since version 4, and the Node stack
writes one default into every job of a queue: taken at its word it would cut runs short that today may go on, so it can
only give a run more time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.broker.numbers import is_number

#: The shortest time that a job can ask for, seconds.
MIN_S = 0.001


@dataclass(frozen=True, slots=True)
class Hint:
    """What one job says."""

    own_s: float | None = None
    """The time that it wants, seconds."""
    at_least_s: float | None = None
    """The time that it wants at least, seconds; counts where `own_s` is None."""


NO_HINT = Hint()


def hint_of(data: Mapping[str, Any], opts: Mapping[str, Any]) -> Hint:
    """What a job's data and options say. What is no positive number of milliseconds says nothing."""
    options = data.get("options")
    own = _seconds(data.get("timeout"))
    if own is None and isinstance(options, Mapping):
        own = _seconds(options.get("timeout"))
    return Hint(own, _seconds(opts.get("timeout")))


def _seconds(milliseconds: Any) -> float | None:
    if not is_number(milliseconds) or milliseconds <= 0:
        return None
    return max(milliseconds / 1000, MIN_S)
