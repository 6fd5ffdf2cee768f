"""Acts on jobs from outside their runs, one or many: each is one script (`act_scripts.py`), done as a whole or not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgpack
from redis.asyncio import Redis

from workers.broker import keys
from workers.broker.act_runner import TRIES, ActRunner, Answer, Call, StoredJob
from workers.broker.activation import Activation, parse
from workers.broker.backend import MAX_REASON, METRICS_POINTS, now_ms
from workers.broker.cancellations import KEPT_MS, CancelRequest
from workers.broker.data_status import without_stop
from workers.broker.keep import keep_jobs
from workers.broker.numbers import is_number, whole
from workers.broker.result import clean

#: Replays of one job that may be kept at a time.
MAX_REPLAYS = 1000
#: Of a job's options, those that meant its own first start, or its place in a flow or a schedule.
_ONCE = frozenset(
    {"jobId", "delay", "de", "parent", "fpof", "cpof", "idof", "rdof", "repeat", "repeatJobKey", "prevMillis"}
)
_REPLAYED = re.compile(r"-replay-[0-9]+\Z")


class JobActs:
    """Acts on the jobs of one prefix. The answers are in the order of the ids; a job that is not in a state for the
    act is left alone. Where Redis goes away, UnfinishedError says what is known.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        timeout_s: how long one round trip may take, for `act_runner.CHUNK` jobs at most.
        keep_failed: by queue, which failed jobs are kept where a job does not say: BullMQ's removeOnFail.
        clock: ms since the epoch.
    """

    def __init__(
        self,
        client: Redis,
        prefix: str,
        *,
        timeout_s: float = 15.0,
        keep_failed: Callable[[str], Any] = lambda queue: False,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._runner = ActRunner(client, prefix, timeout_s)
        self._prefix = prefix
        self._keep_failed = keep_failed
        self._clock = clock
        self.find = self._runner.find

    async def retry(self, queue: str, ids: Sequence[str], *, anew: bool = False) -> list[Answer]:
        """Let failed or completed jobs wait once more (BullMQ's reprocessJob). A status in their data that says that
        they are over or to be stopped becomes Scheduled, else they would stop at once.

        Args:
            anew: count their attempts from the beginning.
        """

        def call(job: StoredJob) -> Call:
            push = "RPUSH" if _row(job).opts.get("lifo") is True else "LPUSH"
            return [self._own(job, "cancel")], [job.data, without_stop(job.data) or "", push, "1" if anew else "0"]

        return await self._runner.run("retry", queue, ids, call, tries=TRIES)

    async def promote(self, queue: str, ids: Sequence[str]) -> list[Answer]:
        """Let delayed jobs start now."""
        return await self._runner.run("promote", queue, ids, lambda job: ([], []))

    async def remove(self, queue: str, ids: Sequence[str], *, children: bool = True) -> list[Answer]:
        """Remove jobs that no worker has, whatever their state.

        Args:
            children: remove theirs with them, as Node's `job.remove()`; a child that a worker has is in the way.
        """
        flag = "1" if children else "0"
        return await self._runner.run("remove", queue, ids, lambda job: (self._owned(job), [flag]))

    async def cancel(
        self,
        queue: str,
        ids: Sequence[str],
        reason: str,
        *,
        texts: Callable[[str], tuple[str, str]] = lambda data: ("", ""),
        anyhow: bool = False,
        expected: str | None = None,
    ) -> list[Answer]:
        """End jobs that wait, as failed for good with this reason; ask those that a worker of ours runs to stop.

        Args:
            texts: of the data as stored, the data as they are to be once the job has ended, and those while it is
                asked to stop; empty where they stay.
            anyhow: where another's worker runs it, write the latter, too, instead of nothing.
            expected: the data that it must have. None: whatever it has.
        """
        reason = clean(reason, MAX_REASON)

        def call(job: StoredJob) -> Call:
            ended, asked = texts(job.data)
            request = CancelRequest(job=job.row.get("timestamp", ""), reason=reason, at_ms=self._clock())
            seen = [job.data if expected is None else expected, ended, asked]
            ask = [request.text(), KEPT_MS, "write" if anyhow else "refuse"]
            return self._owned(job), [*seen, *ask, *self._finish(queue, _row(job), reason)]

        tries = TRIES if expected is None else 2
        return await self._runner.run("cancel", queue, ids, call, tries=tries)

    async def change_priority(self, queue: str, ids: Sequence[str], priority: int, *, lifo: bool) -> list[Answer]:
        """Give jobs that wait another place; 0: before all that have a priority.

        Args:
            lifo: before others of the same.
        """
        args = [priority, "1" if lifo else "0"]
        return await self._runner.run("priority", queue, ids, lambda job: ([], args))

    async def change_delay(self, queue: str, ids: Sequence[str], delay_ms: int) -> list[Answer]:
        """Let delayed jobs start so long from now."""
        return await self._runner.run("delay", queue, ids, lambda job: ([], [delay_ms, self._clock()]))

    async def change_data(self, queue: str, job_id: str, expected: str, text: str, states: Sequence[str]) -> Answer:
        """Replace a job's data, if they are what was seen and the job is in one of these states."""
        args = [expected, text, *states]
        return (await self._runner.run("data", queue, [job_id], lambda job: ([], args)))[0]

    async def move(self, queue: str, ids: Sequence[str], to: str) -> list[Answer]:
        """Take jobs to another queue with their ids, data, options, attempts and logs, in one step; failed ones wait
        there."""

        def call(job: StoredJob) -> Call:
            there = StoredJob(to, job.id, {})
            cancel, checkpoint, deaths = self._owned(job)
            own = [self._runner.key(to, job.id), cancel, deaths, checkpoint, self._own(there, "checkpoint")]
            return own, [self._runner.key(to, ""), self._clock()]

        return await self._runner.run("move", queue, ids, call)

    async def replay(self, queue: str, ids: Sequence[str], *, data: str | None = None) -> list[Answer]:
        """Add a job like one that has ended, under its id with `-replay-1`, `-replay-2`, …

        Args:
            data: its text. None: as they are, with a status that says that it is over become Scheduled.
        """

        def call(job: StoredJob) -> Call:
            opts = {name: value for name, value in _row(job).opts.items() if name not in _ONCE}
            text = data if data is not None else (without_stop(job.data) or job.data)
            priority = job.row.get("priority", "")
            stem = f"{_REPLAYED.sub('', job.id)}-replay-"
            written = json.dumps(opts, separators=(",", ":"))
            rank, lifo = priority if priority.isdecimal() else "0", "1" if opts.get("lifo") is True else "0"
            return [], [stem, MAX_REPLAYS, text, written, self._clock(), rank, lifo]

        return await self._runner.run("replay", queue, ids, call, tries=2)

    def _own(self, job: StoredJob, what: Literal["cancel", "checkpoint", "deaths"]) -> str:
        names = {"cancel": keys.cancellation, "checkpoint": keys.checkpoint, "deaths": keys.deaths}
        return names[what](self._prefix, job.queue, job.id)

    def _owned(self, job: StoredJob) -> list[str]:
        return [self._own(job, "cancel"), self._own(job, "checkpoint"), self._own(job, "deaths")]

    def _finish(self, queue: str, job: Activation, reason: str) -> list[Any]:
        """What moveToFinished is told of a job that no worker has."""
        attempts = job.opts.get("attempts")
        opts = {
            "token": "0",
            "keepJobs": keep_jobs(job.opts.get("removeOnFail"), self._keep_failed(queue)),
            "attempts": whole(attempts) if is_number(attempts) and attempts > 0 else 1,
            "attemptsMade": job.attempts_made,
            "maxMetricsSize": METRICS_POINTS,
        }
        fields = msgpack.packb(["failedReason", reason])
        return [self._clock(), reason, msgpack.packb(opts), fields, *sorted(job.broken)]


def _row(job: StoredJob) -> Activation:
    """The row but for its data, which nobody needs parsed."""
    return parse(job.queue, job.id, {**job.row, "data": "null"}, "0")
