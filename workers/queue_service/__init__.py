"""The fleet's own view of its queues, for whoever adds to them, watches or measures them."""

from __future__ import annotations

from workers.broker.pressure import Limits, Pressure
from workers.broker.stats import QueueStats, StatsReader
from workers.queue_service.admission import Admission, QueueState
from workers.queue_service.errors import (
    QueueFull,
    QueueServiceError,
    QueueUnavailableError,
)

__all__ = [
    "Admission",
    "Limits",
    "Pressure",
    "QueueFull",
    "QueueServiceError",
    "QueueState",
    "QueueStats",
    "QueueUnavailableError",
    "StatsReader",
]
