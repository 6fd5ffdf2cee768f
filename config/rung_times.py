"""When the rungs of a ladder begin: the rule of both its settings and its runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable

#: Seconds that a request waits for its answer.
WAIT_S = 10.0


def latest_starts(rungs: Iterable[tuple[float | None, float]]) -> list[float]:
    """When each rung begins at the latest, seconds.

    Args:
        rungs: of each its own time, None where it begins when the one before has fallen; and how long it takes to fall
            if nobody answers.
    """
    starts: list[float] = []
    fallen_s = 0.0
    for at_s, patience_s in rungs:
        starts.append(fallen_s if at_s is None else at_s)
        fallen_s = starts[-1] + patience_s
    return starts
