"""Settings of `redis` from the command line to the wire, and the number of connections where people look for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.acceptance.conftest import StartFleet
from tests.certificates import Authority
from tests.conftest import Server, wait_until
from tests.tls_proxy import server_context, tls_proxy

PASSWORD = "pepper@and:salt/%"


async def test_number_of_connections_is_told_and_bounded_as_documented(
    start_command: StartFleet, make_server: Callable[..., Server]
) -> None:
    server = make_server("--appendonly", "no")
    fleets = [
        start_command("run", *mode, "--queues", "email-send", env={"REDIS_URL": server.url})
        for mode in (["--single-process"], [])
    ]
    single, supervised = [await fleet.ready() for fleet in fleets]
    bound = 16 + 1 + 1
    for fleet in (single, supervised):
        await wait_until(lambda f=fleet: 1 < (f.metric("fleet_redis_connections") or 0) <= bound)  # type: ignore[misc]
    (ok, detail) = single.probe("readyz")[1]["redis"]
    (number,) = re.findall(r"^redis://127\.0\.0\.1:\d+/0, (\d+) connections$", detail)
    assert ok and 1 < int(number) <= bound
    async with Redis(port=server.port, decode_responses=True, protocol=2) as admin:

        async def agree() -> Any:
            told = [fleet.metric("fleet_redis_connections") for fleet in (single, supervised)]
            told.append(supervised.metric("fleet_supervisor_redis_connections"))
            names = [str(entry["name"]) for entry in await admin.client_list()]
            return sum(number or 0 for number in told) == sum(name.startswith(("fleet:", "bull:")) for name in names)

        await wait_until(agree)
    for fleet in fleets:
        assert await fleet.terminate() == 0


async def test_tls_and_account_of_the_configuration_are_used(
    start_command: StartFleet, make_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = make_server("--appendonly", "no", "--requirepass", PASSWORD)
    authority = Authority(tmp_path / "authority")
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    async with tls_proxy(server.port, server_context(authority.issue("localhost"))) as port:
        env = {"REDIS_URL": f"rediss://localhost:{port}/0", "REDIS_PASSWORD_FILE": str(secret)}
        overlay = tmp_path / "production.yaml"
        overlay.write_text('redis: {password: "${REDIS_PASSWORD}", tls: {ca_file: "${REDIS_CA:-}"}}\n')
        run = ("run", "--single-process", "--queues", "email-send", "--overlay", str(overlay))
        right = start_command(*run, env={**env, "REDIS_CA": str(authority.ca)})
        wrong = start_command(*run, env=env)
        await right.ready()
        await wrong.says("set redis.tls.ca_file to the authority's certificate")
        assert wrong.probe("readyz")[0] is False
        for fleet in (right, wrong):
            assert await fleet.terminate() == 0
            assert PASSWORD not in fleet.text
