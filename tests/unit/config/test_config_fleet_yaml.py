from __future__ import annotations

from typing import Any

import pytest

from config.loader import DEFAULT_FILE, LoadedConfig, load
from config.units import HUMAN

# Queue: pool, slots, time-out, attempts, (p50, p95, p99), throughput, peak.
PLAN = {
    "email-send": ("communication", 5, "30s", 3, ("2s", "15s", "25s"), "500/1m", "750/1m"),
    "push-notification": ("communication", 10, "15s", 2, ("2s", "15s", "25s"), "2000/1m", "3200/1m"),
    "sms-message": ("communication", 3, "45s", 5, ("2s", "15s", "25s"), "100/1m", "150/1m"),
    "notification-create": ("communication", 5, "10s", 2, ("50ms", "200ms", "500ms"), "1500/1m", "2100/1m"),
    "swarm-execution": ("ai", 2, "10m", 1, ("45s", "5m", "8m"), "50/1m", "75/1m"),
    "llm-completion": ("ai", 10, "5m", 3, ("45s", "5m", "8m"), "200/1m", None),
    "run-start": ("runs", 20, "1h", 5, ("3m", "15m", "25m"), "5000/1m", "12000/1m"),
    "sandbox-execution": ("sandbox", 5, "30s", 2, ("45s", "5m", "8m"), "300/1m", "450/1m"),
    "export-user-data": ("data", 2, "5m", 2, ("3m", "15m", "25m"), "10/1m", "15/1m"),
    "import-user-data": ("data", 2, "10m", 3, ("3m", "15m", "25m"), "5/1m", "8/1m"),
}


@pytest.fixture(scope="module")
def loaded() -> LoadedConfig:
    return load(DEFAULT_FILE, env={})


def time_out(task: dict[str, Any]) -> Any:
    """When a run that goes on for ever is first told to end."""
    if task["ladder"] is not None:
        return next(rung["at"] for rung in task["ladder"] if rung["do"] in ("stop", "cancel", "kill"))
    return task["timeout"]["stop"] if isinstance(task["timeout"], dict) else task["timeout"]


def test_all_queues_have_their_numbers(loaded: LoadedConfig) -> None:
    found = {}
    for name, entry in loaded.config.model_dump(mode="json", context=HUMAN)["queues"].items():
        slo, task = entry["slo"], entry["task"]
        latency = (slo["p50"], slo["p95"], slo["p99"])
        numbers = (entry["pool"], entry["concurrency"], time_out(task), task["retry"]["attempts"])
        found[name] = (*numbers, latency, slo["throughput"], slo["peak"])
        assert (slo["errors"], slo["backlog"]) == ("5%", 100), name
    assert found == PLAN


def test_own_attempts_win_over_the_five_that_node_writes(loaded: LoadedConfig) -> None:
    over = {name: entry.task.retry.over_job for name, entry in loaded.config.queues.items()}
    assert over.pop("email-send") == ("attempts", "backoff")
    assert {name for name, keys in over.items() if keys == ()} == {"llm-completion", "run-start"}
    assert {keys for name, keys in over.items() if keys} == {("attempts",)}


def test_scaling_follows_the_plan(loaded: LoadedConfig) -> None:
    scales = {name: entry.scale.model_dump(context=HUMAN) for name, entry in loaded.config.queues.items()}
    depth = {"policy": "queue-depth", "min": 1, "max": 10, "up": 5, "down": 1, "cooldown": "1m"}
    assert scales["swarm-execution"] == scales["llm-completion"] == depth
    assert scales["run-start"] == {"policy": "work-seconds", "min": 1, "max": 1000, "drain_in": "2m", "cooldown": "1m"}
    limits = {name: scale.get("limited_by") for name, scale in scales.items() if scale["policy"] == "fixed"}
    assert {name: limit for name, limit in limits.items() if limit} == {
        "sms-message": "provider",
        "export-user-data": "resources",
        "import-user-data": "validation",
    }
    assert str(loaded.config.queues["sms-message"].rate) == "100/1m"
    assert loaded.config.queues["run-start"].slo.unit == "step"


def test_without_environment_it_runs_on_this_machine_alone(loaded: LoadedConfig) -> None:
    assert loaded.config.redis.url == "embedded"
    assert loaded.config.http.host == "127.0.0.1"
    options = loaded.config.queues["email-send"].task.options
    assert options["smtp_url"] == "smtp://127.0.0.1:1025"
    assert options["from_alias"] == "fleet@localhost"


def test_nodes_mail_variables_are_understood() -> None:
    env = {"SITE_EMAIL_USERNAME": "hi@example.com", "SITE_EMAIL_PASSWORD": "hunter2", "REDIS_URL": "redis://:pw@h/1"}
    loaded = load(DEFAULT_FILE, env=env)
    options = loaded.config.queues["email-send"].task.options
    assert (options["username"], options["password"], options["from_alias"]) == (
        "hi@example.com",
        "hunter2",
        "hi@example.com",
    )
    assert loaded.config.redis.url == "redis://:pw@h/1"
    alias = load(DEFAULT_FILE, env=env | {"SITE_EMAIL_ALIAS": "us@example.com"})
    assert alias.config.queues["email-send"].task.options["from_alias"] == "us@example.com"


def test_every_pool_serves_a_queue(loaded: LoadedConfig) -> None:
    assert {entry.pool for entry in loaded.config.queues.values()} == set(loaded.config.pools)
