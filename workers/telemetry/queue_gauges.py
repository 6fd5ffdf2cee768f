"""Prometheus gauges of what is in the queues, as last seen: read at the scrape, so that nothing old is told for ever.

Every pod tells them of the same queues: `max by (queue, state) (bullmq_job_count)`, not `sum`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from workers.queue_service import QueueState

#: Whose workers there may be; see WorkerSeen.
SIDES = ("fleet", "node", "python", "unknown")
#: How old what was seen of a queue may be to be told, seconds; while Redis is away it grows older.
RECENT_S = 60.0


class QueueGauges(Collector):
    """The gauges of the queues.

    `bullmq_job_count` has the name, the labels and the states of BullMQ for Node's `exportPrometheusMetrics`, so that
    its dashboards show these queues too.

    Args:
        states: what was last seen of each queue; called at each scrape, in any thread.
        sides: how many workers of each side there are on each queue; called in the same way.
        connections: where the process has no other metrics, how many connections to Redis it has.
        clock: monotonic seconds, that of the states.
    """

    def __init__(
        self,
        states: Callable[[], Mapping[str, QueueState]],
        *,
        sides: Callable[[], Mapping[str, Mapping[str, int]]] = dict,
        connections: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states = states
        self._sides = sides
        self._connections = connections
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """The gauges of the queues that were seen lately."""
        now = self._clock()
        seen = {queue: state for queue, state in self._states().items() if now - state.at <= RECENT_S}
        yield from self._gauges(sorted(seen.items()))
        text = "Workers on the queue, by side: fleet, node, python, unknown."
        workers = GaugeMetricFamily("fleet_queue_workers", text, labels=("queue", "side"))
        for queue, sides in sorted(self._sides().items()):
            for side in SIDES:
                workers.add_metric((queue, side), sides.get(side, 0))
        yield workers
        if self._connections is not None:
            text = "Open connections to Redis of the supervisor itself."
            yield GaugeMetricFamily("fleet_supervisor_redis_connections", text, self._connections())

    def _gauges(self, seen: list[tuple[str, QueueState]]) -> Iterator[Metric]:
        by_queue = ("queue",)
        jobs = GaugeMetricFamily("bullmq_job_count", "Number of jobs in the queue by state", labels=("queue", "state"))
        backlog = GaugeMetricFamily("fleet_queue_backlog", "Jobs that a free worker would start now.", labels=by_queue)
        text = "How long ago the oldest job that waits for its first start was due; 0 where none does."
        oldest = GaugeMetricFamily("bullmq_queue_oldest_waiting_age_seconds", text, labels=by_queue)
        full = GaugeMetricFamily("fleet_queue_full", "1 while the queue takes no more, by its limits.", labels=by_queue)
        for queue, state in seen:
            for name, number in state.stats.counts.items():
                jobs.add_metric((queue, name), number)
            backlog.add_metric((queue,), state.stats.backlog)
            oldest.add_metric((queue,), state.stats.oldest_waiting_s or 0.0)
            full.add_metric((queue,), state.pressure.full)
        yield from (jobs, backlog, oldest, full)
