"""A whole process tells in its metrics who blocked its loop, how attempts fail, and what isolated jobs need."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bullmq import Queue
from prometheus_client.parser import text_string_to_metric_families

from config.loader import load
from tests.conftest import wait_until
from workers.broker.events import Event, JobCompleted, JobFailed, JobRetrying, LoopBlocked
from workers.fleet import build_process
from workers.ops.fleet_service import FleetService

CONFIG = """
pools: {p: {}}
queues:
  hostile:
    pool: p
    module: tests.hostile.module
    concurrency: 4
    task: {timeout: 60s, retry: {backoff: 10ms}}
"""
Values = dict[tuple[str, ...], float]


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture(params=["async"])
async def fleet(
    request: pytest.FixtureRequest,
    restored_logging: None,
    redis_url: str,
    prefix: str,
    tmp_path: Path,
    events: list[Event],
) -> AsyncIterator[FleetService]:
    """Serves the hostile module where the parameter says."""
    path = tmp_path / "fleet.yaml"
    path.write_text(CONFIG)
    overrides = [f"redis.url={redis_url}", f"redis.prefix={prefix}", "http.port=0", "tracing.enabled=false"]
    overrides.append(f"queues.hostile.task.isolation={request.param}")
    service = build_process(load(path, env={}, overrides=overrides).config, name="watched", listeners=[events.append])
    await service.start()
    yield service
    await service.stop(by=time.monotonic() + 5)


async def add(redis_url: str, prefix: str, act: str, opts: dict[str, Any] | None = None, **args: Any) -> str:
    queue = Queue("hostile", {"connection": redis_url, "prefix": prefix})
    job = await queue.add("n", {"type": "hostile", "id": "1", "act": act, "args": args}, opts or {})
    await queue.close()
    return str(job.id)


async def scrape(fleet: FleetService) -> Callable[[str], Values]:
    """What /metrics says: a name → the values by all labels, in the order of the labels' names."""
    async with aiohttp.ClientSession() as http, http.get(f"{fleet.url}/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))

    def values(name: str) -> Values:
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in samples}

    return values


async def test_job_that_blocks_the_loop_is_in_the_metrics(
    fleet: FleetService, events: list[Event], redis_url: str, prefix: str
) -> None:
    job_id = await add(redis_url, prefix, "sleeps_in_c", seconds=0.8)
    await wait_until(lambda: [e for e in events if isinstance(e, LoopBlocked) and e.job_id == job_id])
    values = await scrape(fleet)
    assert values("fleet_loop_blocked_total")["hostile", "hostile"] == 1
    assert values("fleet_loop_blocked_seconds_total")["hostile", "hostile"] > 0.5


async def test_attempts_and_kinds_of_failure_are_in_the_metrics(
    fleet: FleetService, events: list[Event], redis_url: str, prefix: str
) -> None:
    await add(redis_url, prefix, "raises", {"attempts": 2}, name="surrogate")
    await add(redis_url, prefix, "raises", name="budget")
    await wait_until(lambda: len([e for e in events if isinstance(e, JobFailed)]) == 2)
    assert len([e for e in events if isinstance(e, JobRetrying)]) == 1
    values = await scrape(fleet)
    assert values("fleet_job_attempts_total") == {
        ("1", "retried", "hostile", "hostile"): 1,
        ("2", "failed", "hostile", "hostile"): 1,
        ("1", "failed", "hostile", "hostile"): 1,
    }
    assert values("fleet_job_failures_total") == {
        ("transient", "hostile", "hostile"): 2,
        ("budget", "hostile", "hostile"): 1,
    }


async def completed(events: list[Event]) -> JobCompleted:
    return (await wait_until(lambda: [e for e in events if isinstance(e, JobCompleted)]))[0]


@pytest.mark.parametrize("fleet", ["process"], indirect=True)
async def test_job_with_a_process_of_its_own_tells_what_it_left_there(
    fleet: FleetService, events: list[Event], redis_url: str, prefix: str
) -> None:
    await add(redis_url, prefix, "grows", bytes=8 * 2**20)
    memory = (await completed(events)).memory
    assert memory is not None
    assert memory.delta > 7 * 2**20
    values = await scrape(fleet)
    assert values("fleet_job_memory_delta_bytes_sum") == {("hostile", "hostile"): memory.delta}


async def test_job_on_the_loop_has_no_memory_of_its_own(
    fleet: FleetService, events: list[Event], redis_url: str, prefix: str
) -> None:
    await add(redis_url, prefix, "grows", bytes=8 * 2**20)
    assert (await completed(events)).memory is None

    async def resident() -> Any:
        return (await scrape(fleet))("fleet_process_resident_memory_bytes")

    values: Values = await wait_until(resident)
    assert values["watched", "process"] > 10_000_000
    assert (await scrape(fleet))("fleet_job_memory_delta_bytes_sum") == {}
