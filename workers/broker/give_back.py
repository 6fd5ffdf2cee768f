"""Gives back the jobs of a process that has ended, so that they need not wait until their locks expire.

They go to the front of `wait`. Where a process died, all that it ran are suspects, and most of them are innocent. Those
that one more death would make poison are given back apart, each some seconds after the other: were they to start
together again, the one that kills would take the others with it once more.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from bullmq.queue_keys import QueueKeys
from bullmq.redis_connection import SCRIPT_DEFINITIONS, loadScript
from redis.asyncio import Redis

from workers.broker.deaths import Bounds, Counted, Deaths
from workers.broker.lease_table import Lease
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.scripts import MOVE_TO_WAIT, Script

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The package registers it on a queue's own connection, which a supervisor does without.
MOVE_TO_DELAYED: str = SCRIPT_DEFINITIONS["moveToDelayed"]
#: Tries to give back one job while Redis is away; the stalled check has it after that.
TRIES = 20
#: The time between two suspects, and the longest that one is put off, milliseconds.
APART_MS, APART_MAX_MS = 10_000, 300_000
#: Jobs of one process that the log names.
NAMED = 20

_TO_WAIT = ("active", "wait", "stalled", "paused", "meta", "limiter", "prioritized", "marker", "events")
_DELAY_BEFORE = ("marker", "active", "prioritized", "delayed")
_DELAY_AFTER = ("events", "meta", "stalled", "wait", "limiter", "pc")


class GiveBack:
    """The jobs of ended processes.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        bounds: of each queue.
        on_poison: told the queue and the id of a job that was told to fail.
        reconnect: the waits between tries while Redis is away.
    """

    def __init__(
        self,
        client: Redis,
        prefix: str,
        bounds: Mapping[str, Bounds],
        on_poison: Callable[[str, str], None] = lambda queue, job_id: None,
        reconnect: Reconnect = RECONNECT,
    ) -> None:
        self.bounds = dict(bounds)
        self._names = QueueKeys(prefix)
        self._move_to_wait: Script = client.register_script(loadScript(MOVE_TO_WAIT))
        self._move_to_delayed: Script = client.register_script(loadScript(MOVE_TO_DELAYED))
        self._deaths = Deaths(client, prefix)
        self._on_poison = on_poison
        self._reconnect = reconnect

    async def all(self, leases: Sequence[Lease], notice: str | None) -> None:
        """Give back what an ended process held. Never raises.

        Args:
            notice: how it died. None: it was asked to end, and its jobs have nothing to do with it.
        """
        delays = await (self._held(leases) if notice is None else self._counted(leases, notice))
        given = await asyncio.gather(*(self._back(lease, delay_ms) for lease, delay_ms in delays.items()))
        _tell(
            [(lease, delay_ms) for (lease, delay_ms), was_ours in zip(delays.items(), given, strict=True) if was_ours]
        )

    async def _held(self, leases: Sequence[Lease]) -> dict[Lease, int]:
        """Those that still are the ended process's; none is to be put off."""
        held = await asyncio.gather(*(self._try(lease, partial(self._deaths.still, lease)) for lease in leases))
        return {lease: 0 for lease, is_held in zip(leases, held, strict=True) if is_held}

    async def _counted(self, leases: Sequence[Lease], notice: str) -> dict[Lease, int]:
        """Count a death; for each job that still was the dead process's, how long to put it off, milliseconds."""
        counts = await asyncio.gather(*(self._count(lease, notice) for lease in leases))
        suspects = [lease for lease, counted in zip(leases, counts, strict=True) if counted.last_chance]
        random.shuffle(suspects)
        apart = {lease: min(APART_MAX_MS, number * APART_MS) for number, lease in enumerate(suspects)}
        return {lease: apart.get(lease, 0) for lease, counted in zip(leases, counts, strict=True) if counted.held}

    async def _count(self, lease: Lease, notice: str) -> Counted:
        bounds = self.bounds.get(lease.queue, Bounds())
        counted = await self._try(lease, lambda: self._deaths.count(lease, notice, bounds))
        if counted is None:
            return Counted(held=False)
        if counted.poison:
            log.error("job %s of %s is poison: its process died too often (%s)", lease.job_id, lease.queue, notice)
            self._on_poison(lease.queue, lease.job_id)
        return counted

    async def _back(self, lease: Lease, delay_ms: int) -> bool:
        move = self._delay if delay_ms else self._to_wait
        return bool(await self._try(lease, lambda: move(lease, delay_ms)))

    async def _try(self, lease: Lease, attempt: Callable[[], Awaitable[T]]) -> T | None:
        for failures in range(1, TRIES + 1):
            try:
                return await attempt()
            except Exception as error:
                log.warning("job %s of a dead process can't be given back yet: %s", lease.job_id, error)
                await asyncio.sleep(self._reconnect.wait_s(failures))
        return None

    async def _to_wait(self, lease: Lease, delay_ms: int) -> bool:
        """The front of `wait`. False: it was not ours any more."""
        key = self._names.getKeys(lease.queue)
        job = self._names.toKey(lease.queue, lease.job_id)
        reply = await self._move_to_wait([key[name] for name in _TO_WAIT], [lease.job_id, lease.token, job])
        return int(reply) >= 0

    async def _delay(self, lease: Lease, delay_ms: int) -> bool:
        """As a job that asked for it, its attempt kept. False: it was not ours any more."""
        key = self._names.getKeys(lease.queue)
        job = self._names.toKey(lease.queue, lease.job_id)
        names = [*(key[name] for name in _DELAY_BEFORE), job, *(key[name] for name in _DELAY_AFTER)]
        args = [key[""], round(time.time() * 1000), lease.job_id, lease.token, delay_ms, "1", "", "0"]
        return int(await self._move_to_delayed(names, args)) >= 0


def _tell(given: Sequence[tuple[Lease, int]]) -> None:
    for lease, delay_ms in given[:NAMED]:
        when = f"again in {delay_ms / 1000:.0f} s, apart from others" if delay_ms else "again"
        log.warning("job %s of %s was held by a process that has ended; it waits %s", lease.job_id, lease.queue, when)
    if len(given) > NAMED:
        log.warning("and %d more jobs of that process", len(given) - NAMED)
