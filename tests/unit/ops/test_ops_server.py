"""The ops server, asked by a real client over a real socket."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp
import pytest

from tests.unit.ops.service_contract import RULES, Rule, name, soon
from workers.ops.health import Check
from workers.ops.server import OpsServer, OpsServerError, is_local

Checks = Callable[[], Sequence[Check]]
Scrape = Callable[[], tuple[bytes, str]]
Workers = Callable[[], Mapping[str, Any]] | None
Start = Callable[..., Awaitable[OpsServer]]
TEXT = "text/plain; version=0.0.4; charset=utf-8"
GOOD = (
    Check("event-loop", True, "worst lag 2 ms", frozenset({"live"})),
    Check("redis", True, "connected", frozenset({"ready", "startup"})),
)


def scrape() -> tuple[bytes, str]:
    return b"up 1\n", TEXT


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    servers: list[OpsServer] = []

    async def make(
        checks: Checks = lambda: GOOD, metrics: Scrape = scrape, timeout_s: float = 5.0, workers: Workers = None
    ) -> OpsServer:
        server = OpsServer("127.0.0.1", 0, checks, metrics, metrics_timeout_s=timeout_s, workers=workers)
        servers.append(server)
        await server.start()
        return server

    yield make
    for server in servers:
        await server.stop(by=soon())


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


@pytest.mark.parametrize("rule", RULES, ids=name)
async def test_keeps_the_service_contract(rule: Rule) -> None:
    await rule(lambda: OpsServer("127.0.0.1", 0, lambda: GOOD, scrape))


@pytest.mark.parametrize(
    ("path", "names"), [("/livez", ["event-loop"]), ("/readyz", ["redis"]), ("/startupz", ["redis"])]
)
async def test_a_probe_names_its_checks(
    start: Start, client: aiohttp.ClientSession, path: str, names: list[str]
) -> None:
    server = await start()
    async with client.get(server.url + path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        body = await answer.json()
    assert body["status"] == "ok"
    assert [check["name"] for check in body["checks"]] == names


async def test_without_redis_it_is_alive_but_not_ready(start: Start, client: aiohttp.ClientSession) -> None:
    broken = (GOOD[0], Check("redis", False, "connection refused", frozenset({"ready", "startup"})))
    server = await start(lambda: broken)
    async with client.get(server.url + "/livez") as answer:
        assert answer.status == 200
    async with client.get(server.url + "/readyz") as answer:
        assert answer.status == 503
        assert await answer.json() == {
            "status": "failing",
            "checks": [{"name": "redis", "ok": False, "detail": "connection refused"}],
        }


async def test_metrics_keep_their_content_type(start: Start, client: aiohttp.ClientSession) -> None:
    server = await start()
    async with client.get(server.url + "/metrics") as answer:
        assert (answer.status, await answer.read()) == (200, b"up 1\n")
        assert answer.headers["Content-Type"] == TEXT


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/metrics"])
async def test_head_answers_like_get_without_a_body(start: Start, client: aiohttp.ClientSession, path: str) -> None:
    server = await start()
    async with client.get(server.url + path) as get, client.head(server.url + path) as head:
        assert head.status == get.status == 200
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
        assert await head.read() == b""


@pytest.mark.parametrize("path", ["/", "/livez/", "/livezz", "//metrics", "/%00", "/metrics%0d%0aX:1"])
async def test_any_other_path_is_404_as_json(start: Start, client: aiohttp.ClientSession, path: str) -> None:
    server = await start()
    async with client.get(server.url + path) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"] == "not found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_any_other_method_is_405(start: Start, client: aiohttp.ClientSession, method: str) -> None:
    server = await start()
    async with client.request(method, server.url + "/metrics") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"
        assert await answer.json() == {"error": "method not allowed"}


async def test_checks_that_raise_are_an_answer_of_503(start: Start, client: aiohttp.ClientSession) -> None:
    def checks() -> Sequence[Check]:
        raise KeyError("a secret")

    server = await start(checks)
    async with client.get(server.url + "/livez") as answer:
        text = await answer.text()
    assert answer.status == 503
    assert "KeyError" in text
    assert "secret" not in text


@pytest.mark.parametrize("error", [ValueError("a secret"), SystemExit(1), StopIteration(), TimeoutError()])
async def test_metrics_that_raise_are_an_answer_of_503(
    start: Start, client: aiohttp.ClientSession, error: BaseException
) -> None:
    def metrics() -> tuple[bytes, str]:
        raise error

    server = await start(metrics=metrics)
    for _ in range(2):
        async with client.get(server.url + "/metrics") as answer:
            assert (answer.status, await answer.json()) == (503, {"error": type(error).__name__})
    async with client.get(server.url + "/livez") as answer:
        assert answer.status == 200


async def test_hanging_metrics_hold_one_thread_and_no_probe(start: Start, client: aiohttp.ClientSession) -> None:
    release, calls = threading.Event(), 0

    def metrics() -> tuple[bytes, str]:
        nonlocal calls
        calls += 1
        release.wait(20)
        return scrape()

    server = await start(metrics=metrics, timeout_s=0.05)
    try:
        for _ in range(3):
            async with client.get(server.url + "/metrics") as answer:
                assert (answer.status, await answer.json()) == (503, {"error": "the metrics took longer than 0.05 s"})
        async with client.get(server.url + "/livez") as answer:
            assert answer.status == 200
        assert calls == 1
    finally:
        release.set()


async def test_stop_cuts_an_answer_that_does_not_end(start: Start, client: aiohttp.ClientSession) -> None:
    entered, release = threading.Event(), threading.Event()

    def metrics() -> tuple[bytes, str]:
        entered.set()
        release.wait(20)
        return scrape()

    server = await start(metrics=metrics, timeout_s=20.0)
    request = asyncio.create_task(client.get(server.url + "/metrics"))
    try:
        await asyncio.to_thread(entered.wait, 20)
        await server.stop(by=time.monotonic() + 0.05)
        with pytest.raises(aiohttp.ClientError):
            await request
    finally:
        release.set()


async def test_after_stop_the_port_is_free(start: Start) -> None:
    server = await start()
    port = int(server.url.rpartition(":")[2])
    await server.stop(by=soon())
    again = OpsServer("127.0.0.1", port, lambda: GOOD, scrape)
    await again.start()
    await again.stop(by=soon())


async def test_a_port_in_use_names_the_address_and_the_setting(start: Start) -> None:
    port = int((await start()).url.rpartition(":")[2])
    second = OpsServer("127.0.0.1", port, lambda: GOOD, scrape)
    expected = f"can't listen on 127.0.0.1:{port}: the port is in use; set http.port to another"
    with pytest.raises(OpsServerError, match=re.escape(expected)):
        await second.start()
    assert not second.health().ok
    await second.stop(by=soon())


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_a_foreign_host_names_the_setting(host: str) -> None:
    server = OpsServer(host, 0, lambda: GOOD, scrape)
    with pytest.raises(OpsServerError, match=f"can't listen on {re.escape(host)}:0: .*set http.host"):
        await server.start()
    await server.stop(by=soon())


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "http://127.0.0.1:"), ("127.0.0.1", "http://127.0.0.1:")])
async def test_the_url_can_be_opened(client: aiohttp.ClientSession, host: str, shown: str) -> None:
    server = OpsServer(host, 0, lambda: GOOD, scrape)
    assert server.url == ""
    await server.start()
    try:
        assert server.url.startswith(shown)
        assert not server.url.endswith(":0")
        async with client.get(server.url + "/livez") as answer:
            assert answer.status == 200
    finally:
        await server.stop(by=soon())


async def raw(server: OpsServer, request: bytes) -> bytes:
    """What the server answers to these bytes, until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
    ids=["tls", "version", "header", "line", "good", "absent"],
)
async def test_no_answer_tells_the_software(
    start: Start, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start()
    with caplog.at_level(logging.INFO):
        head, _, body = (await raw(server, request_bytes)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.")
    assert b"Server: fleet\r\n" in head + b"\r\n"
    assert b"application/json" in head
    assert not re.search(b"(?i)aiohttp|python", head + body)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING or "GET" in record.message]


async def test_a_body_without_end_is_not_read(start: Start) -> None:
    server = await start()
    request = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * 1000
    assert (await raw(server, request)).startswith(b"HTTP/1.1 405")


async def test_a_client_that_hangs_up_harms_nothing(start: Start, client: aiohttp.ClientSession) -> None:
    server = await start()
    for half in (b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
            connection.sendall(half)
    async with client.get(server.url + "/livez") as answer:
        assert answer.status == 200


# ----------------------------------------------------------------------- /workers


async def test_workers_are_told_to_this_machine(start: Start, client: aiohttp.ClientSession) -> None:
    server = await start(workers=lambda: {"processes": [{"name": "a-0"}]})
    async with client.get(server.url + "/workers") as get, client.head(server.url + "/workers") as head:
        assert get.status == head.status == 200
        assert await get.json() == {"processes": [{"name": "a-0"}]}
        assert await head.read() == b""
    async with client.post(server.url + "/workers") as answer:
        assert answer.status == 405
    async with client.get(server.url + "/nowhere") as answer:
        assert "/workers" in (await answer.json())["paths"]


async def test_workers_are_not_found_where_nobody_tells_them(start: Start, client: aiohttp.ClientSession) -> None:
    server = await start()
    async with client.get(server.url + "/workers") as answer:
        assert answer.status == 404
        assert "/workers" not in (await answer.json())["paths"]


async def test_workers_that_can_not_be_told_are_an_answer_of_503(start: Start, client: aiohttp.ClientSession) -> None:
    def workers() -> Mapping[str, Any]:
        raise KeyError("a secret")

    server = await start(workers=workers)
    async with client.get(server.url + "/workers") as answer:
        assert (answer.status, await answer.json()) == (503, {"error": "KeyError"})


async def test_page_of_a_browser_under_a_name_of_its_own_is_refused(
    start: Start, client: aiohttp.ClientSession
) -> None:
    """DNS rebinding: the page's own name leads to this machine, and its browser sends that name along."""
    server = await start(workers=lambda: {"secret": True})
    async with client.get(server.url + "/workers", headers={"Host": "evil.example:9464"}) as answer:
        assert answer.status == 403
        body = await answer.json()
    assert "this machine alone" in body["error"]
    assert "secret" not in body


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "::1%lo"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9464", "localhost:9464", "LOCALHOST", "[::1]:9464", "[::1]"])
def test_requests_of_this_machine_are_known(peer: str, host: str) -> None:
    assert is_local(peer, host)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("10.0.0.7", "127.0.0.1"),
        ("::ffff:10.0.0.7", "127.0.0.1"),
        ("fe80::1%eth0", "[::1]"),
        (None, "127.0.0.1"),
        ("", "127.0.0.1"),
        ("unix:", "127.0.0.1"),
        ("127.0.0.1", "10.0.0.7:9464"),
        ("127.0.0.1", "fleet.example"),
        ("127.0.0.1", "localhost.evil.example"),
        ("127.0.0.1", "127.0.0.1.evil.example:80"),
        ("127.0.0.1", ""),
        ("127.0.0.1", ":9464"),
    ],
)
def test_requests_of_others_are_known(peer: str | None, host: str) -> None:
    assert not is_local(peer, host)
