"""After a reply was lost: what does Redis say happened? A script is never sent again blindly."""

from __future__ import annotations

from dataclasses import dataclass

from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Retry


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of an ending whose reply was lost."""

    applied: bool
    """The ending is in Redis, exactly once."""
    ours: bool
    """Not applied, and the job is still locked by this slot: it may be sent again."""
    next_job: Activation | None = None
    """The job that was fetched with the ending."""


async def settle(backend: FleetBackend, job: Activation, ending: Ending) -> Settled:
    """Look where the job is. The slot's token on its lock: the script did not run. The token on another active
    job: it ran, and that is the next one. Else the job's state must be the one that the ending leads to.
    """
    client = backend.conn
    if await client.get(backend.toKey(f"{job.id}:lock")) == job.token:
        return Settled(applied=False, ours=True)
    next_job = await find_by_token(backend, job.token)
    if next_job is not None:
        return Settled(applied=True, ours=False, next_job=next_job)
    return Settled(applied=await _shows(backend, job, ending), ours=False)


async def find_by_token(backend: FleetBackend, token: str) -> Activation | None:
    """The active job that is locked with this token: one that a fetch took although its reply was lost."""
    client = backend.conn
    ids = await _active(backend)
    if not ids:
        return None
    locks = await client.mget([backend.toKey(f"{job_id}:lock") for job_id in ids])
    for job_id, lock in zip(ids, locks, strict=True):
        if lock == token:
            row = await client.hgetall(backend.toKey(job_id))
            return backend.activation(job_id, row, token)
    return None


async def _shows(backend: FleetBackend, job: Activation, ending: Ending) -> bool:
    """Whether the job's row carries the mark that this ending, and only this one, leaves there."""
    row = await backend.conn.hgetall(backend.toKey(job.id))
    if not row:  # removed on completion or failure by its keep rule
        return isinstance(ending, Completed | Failed)
    now = backend.activation(job.id, row, job.token)
    if now.stalls != job.stalls:  # it was taken from us: whatever the row says may be another worker's doing
        return False
    match ending:
        case Completed() | Failed():
            return bool(row.get("finishedOn")) and now.attempts_made == job.attempts_made + 1
        case Retry():
            return now.attempts_made == job.attempts_made + 1
        case Delayed() | HandedBack():
            same = (now.attempts_made, now.processed_on) == (job.attempts_made, job.processed_on)
            return same and job.id not in await _active(backend)
        case _:
            return False


async def _active(backend: FleetBackend) -> list[str]:
    return [str(job_id) for job_id in await backend.conn.lrange(backend.keys["active"], 0, -1)]
