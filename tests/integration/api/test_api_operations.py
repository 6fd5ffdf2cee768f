"""What the operations do, on a real queue; and that the document says what they do."""

from __future__ import annotations

from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.integration.api.conftest import MAIL, QUEUE, Api

JOBS = f"/queues/{QUEUE}/jobs"


async def test_look(api: Api, queue: Queue) -> None:
    for number in range(5):
        await queue.add(QUEUE, {**MAIL, "id": f"m{number}"}, {"jobId": f"m{number}", "delay": 60_000 * (number % 2)})
    status, health, _ = await api.ask("GET", "/health", role="viewer")
    assert (status, health) == (200, {"status": "ok", "redis": True, "problems": []})
    _, listed, _ = await api.ask("GET", "/queues", role="viewer")
    mine = next(each for each in listed["queues"] if each["queueName"] == QUEUE)
    assert (mine["waiting"], mine["delayed"], mine["configured"]) == (3, 2, True)
    assert (await api.ask("GET", f"/queues/{QUEUE}", role="viewer"))[1]["waiting"] == 3
    _, first, _ = await api.ask("GET", f"{JOBS}?state=waiting&limit=2", role="viewer")
    _, rest, _ = await api.ask("GET", f"{JOBS}?state=waiting&limit=2&cursor={first['cursor']}", role="viewer")
    assert {each["id"] for each in first["jobs"] + rest["jobs"]} == {"m0", "m2", "m4"}
    _, found, _ = await api.ask("GET", JOBS, role="viewer", params={"where": "data.id=m3"})
    assert [each["id"] for each in found["jobs"]] == ["m3"]
    _, job, _ = await api.ask("GET", f"{JOBS}/m3", role="viewer")
    assert (job["state"], job["data"]["to"]) == ("delayed", ["a@example.com"])
    _, task, _ = await api.ask("GET", "/tasks/m3", role="viewer")
    assert task["id"] == "m3"
    _, told, _ = await api.ask("POST", "/tasks/statuses", role="viewer", body={"ids": ["m3", "none"]})
    assert [each["status"] for each in told["statuses"]] == ["Delayed", None]
    assert (await api.ask("GET", f"{JOBS}/m3/logs", role="viewer"))[1]["total"] == 0
    assert (await api.ask("GET", f"/queues/{QUEUE}/throughput?minutes=5", role="viewer"))[0] == 200


async def test_act_on_one_job(api: Api, queue: Queue) -> None:
    await queue.add(QUEUE, MAIL, {"jobId": "a", "delay": 60_000})
    for method, path, body in [
        ("PUT", "/a/delay", {"delayMs": 120_000}),
        ("PUT", "/a/data", {"data": {**MAIL, "subject": "other"}, "expected": MAIL}),
        ("POST", "/a/promote", None),
        ("PUT", "/a/priority", {"priority": 7}),
        ("POST", "/a/cancel", {"reason": "not wanted"}),
        ("POST", "/a/retry", None),
        ("DELETE", "/a", None),
    ]:
        status, answer, _ = await api.ask(method, JOBS + path, role="operator", body=body)
        assert (status, answer["done"]) == (200, 1), (path, answer)
    status, answer, _ = await api.ask("POST", f"{JOBS}/a/retry", role="operator")
    assert (status, answer["code"]) == (404, "unknown-job")


async def test_acts_that_do_not_fit_change_nothing(api: Api, queue: Queue) -> None:
    await queue.add(QUEUE, MAIL, {"jobId": "a"})
    for method, path, body, expected in [
        ("POST", f"{JOBS}/a/promote", None, 409),
        ("PUT", f"{JOBS}/a/data", {"data": {"type": "email-send"}}, 422),
        ("PUT", f"{JOBS}/a/data", {"data": MAIL, "expected": {"type": "other"}}, 409),
        ("PUT", f"{JOBS}/a/priority", {"priority": -1}, 422),
        ("POST", "/queues/no-such-queue/pause", None, 404),
        ("POST", f"/queues/{QUEUE}/bulk", {"action": "retry", "filter": {"older": "soon"}}, 422),
    ]:
        status, answer, _ = await api.ask(method, path, body=body)
        assert status == expected, (path, answer)
    assert (await api.ask("GET", f"{JOBS}/a"))[1]["state"] == "waiting"


async def test_act_on_queues_and_on_many(api: Api, queue: Queue) -> None:
    for number in range(4):
        await queue.add(QUEUE, {**MAIL, "id": f"m{number}"}, {"jobId": f"m{number}", "delay": 60_000})
    pause = await api.ask("POST", f"/queues/{QUEUE}/pause", role="operator")
    assert (pause[0], pause[1]["done"]) == (200, 1)
    assert (await api.ask("GET", "/health"))[1]["status"] == "degraded"
    assert (await api.ask("POST", f"/queues/{QUEUE}/resume", role="operator"))[1]["done"] == 1
    asked = {"action": "promote", "filter": {"where": ["data.id~m"], "state": ["delayed"]}}
    _, dry, _ = await api.ask("POST", f"/queues/{QUEUE}/bulk", role="operator", body=asked)
    assert (dry["dryRun"], dry["matched"], dry["done"]) == (True, 4, 0)
    _, real, _ = await api.ask("POST", f"/queues/{QUEUE}/bulk", role="operator", body={**asked, "dryRun": False})
    assert real["done"] == 4
    _, drained, _ = await api.ask("POST", f"/queues/{QUEUE}/drain", body={"delayed": True})
    assert drained["done"] == 4


async def test_task_status_is_changed_for_its_owner_alone(api: Api, queue: Queue) -> None:
    await queue.add(QUEUE, {**MAIL, "userId": "u1"}, {"jobId": "m1"})
    foreign = await api.ask("PUT", "/tasks/m1/status", body={"status": "Paused", "userId": "u2"})
    assert foreign[0] == 409
    status, answer, _ = await api.ask("PUT", "/tasks/m1/status", body={"status": "paused", "userId": "u1"})
    assert (status, answer["outcome"]) == (200, "written")


@pytest.mark.parametrize("path", ["/nowhere", "/queues/a/b/c", "/%2e%2e/%2e%2e/etc/passwd"])
async def test_paths_that_are_none(api: Api, path: str) -> None:
    status, answer, headers = await api.ask("GET", path)
    assert (status, answer["code"]) == (404, "not-found")
    assert headers["Server"] == "fleet"


async def test_redis_away_is_told(api: Api, redis: Redis, monkeypatch: Any) -> None:
    status, answer, headers = await api.ask("TRACE", "/queues")
    assert (status, answer["code"]) == (405, "method")
    assert "GET" in headers["Allow"]
