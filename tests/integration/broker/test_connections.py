"""Every way to a single server: accounts, databases, Unix sockets, IPv6; how many connections; what an outage costs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from bullmq import Queue
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from tests.conftest import MakeWorker, Server, wait_until
from workers.broker.activation import Activation
from workers.broker.client import NotSentError
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint, Reconnect
from workers.broker.events import JobCompleted, WorkerError
from workers.broker.hold import Hold

PASSWORD = "a@b:c/d%e?f#g é&="
ENCODED = quote(PASSWORD, safe="")

MakeServer = Callable[..., Server]


async def add(endpoint: Endpoint, jobs: int = 1) -> None:
    client = endpoint.commands()
    queue = Queue("q", {"connection": client, "prefix": endpoint.prefix})
    await queue.addBulk([{"name": "n", "data": {"i": i}} for i in range(jobs)])
    await client.aclose()


async def refused(endpoint: Endpoint) -> str:
    """Why a command can't be sent."""
    client = endpoint.commands()
    try:
        with pytest.raises(NotSentError) as failure:
            await client.ping()
    finally:
        await client.aclose()
    assert endpoint.open_connections == 0
    return str(failure.value)


def account(server: Server, way: str) -> Endpoint:
    bare = f"redis://127.0.0.1:{server.port}/0"
    match way:
        case "url":
            return Endpoint(url=f"redis://default:{ENCODED}@127.0.0.1:{server.port}/0")
        case "no user":
            return Endpoint(url=f"redis://:{ENCODED}@127.0.0.1:{server.port}")
        case "fields":
            return Endpoint(url=bare, username="default", password=PASSWORD)
        case _:
            return Endpoint(url=f"{bare}?password={ENCODED}")


@pytest.mark.parametrize("way", ["url", "no user", "fields", "query"])
async def test_password_with_every_special_character_is_taken(
    make_worker: MakeWorker, make_server: MakeServer, way: str
) -> None:
    endpoint = account(make_server("--requirepass", PASSWORD), way)
    made = await make_worker(endpoint=endpoint)
    await add(endpoint)
    await wait_until(lambda: made.of(JobCompleted))
    assert not made.of(WorkerError)


@pytest.mark.parametrize(
    ("userinfo", "said"),
    [
        ("", "Authentication required."),
        (":wrong-secret@", "invalid username-password pair or user is disabled."),
        ("nobody:wrong-secret@", "invalid username-password pair or user is disabled."),
        (f"nobody:{ENCODED}@", "invalid username-password pair or user is disabled."),
    ],
)
@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_refused_account_is_said_with_the_field_and_without_the_password(
    make_server: MakeServer, tmp_path: Path, userinfo: str, said: str, way: str
) -> None:
    path = tmp_path / "r.sock"
    server = make_server("--requirepass", PASSWORD, "--unixsocket", str(path))
    where = f"127.0.0.1:{server.port}" if way == "tcp" else str(path)
    url = f"redis://{userinfo}{where}" if way == "tcp" else f"unix://{userinfo}{where}"
    assert await refused(Endpoint(url=url)) == f"{where} refuses user and password: {said} (redis.url)"


async def test_password_where_the_server_wants_none_is_said(make_server: MakeServer) -> None:
    text = await refused(Endpoint(url=f"redis://:wrong-secret@127.0.0.1:{make_server().port}"))
    assert "refuses user and password: AUTH <password> called without any password configured" in text
    assert "wrong-secret" not in text


async def test_database_number_is_kept_to(make_worker: MakeWorker, make_server: MakeServer) -> None:
    server = make_server()
    endpoint = Endpoint(url=f"redis://127.0.0.1:{server.port}/7")
    made = await make_worker(endpoint=endpoint)
    await add(endpoint)
    await wait_until(lambda: made.of(JobCompleted))
    async with Redis(port=server.port, decode_responses=True, protocol=2) as admin:
        assert set(await admin.info("keyspace")) == {"db7"}


async def test_database_that_is_not_there_is_said(make_server: MakeServer) -> None:
    client = Endpoint(url=f"redis://127.0.0.1:{make_server().port}/1000").commands()
    with pytest.raises(Exception, match="DB index is out of range"):
        await client.ping()
    await client.aclose()


