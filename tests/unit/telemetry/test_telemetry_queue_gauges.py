"""Gauges of queues, under the names that BullMQ's dashboards know."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from workers.broker.pressure import Pressure
from workers.broker.stats import QueueStats
from workers.queue_service import QueueState
from workers.telemetry.exposition import exposition
from workers.telemetry.queue_gauges import RECENT_S, QueueGauges

NOW = 1000.0
CALM = Pressure()
FULL = Pressure(True, "too many", "depth", 5.0)


def seen(queue: str, pressure: Pressure = CALM, *, age_s: float = 0.0, **counts: float) -> QueueState:
    return QueueState(QueueStats(queue=queue, **counts), pressure, NOW - age_s)  # type: ignore[arg-type]


def scrape(*states: QueueState, connections: int | None = None) -> bytes:
    registry = CollectorRegistry()
    told = None if connections is None else lambda: connections
    found = {state.stats.queue: state for state in states}
    registry.register(QueueGauges(lambda: found, connections=told, clock=lambda: NOW))
    return exposition(registry)


def values(text: bytes, name: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(text.decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


def test_each_queue_is_told_by_state() -> None:
    text = scrape(
        seen("mail", FULL, waiting=3, delayed=5, due=2, completed=7, oldest_waiting_s=1.5), seen("other", active=4)
    )
    counts = values(text, "bullmq_job_count")
    assert counts["mail", "waiting"] == 3 and counts["mail", "delayed"] == 5 and counts["mail", "completed"] == 7
    assert counts["other", "active"] == 4 and counts["other", "waiting-children"] == 0
    assert values(text, "fleet_queue_backlog") == {("mail",): 5, ("other",): 0}
    assert values(text, "bullmq_queue_oldest_waiting_age_seconds") == {("mail",): 1.5, ("other",): 0}
    assert values(text, "fleet_queue_full") == {("mail",): 1, ("other",): 0}


def test_count_by_state_is_told_as_node_tells_it() -> None:
    """Source: npm bullmq, QueueGetters.exportPrometheusMetrics."""
    lines = scrape(seen("mail", waiting=3)).decode().splitlines()
    assert "# HELP bullmq_job_count Number of jobs in the queue by state" in lines
    assert "# TYPE bullmq_job_count gauge" in lines
    assert 'bullmq_job_count{queue="mail",state="waiting"} 3.0' in lines


def test_what_was_seen_long_ago_is_not_told() -> None:
    text = scrape(seen("old", FULL, age_s=RECENT_S + 1), seen("new", age_s=RECENT_S - 1))
    assert values(text, "fleet_queue_full") == {("new",): 0}


def test_nothing_seen_yet_is_no_error() -> None:
    assert values(scrape(), "bullmq_job_count") == {}
    assert b"fleet_supervisor_redis_connections" not in scrape()


def test_connections_of_a_process_without_other_metrics() -> None:
    assert values(scrape(connections=2), "fleet_supervisor_redis_connections") == {(): 2}
