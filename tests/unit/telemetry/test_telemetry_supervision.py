"""The supervisor's own metrics: processes by state, deaths by cause, replacements, poison jobs, reloads."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from workers.runtime.supervision.beat import Report
from workers.runtime.supervision.death import Death
from workers.runtime.supervision.recycle import Reason
from workers.runtime.supervision.replacement import Recycled
from workers.runtime.supervision.view import STATES, FleetView, PoolView, ProcessState, ProcessView
from workers.telemetry.exposition import exposition
from workers.telemetry.supervision import SupervisionMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> SupervisionMetrics:
    return SupervisionMetrics(registry)


def death(expected: bool = False, reason: str = "SIGKILL") -> Death:
    return Death(process="a-0", pool="a", pid=7, notice="SIGKILL", reason=reason, expected=expected)


def recycled(reason: Reason, started: bool = True, reverted: bool = False) -> Recycled:
    return Recycled(process="a-0", pool="a", reason=reason, detail="d", started=started, reverted=reverted)


def process(name: str, state: ProcessState, rss: int = 0) -> ProcessView:
    return ProcessView(name=name, pool=name.partition("-")[0], state=state, report=Report(rss=rss))


def view(*processes: ProcessView, pools: tuple[str, ...] = ("a",)) -> FleetView:
    found = tuple(PoolView(name=pool, processes=1, ready=0) for pool in pools)
    return FleetView(pid=1, mode="supervisor", ready=True, pools=found, processes=processes)


def value(registry: CollectorRegistry, name: str, **labels: Any) -> float | None:
    return registry.get_sample_value(name, labels)


def test_deaths_are_counted_by_cause_and_drains_are_none(
    registry: CollectorRegistry, metrics: SupervisionMetrics
) -> None:
    for event in (death(), death(), death(reason="silence"), death(expected=True, reason="exit")):
        metrics(event)
    assert value(registry, "fleet_process_deaths_total", pool="a", reason="SIGKILL") == 2
    assert value(registry, "fleet_process_deaths_total", pool="a", reason="silence") == 1
    assert value(registry, "fleet_process_deaths_total", pool="a", reason="exit") is None


def test_replacements_are_counted_apart_from_those_that_failed(
    registry: CollectorRegistry, metrics: SupervisionMetrics
) -> None:
    metrics(recycled("memory"))
    metrics(recycled("memory", started=False))
    metrics(recycled("config", started=False, reverted=True))
    assert value(registry, "fleet_process_recycles_total", pool="a", reason="memory") == 1
    assert value(registry, "fleet_process_recycles_failed_total", pool="a", reason="memory") == 1
    assert value(registry, "fleet_config_reload_total", result="failed") == 1


def test_poison_jobs_and_reloads_start_at_nought(registry: CollectorRegistry, metrics: SupervisionMetrics) -> None:
    metrics.serves(["q"])
    assert value(registry, "fleet_jobs_quarantined_total", queue="q") == 0
    assert value(registry, "fleet_config_reload_total", result="applied") == 0
    metrics.quarantined("q")
    metrics.reloaded("applied", 1234.5)
    assert value(registry, "fleet_jobs_quarantined_total", queue="q") == 1
    assert value(registry, "fleet_config_reload_total", result="applied") == 1
    assert value(registry, "fleet_config_reload_timestamp_seconds") == 1234.5


def test_every_state_of_a_pool_has_a_number_and_old_ones_go_back_to_nought(
    registry: CollectorRegistry, metrics: SupervisionMetrics
) -> None:
    metrics.see(view(process("a-0", "ready"), process("a-1", "ready"), process("a-2", "dead")))
    states = {state: value(registry, "fleet_processes", pool="a", state=state) for state in STATES}
    assert states == {**dict.fromkeys(STATES, 0), "ready": 2, "dead": 1}
    metrics.see(view(process("b-0", "silent"), pools=("b",)))
    assert value(registry, "fleet_processes", pool="a", state="ready") == 0
    assert value(registry, "fleet_processes", pool="b", state="silent") == 1


def test_memory_is_told_by_process_together_while_one_replaces_another(
    registry: CollectorRegistry, metrics: SupervisionMetrics
) -> None:
    metrics.see(view(process("a-0", "draining", 100), process("a-0", "ready", 30), process("a-1", "ready", 5)))
    assert value(registry, "fleet_process_rss_bytes", pool="a", process="a-0") == 130
    metrics.see(view(process("a-0", "ready", 30)))
    assert value(registry, "fleet_process_rss_bytes", pool="a", process="a-0") == 30
    assert value(registry, "fleet_process_rss_bytes", pool="a", process="a-1") is None
    assert b"fleet_process_rss_bytes" in exposition(registry)
