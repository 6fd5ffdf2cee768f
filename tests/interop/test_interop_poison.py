"""A poison job that Node's worker takes: it fails there, too, without running."""

from __future__ import annotations

import pytest

from tests.interop.bridge import Js, eventually
from workers.broker.backend import FleetBackend
from workers.broker.deaths import Bounds
from workers.broker.endpoint import Endpoint
from workers.broker.give_back import GiveBack
from workers.broker.lease_table import Lease
from workers.broker.settings import WorkerSettings

pytestmark = pytest.mark.node


async def test_poison_job_fails_in_a_node_worker_without_running(js: Js, endpoint: Endpoint) -> None:
    job = await js.add("q", [["fail", "it ran"]])
    client = endpoint.commands()
    backend = FleetBackend("q", client, client, endpoint.prefix, WorkerSettings(name="w", lock_ms=60_000))
    taken = (await backend.fetch("dead:1")).activation
    assert taken is not None
    back = GiveBack(client, endpoint.prefix, {"q": Bounds(deaths=1)})
    await back.all([Lease("q", taken.id, taken.token, 60_000)], "SIGSEGV")
    await js.listen("q")
    await js.work("q")
    reason = "poison: its process died once while it ran (last: SIGSEGV)"
    assert await js.wait("q", job["id"]) == {"reason": reason}

    async def seen() -> bool:
        return bool((await js.job("q", job["id"]))["failedReason"] == reason)

    await eventually(seen)
    assert [line["jobId"] for line in js.heard("failed")] == [job["id"]]
    await client.aclose()
