"""The façade over the queues: add, look and act, for Python producers, operators, the CLI and the HTTP API."""

from __future__ import annotations

from workers.broker.pressure import Limits, Pressure
from workers.broker.stats import QueueStats, StatsReader
from workers.queue_service.admission import Admission, QueueState
from workers.queue_service.errors import (
    InvalidRequestError,
    QueueFull,
    QueueServiceError,
    QueueUnavailableError,
    RefusedError,
    UnknownJobError,
    UnknownQueueError,
)

__all__ = [
    "Admission",
    "InvalidRequestError",
    "Limits",
    "Pressure",
    "QueueFull",
    "QueueServiceError",
    "QueueState",
    "QueueStats",
    "QueueUnavailableError",
    "RefusedError",
    "StatsReader",
    "UnknownJobError",
    "UnknownQueueError",
]
