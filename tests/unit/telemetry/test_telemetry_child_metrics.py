"""Starts, deaths and replacements of child processes as numbers, by queue."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from workers.broker.events import ChildDied, ChildReady, ChildRecycled, ChildStartFailed, Event
from workers.telemetry.metrics import Metrics


def values(*events: Event) -> dict[str, float]:
    """By name and labels, the queue's left out; no buckets."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for event in events:
        metrics(event)
    return {
        " ".join([each.name, *(value for label, value in each.labels.items() if label != "queue")]): each.value
        for metric in registry.collect()
        if metric.name.startswith("fleet_child")
        for each in metric.samples
        if "le" not in each.labels
    }


def test_first_start_is_measured_and_all_else_is_there_at_0() -> None:
    assert values(ChildReady(queue="q", took_s=0.5)) == {
        "fleet_child_start_duration_seconds_count": 1,
        "fleet_child_start_duration_seconds_sum": 0.5,
        "fleet_child_starts_failed_total": 0,
        "fleet_child_recycles_total jobs": 0,
        "fleet_child_recycles_total memory": 0,
        "fleet_child_recycles_total state": 0,
    }


def test_failed_starts_deaths_and_replacements_are_counted() -> None:
    found = values(
        ChildStartFailed(queue="q"),
        ChildStartFailed(queue="q"),
        ChildDied(queue="q", reason="SIGSEGV"),
        ChildDied(queue="q", reason="killed"),
        ChildRecycled(queue="q", reason="memory"),
    )
    assert found["fleet_child_starts_failed_total"] == 2
    assert found["fleet_child_deaths_total SIGSEGV"] == found["fleet_child_deaths_total killed"] == 1
    assert found["fleet_child_recycles_total memory"] == 1
    assert found["fleet_child_recycles_total jobs"] == 0
