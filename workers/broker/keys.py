"""Names in Redis: BullMQ's client names, and every key that is Fleet's own.

Fleet's own keys are `fleet:<prefix>:<queue>:…`, beside BullMQ's and never among them. A hash tag in the prefix is in
them too, so that a script may touch both on a cluster.
"""

from __future__ import annotations

import base64

#: The field of a job's row that says that there is a checkpoint: its value names the job that the checkpoint is of,
#: since an id may be given again. In the row, so that a job without one costs no look-up. BullMQ passes over it.
CHECKPOINT_FIELD = "fleet:checkpoint"

#: How the tokens of our locks begin: by it is known who holds a job. Node's are `<uuid>:<n>`.
TOKEN_PREFIX = "fleet:"  # noqa: S105 - no password


def client_name(prefix: str, queue: str, worker: str) -> str:
    """The connection name by which BullMQ for Node lists workers: `bull:<base64(queue)>:w:<name>`.

    Source: npm bullmq, `QueueBase.clientName` and `Queue.getWorkers`.
    """
    encoded = base64.b64encode(queue.encode()).decode()
    return f"{prefix}:{encoded}:w:{worker}"


def own(prefix: str, queue: str, *parts: str) -> str:
    """A key of Fleet's own that belongs to one queue."""
    return ":".join(("fleet", prefix, queue, *parts))


def own_pattern(prefix: str) -> str:
    """All keys of Fleet's own beside this prefix, as an ACL names them."""
    return own(prefix, "*")


def checkpoint(prefix: str, queue: str, job_id: str) -> str:
    """The checkpoint of one job: a hash of `job` (see CHECKPOINT_FIELD) and `state`; expires."""
    return own(prefix, queue, "checkpoint", job_id)


def deaths(prefix: str, queue: str, job_id: str) -> str:
    """How often a process died while it ran this job: a hash, see `deaths.py`; expires."""
    return own(prefix, queue, "deaths", job_id)


def cancellation(prefix: str, queue: str, job_id: str) -> str:
    """That one running job is to be stopped, see `cancellations.py`; expires."""
    return own(prefix, queue, "cancel", job_id)


def schedules(prefix: str, queue: str) -> str:
    """Which job schedulers of the queue are declared in a fleet.yaml: a hash of marks by id, see `schedulers.py`."""
    return own(prefix, queue, "schedules")


def paused_by(prefix: str, queue: str) -> str:
    """Who has paused the queue through Fleet: a hash of `by` and `at`, ms; deleted when it is resumed."""
    return own(prefix, queue, "paused-by")


def paused_since(prefix: str, queue: str) -> str:
    """Since when the queue has been seen paused, ms, without a break; expires when nobody looks any more."""
    return own(prefix, queue, "paused-since")