async def test_unix_socket_serves_a_worker_and_greets_once(
    make_worker: MakeWorker, make_server: MakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "my redis.sock"
    make_server("--requirepass", PASSWORD, "--unixsocket", str(path))
    endpoint = Endpoint(url=f"unix://:{ENCODED}@{quote(str(path))}?db=2")
    made = await make_worker(endpoint=endpoint)
    await add(endpoint)
    await wait_until(lambda: made.of(JobCompleted))
    client = endpoint.commands()
    before = (await client.info("commandstats"))["cmdstat_auth"]["calls"]
    async with endpoint.commands() as other:
        await other.ping()
    assert (await client.info("commandstats"))["cmdstat_auth"]["calls"] == before + 1
    await client.aclose()


async def test_unix_socket_that_is_not_there_is_said(tmp_path: Path) -> None:
    text = await refused(Endpoint(url=f"unix://{tmp_path}/none.sock"))
    assert "No such file or directory" in text and "none.sock" in text


async def test_ipv6_address_serves_a_worker(make_worker: MakeWorker, make_server: MakeServer) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = make_server("--bind", "127.0.0.1", "::1")
    endpoint = Endpoint(url=f"redis://[::1]:{server.port}/0")
    made = await make_worker(endpoint=endpoint)
    await add(endpoint)
    await wait_until(lambda: made.of(JobCompleted))


async def test_host_without_a_name_or_a_server_is_said() -> None:
    assert "no-such-host.invalid:6379" in await refused(Endpoint(url="redis://no-such-host.invalid"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert f"127.0.0.1:{port}" in await refused(Endpoint(url=f"redis://127.0.0.1:{port}"))


# ------------------------------------------------------------- how many connections


async def test_many_slots_share_few_connections_and_their_number_is_known(
    make_worker: MakeWorker, make_server: MakeServer
) -> None:
    server = make_server()
    endpoint = Endpoint(url=server.url, max_connections=3)
    together = asyncio.Barrier(100)

    async def work(job: Activation, hold: Hold) -> Ending:
        if job.data["i"] < 100:
            await together.wait()  # all slots are busy, then all want to write at once
        return Completed(result=None)

    made = await make_worker(work, endpoint=endpoint, slots=100)
    await add(Endpoint(url=server.url), 300)
    await wait_until(lambda: len(made.of(JobCompleted)) == 300)
    assert not made.of(WorkerError)
    async with Redis(port=server.port, decode_responses=True, protocol=2) as admin:
        clients = [client for client in await admin.client_list() if client["id"] != str(await admin.client_id())]
    # The pool's three, one that blocks for the queue, one that renews locks.
    assert endpoint.open_connections == len(clients)
    assert 3 <= endpoint.open_connections <= 3 + 1 + 1


async def test_closed_connections_are_not_counted(redis_url: str) -> None:
    endpoint = Endpoint(url=redis_url)
    first, second = endpoint.commands(), endpoint.blocking("q", "w")
    await asyncio.gather(*(first.ping() for _ in range(4)), second.ping())
    assert 2 <= endpoint.open_connections <= 5
    await first.aclose()
    assert endpoint.open_connections == 1
    await second.aclose()
    assert endpoint.open_connections == 0


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the names are Linux's")
async def test_keepalive_is_set_on_the_socket(redis_url: str) -> None:
    client = Endpoint(url=redis_url, keepalive_s=42).commands()
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    wire = connection._writer.get_extra_info("socket")
    assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    assert [wire.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [42, 7, 3]
    await pool.release(connection)
    await client.aclose()


# ------------------------------------------------------------------------- outages


async def test_outage_is_probed_as_often_as_the_settings_say(make_worker: MakeWorker, make_server: MakeServer) -> None:
    server = make_server("--appendonly", "yes")
    endpoint = Endpoint(url=server.url)
    eager = await make_worker(endpoint=endpoint, reconnect=Reconnect(0.005, 0.01))
    lazy = await make_worker(endpoint=endpoint, reconnect=Reconnect(0.05, 60))
    await wait_until(lambda: eager.worker.health().ok and lazy.worker.health().ok)
    server.stop()
    # Doubling from 50 ms at least ten tries take 13 s; the eager one has made a thousand by then.
    await wait_until(lambda: len(eager.of(WorkerError)) >= 60, timeout_s=10)
    assert len(lazy.of(WorkerError)) < 10
    server.start()
    await add(endpoint)
    await wait_until(lambda: eager.of(JobCompleted) or lazy.of(JobCompleted))


async def test_connections_that_the_server_closed_cost_no_command(redis_url: str, redis: Redis) -> None:
    client = Endpoint(url=redis_url).commands()
    first = await client.client_id()
    await redis.client_kill_filter(_id=str(first))
    assert await client.client_id() != first
    await client.aclose()


async def test_connection_is_left_when_its_server_takes_no_writes_any_more(make_server: MakeServer) -> None:
    """The name of the primary moved on to another server, and the old one answers READONLY (a managed fail-over)."""
    server = make_server()
    endpoint = Endpoint(url=server.url)
    client, blocking = endpoint.commands(), endpoint.blocking("q", "w")
    admin = Redis(port=server.port, protocol=2)
    ids = await client.client_id(), await blocking.client_id()
    waiting: asyncio.Future[Any] = asyncio.ensure_future(blocking.bzpopmin("m", 10))

    async def blocked() -> Any:
        return bool((await admin.info("clients"))["blocked_clients"])

    await wait_until(blocked)
    await admin.replicaof("127.0.0.1", "1")
    with pytest.raises(ReadOnlyError):
        await client.set("x", "1")
    with pytest.raises(Exception, match="UNBLOCKED"):
        await waiting
    assert await client.client_id() != ids[0]
    assert await blocking.client_id() != ids[1]
    await admin.replicaof("NO", "ONE")
    assert await client.set("x", "1")
    for each in (client, blocking, admin):
        await each.aclose()


async def test_plain_connection_to_a_port_that_hangs_up_hints_at_tls() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        text = await refused(Endpoint(url=f"redis://127.0.0.1:{port}"))
    assert text.endswith(f" at once; if 127.0.0.1:{port} wants TLS, write rediss:// (redis.url)")


async def test_server_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert "Timeout reading" in await refused(Endpoint(url=f"redis://127.0.0.1:{port}", command_timeout_s=0.2))
        tls = Endpoint(url=f"rediss://127.0.0.1:{port}", connect_timeout_s=0.2)
        assert f"127.0.0.1:{port} did not answer within 0.2 s (redis.connect_timeout)" in await refused(tls)
