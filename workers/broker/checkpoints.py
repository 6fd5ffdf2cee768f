"""Where a run keeps what a later run of its job goes on from.

Each job has one checkpoint at most, written only while the run's lock is the job's. A field of the job's row says that
there is one (`keys.CHECKPOINT_FIELD`), so that a job without one costs nothing, and a job that was given the id of an
older one never finds that one's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn

from redis.asyncio import Redis

from workers.broker import keys
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Delayed, Ending, Failed, Retry

#: Bytes of the largest checkpoint, as JSON in UTF-8.
MAX_CHECKPOINT = 2**20
#: How long a checkpoint is kept after it was saved, or after the time until which its job was put off.
KEPT_MS = 7 * 86_400_000
#: How long a worker that ends waits for checkpoints to be forgotten, seconds; after that they expire.
CLOSE_S = 1.0

# A row that is gone is not made anew. The lock's token keeps a run that lost the lock from overwriting what the newer
# one has saved; it belongs to the slot, which may run the job again, and there `ats` tells the two runs apart. Whatever
# else lies under the key is replaced.
_SAVE = """
if redis.call("GET", KEYS[2]) ~= ARGV[1] or redis.call("HGET", KEYS[1], "ats") ~= ARGV[6] then return nil end
redis.call("HSET", KEYS[1], ARGV[2], ARGV[3])
redis.call("DEL", KEYS[3])
redis.call("HSET", KEYS[3], "job", ARGV[3], "state", ARGV[4])
return redis.call("PEXPIRE", KEYS[3], ARGV[5])
"""

# Sent after the job has ended, when another may have its id.
_FORGET = """
if redis.call("HGET", KEYS[1], "job") == ARGV[1] then return redis.call("DEL", KEYS[1]) end
return 0
"""


class NotOursError(Exception):
    """Something of a run's was not saved: the job is no longer the run's, or is gone.

    Args:
        what: the checkpoint, its progress, a line of its log.
    """

    def __init__(self, job_id: str, what: str = "the checkpoint") -> None:
        super().__init__(f"{what} of job {job_id} was not saved: another run may have the job")


class CorruptCheckpointError(Exception):
    """What is stored as the job's checkpoint is none; the run starts from the beginning."""

    def __init__(self, job_id: str, problem: str) -> None:
        super().__init__(f"the checkpoint of job {job_id} can't be read: {problem}")


def encoded(state: Any) -> str:
    """The state as it is stored.

    Raises:
        TypeError: it holds something that JSON does not have.
        ValueError: it is no JSON otherwise (NaN, a cycle, nested too deeply, half a character), or too large.
    """
    try:
        text = json.dumps(state, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except RecursionError:
        raise ValueError("the checkpoint is nested too deeply for JSON") from None
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # lone surrogates: JSON can carry them only escaped
        text = json.dumps(state, separators=(",", ":"), allow_nan=False)
        size = len(text)
    if size > MAX_CHECKPOINT:
        raise ValueError(
            f"the checkpoint has {size:,} bytes, more than the {MAX_CHECKPOINT:,} that are kept; "
            "store what is large elsewhere, and where it is here"
        )
    return text


class Checkpoints:
    """The checkpoints of one queue's jobs.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        queue: the queue's name.
        on_error: told why one could not be forgotten or kept longer: the error, where, the job's id.
    """

    def __init__(
        self, client: Redis, prefix: str, queue: str, on_error: Callable[[BaseException, str, str], None]
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._queue = queue
        self._on_error = on_error
        self._save = client.register_script(_SAVE)
        self._forget = client.register_script(_FORGET)
        self._settling: set[asyncio.Task[None]] = set()

    async def save(self, job: Activation, mark: str, text: str) -> None:
        """Store an encoded state in place of the former one.

        Args:
            mark: see `marked`; the same for all runs of the job, and no other job's.

        Raises:
            NotOursError: the job is not this run's any more; nothing was written.
            redis.exceptions.RedisError, OSError: it was not stored, or is not known to be.
        """
        row = f"{self._prefix}:{self._queue}:{job.id}"
        args: list[str | int] = [job.token, keys.CHECKPOINT_FIELD, mark, text, KEPT_MS, job.fence]
        if await self._save(keys=[row, f"{row}:lock", self._key(job.id)], args=args) is None:
            raise NotOursError(job.id)

    async def load(self, job: Activation) -> Any:
        """The state that an earlier run of this job has saved; None where there is none, without asking Redis.

        Raises:
            CorruptCheckpointError: what is stored is not what was saved.
            redis.exceptions.RedisError, OSError: it can't be told.
        """
        mark = marked(job)
        if mark is None:
            return None
        found, text = await self._client.hmget(self._key(job.id), ["job", "state"])
        if found != mark:  # expired, forgotten, or of an older job with this id
            return None
        return _decoded(job.id, None if text is None else str(text))

    def settle(self, job_id: str, mark: str, ending: Ending) -> None:
        """After the ending of a run that has saved or restored: some time soon a job that is over is forgotten, and
        one that was put off keeps its checkpoint until then. What fails is told to `on_error`, and expires.
        """
        key = self._key(job_id)
        match ending:
            case Completed() | Failed():
                self._begin(job_id, partial(self._forget, keys=[key], args=[mark]))
            case Delayed(delay_ms=delay) | Retry(delay_ms=delay):
                self._begin(job_id, partial(self._client.pexpire, key, KEPT_MS + delay))

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Let what is to be forgotten be so, as long as that takes no longer."""
        if self._settling:
            _, late = await asyncio.wait(self._settling, timeout=within_s)
            for task in late:
                task.cancel()

    def _begin(self, job_id: str, command: Callable[[], Awaitable[Any]]) -> None:
        task = asyncio.create_task(self._settled(job_id, command), name="settle-checkpoint")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settled(self, job_id: str, command: Callable[[], Awaitable[Any]]) -> None:
        try:
            await command()
        except Exception as error:
            self._on_error(error, "checkpoint", job_id)

    def _key(self, job_id: str) -> str:
        return keys.checkpoint(self._prefix, self._queue, job_id)


def marked(job: Activation) -> str | None:
    """What the job's row says of its checkpoint; None: it has none."""
    return job.raw.get(keys.CHECKPOINT_FIELD) or None


def _decoded(job_id: str, text: str | None) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    if text is None:
        raise CorruptCheckpointError(job_id, "it has no state")
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpointError(job_id, str(error)) from None
