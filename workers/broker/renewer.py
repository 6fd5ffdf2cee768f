"""Renews the locks of one process in a thread of its own: a processor that blocks the event loop keeps its job.

The thread has its own event loop and its own connection. What stops even a thread (a regular expression that holds
the GIL, SIGSTOP) is noticed by the supervisor, which reads the same leases and renews them meanwhile (takeover.py).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgpack
from bullmq.redis_connection import loadScript
from redis.asyncio import Redis

from workers.broker.lease_table import KEPT_S, Lease, LeaseTable

#: A lock is renewed when a third of its life is over, so that two failures in a row do no harm.
RENEW_AT = 1 / 3
#: Between two looks at the leases, seconds: the longest and the shortest.
TICK_MAX_S, TICK_MIN_S = 0.5, 0.02


@dataclass(eq=False, slots=True)
class _Held:
    lease: Lease
    index: int
    renewed_at: float
    on_lost: Callable[[], None]


async def renew(client: Redis, prefix: str, leases: Iterable[Lease]) -> set[Lease]:
    """Extend these locks, one script call a queue (extendLocks.lua); those that are no longer ours.

    Raises:
        redis.exceptions.RedisError, OSError: nothing is known about what is left.
    """
    extend = client.register_script(_extend_locks())
    groups: dict[tuple[str, int], list[Lease]] = defaultdict(list)
    for lease in leases:
        groups[lease.queue, lease.lock_ms].append(lease)
    lost: set[Lease] = set()
    for (queue, lock_ms), group in groups.items():
        base = f"{prefix}:{queue}:"
        tokens, ids = [lease.token for lease in group], [lease.job_id for lease in group]
        args: list[Any] = [base, msgpack.packb(tokens), msgpack.packb(ids), lock_ms]
        refused = set(await extend(keys=[f"{base}stalled"], args=args) or ())
        lost.update(lease for lease in group if lease.job_id in refused)
    return lost


_script: list[str] = []


def _extend_locks() -> str:
    if not _script:
        _script.append(loadScript("extendLocks-1.lua"))
    return _script[0]


class Renewer:
    """The renewal thread. `hold`, `bound` and `release` are called on the loop that started it.

    Args:
        connect: makes a client; called in the thread.
        prefix: BullMQ's key prefix.
        table: where the supervisor reads along; None without one.
        on_error: told what goes wrong with a renewal, on the starting loop.
    """

    def __init__(
        self,
        connect: Callable[[], Redis],
        prefix: str,
        on_error: Callable[[BaseException], None],
        table: LeaseTable | None = None,
    ) -> None:
        self._connect = connect
        self._prefix = prefix
        self._on_error = on_error
        self._table = table
        self._kept_s = KEPT_S if table is not None else 0.0
        self._free = list(range(table.records)) if table is not None else []
        self._held: dict[int, _Held] = {}
        self._next = 0
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: Callable[[], object] | None = None

    def start(self) -> None:
        """Start the thread; again: nothing."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="fleet-leases", daemon=True)
            self._thread.start()

    async def stop(self) -> None:
        """End the thread, after all jobs are released; bounded to a second."""
        self._stop.set()
        if self._thread is not None:
            if self._ends is not None:
                with suppress(RuntimeError):  # the thread's loop has closed
                    self._ends()
            await asyncio.to_thread(self._thread.join, 1.0)

    def hold(self, lease: Lease, on_lost: Callable[[], None]) -> int:
        """Renew this lease until it is released; `on_lost` is called on the loop when it can't be."""
        index = self._free.pop() if self._free else -1
        with self._guard:
            self._next += 1
            key = self._next
            self._held[key] = _Held(lease, index, time.monotonic(), on_lost)
        if self._table is not None and index >= 0:
            self._table.put(index, lease)
        return key

    def bound(self, key: int, until: float) -> None:
        """Renew it until then (monotonic seconds) at the latest, or KEPT_S longer beside a supervisor."""
        with self._guard:
            held = self._held.get(key)
            if held is None:
                return
            held.lease = replace(held.lease, until=until)
        if self._table is not None and held.index >= 0:
            self._table.put(held.index, held.lease)

    def release(self, key: int) -> None:
        """Renew it no more."""
        with self._guard:
            held = self._held.pop(key, None)
        if held is not None and self._table is not None and held.index >= 0:
            self._table.put(held.index, None)
            self._free.append(held.index)

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        asyncio.run(self._renew_forever())

    async def _renew_forever(self) -> None:
        client = self._connect()
        ended = asyncio.Event()
        self._ends = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        renewing: asyncio.Task[None] | None = None
        try:
            while not self._stop.is_set():
                if self._table is not None:
                    self._table.beat()
                if renewing is None or renewing.done():  # a slow server must not silence the beat
                    renewing = asyncio.create_task(self._renew_due(client))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._tick_s()):
                        await ended.wait()
        finally:
            if renewing is not None and not renewing.done():
                renewing.cancel()
                await asyncio.wait({renewing})
            with suppress(Exception):
                await client.aclose()

    def _tick_s(self) -> float:
        with self._guard:
            shortest = min((held.lease.lock_ms for held in self._held.values()), default=60_000)
        return max(TICK_MIN_S, min(TICK_MAX_S, shortest / 1000 / 12))

    async def _renew_due(self, client: Redis) -> None:
        now = time.monotonic()
        with self._guard:
            due = {
                held.lease: (key, held)
                for key, held in self._held.items()
                if now - held.renewed_at >= held.lease.lock_ms / 1000 * RENEW_AT
                and now < held.lease.until + self._kept_s
            }
        if not due:
            return
        try:
            lost = await renew(client, self._prefix, due)
        except Exception as error:
            self._tell(self._on_error, error)
            await asyncio.sleep(self._tick_s())
            return
        for lease, (key, held) in due.items():
            held.renewed_at = now
            if lease in lost and key in self._held:
                self._tell(held.on_lost)

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has closed
            assert self._loop is not None  # noqa: S101 - set by start, which made this thread
            self._loop.call_soon_threadsafe(call, *args)
