"""Stops running jobs from anywhere: a request lies in Redis beside the job, and the worker that runs it looks.

A look costs one command a second for each queue of a process, and only for jobs that have run for a second: shorter
ones, and idle workers, cost nothing. A request names the one job that it is for, since an id may be given again, and
is forgotten when that has ended; else it expires.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from tasks.status import TaskStatus, status_of
from workers.broker import keys
from workers.broker.activation import Activation
from workers.broker.data_status import stored_status, with_status
from workers.broker.endings import CANCELLED, Completed, Ending, Failed
from workers.broker.hold import Hold, Interrupt

#: Seconds between two looks.
LOOK_S = 1.0
#: How long a run that was asked to stop may go on, and how long it may clean up after its cancellation, seconds.
GRACE_S, CLEANUP_S = 10.0, 5.0
#: How long a request is kept that nobody has answered.
KEPT_MS = 86_400_000
#: How long a worker that ends waits for what is left to be written, seconds.
CLOSE_S = 1.0

# What a running job was asked is over with it: the request, and the status that was to tell its owner.
_SETTLE = """
if redis.call("GET", KEYS[2]) == ARGV[1] then redis.call("DEL", KEYS[2]) end
if ARGV[2] == "" or redis.call("HGET", KEYS[1], "data") ~= ARGV[2] then return 0 end
redis.call("HSET", KEYS[1], "data", ARGV[3])
return 1
"""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """What lies beside the job."""

    job: str
    """The job's `timestamp`, as its row has it."""
    reason: str
    """Of its failure: by whom it was cancelled, and why."""
    at_ms: int = 0

    def text(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: object) -> CancelRequest | None:
        """None: there is none, or none of ours."""
        try:
            said = json.loads(text if isinstance(text, str) else "")
            return cls(str(said["job"]), str(said["reason"]), int(said["at_ms"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


class Cancellations:
    """The requests for jobs of one queue's worker.

    Args:
        client: commands; closed by whoever made it.
        holds: the jobs that the worker has now.
        on_error: told what failed: the error, where, the job's id or nothing.
    """

    def __init__(
        self,
        client: Redis,
        prefix: str,
        queue: str,
        holds: Callable[[], Collection[Hold]],
        on_error: Callable[[BaseException, str, str], None],
        *,
        look_s: float = LOOK_S,
        grace_s: float = GRACE_S,
        cleanup_s: float = CLEANUP_S,
    ) -> None:
        self._client, self._prefix, self._queue = client, prefix, queue
        self._holds, self._on_error = holds, on_error
        self._look_s, self._grace_s, self._cleanup_s = look_s, grace_s, cleanup_s
        self._settle = client.register_script(_SETTLE)
        self._permitted = True
        self._settling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look for ever, or until Redis refuses it: the user may not read Fleet's own keys. The owner cancels it."""
        before: set[Hold] = set()
        while self._permitted:
            await asyncio.sleep(self._look_s)
            now = set(self._holds())
            looked_at = [hold for hold in now & before if not hold.cancelled]
            before = now
            if looked_at:
                await self._look(looked_at)

    async def _look(self, holds: list[Hold]) -> None:
        try:
            found = await self._client.mget([self._key(hold.job.id) for hold in holds])
        except NoPermissionError as error:
            self._permitted = False
            self._on_error(error, "cancel", "")
            return
        except Exception as error:
            self._on_error(error, "cancel", "")
            return
        for hold, text in zip(holds, found, strict=True):
            request = CancelRequest.of(text)
            if request is not None and request.job == hold.job.raw.get("timestamp", ""):
                by = time.monotonic() + self._grace_s
                hold.ask_back(Interrupt("cancel", request.reason, by, self._cleanup_s))

    def settle(self, hold: Hold, ending: Ending) -> None:
        """Redis has this ending: of a job that was cancelled, forget the request some time soon, and let a status that
        says Canceling say how it ended. Nothing where nobody has asked.
        """
        if isinstance(ending, Completed | Failed) and (hold.cancelled or getattr(ending, "error", "") == CANCELLED):
            status = TaskStatus.FAILED if isinstance(ending, Failed) else TaskStatus.COMPLETED
            task = asyncio.create_task(self._settled(hold.job, status), name="settle-cancellation")
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Let what is to be written be so, as long as that takes no longer."""
        if self._settling:
            _, late = await asyncio.wait(self._settling, timeout=within_s)
            for task in late:
                task.cancel()

    async def _settled(self, job: Activation, status: TaskStatus) -> None:
        row, key = f"{self._prefix}:{self._queue}:{job.id}", self._key(job.id)
        try:
            text, known = await self._client.get(key), await self._client.hmget(row, ["data", "timestamp"])
            request = CancelRequest.of(text)
            data, made = (str(each or "") for each in known)
            mine = made == job.raw.get("timestamp", "")
            canceling = mine and status_of(stored_status(data)) is TaskStatus.CANCELING
            new = with_status(data, status) if canceling else None
            own = str(text) if request is not None and request.job == job.raw.get("timestamp", "") else ""
            await self._settle(keys=[row, key], args=[own, data if new else "", new or ""])
        except Exception as error:
            self._on_error(error, "cancel", job.id)

    def _key(self, job_id: str) -> str:
        return keys.cancellation(self._prefix, self._queue, job_id)
