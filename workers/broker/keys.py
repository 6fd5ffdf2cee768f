"""Names in Redis: BullMQ's client names, and every key that is Fleet's own."""

from __future__ import annotations

import base64


def client_name(prefix: str, queue: str, worker: str) -> str:
    """The connection name by which BullMQ for Node lists workers: `bull:<base64(queue)>:w:<name>`.

    Source: npm bullmq, `QueueBase.clientName` and `Queue.getWorkers`.
    """
    encoded = base64.b64encode(queue.encode()).decode()
    return f"{prefix}:{encoded}:w:{worker}"
