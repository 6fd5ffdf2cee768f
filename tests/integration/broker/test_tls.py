"""TLS to Redis: who is believed, who is not, and that nothing falls back to less."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.certificates import Authority
from tests.conftest import MakeWorker, Server, wait_until
from tests.tls_proxy import server_context, tls_proxy
from workers.broker.client import NotSentError
from workers.broker.endpoint import Endpoint, EndpointError, Tls
from workers.broker.events import JobCompleted, WorkerError


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def localhost(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("localhost")


def endpoint(port: int, prefix: str = "bull", host: str = "localhost", **tls: Any) -> Endpoint:
    return Endpoint(url=f"rediss://{host}:{port}/0", prefix=prefix, tls=Tls(**tls), connect_timeout_s=5)


async def refusal(where: Endpoint) -> str:
    client = where.commands()
    with pytest.raises(NotSentError) as failure:
        await client.ping()
    await client.aclose()
    return str(failure.value)


async def test_worker_works_through_tls(
    make_worker: MakeWorker, valkey: Server, redis: Redis, prefix: str, authority: Authority, localhost: Any
) -> None:
    async with tls_proxy(valkey.port, server_context(localhost)) as port:
        where = endpoint(port, prefix, ca_file=str(authority.ca))
        made = await make_worker(endpoint=where)
        queue = Queue("q", {"connection": redis, "prefix": prefix})
        await queue.add("n", {})
        await wait_until(lambda: made.of(JobCompleted))
        assert not made.of(WorkerError)
        await made.worker.close()


async def test_certificate_of_an_unknown_authority_is_refused(
    valkey: Server, stranger: Authority, localhost: Any
) -> None:
    async with tls_proxy(valkey.port, server_context(localhost)) as port:
        by_system = await refusal(endpoint(port))
        by_file = await refusal(endpoint(port, ca_file=str(stranger.ca)))
    assert by_system.startswith(f"TLS to localhost:{port} failed: ")
    assert "its authority is not one of the system's; set redis.tls.ca_file" in by_system
    assert f"its authority is not in {stranger.ca}; set redis.tls.ca_file" in by_file


async def test_expired_certificate_is_refused(valkey: Server, authority: Authority) -> None:
    expired = authority.issue("expired", days=-1)
    async with tls_proxy(valkey.port, server_context(expired)) as port:
        text = await refusal(endpoint(port, ca_file=str(authority.ca)))
    assert text == f"TLS to localhost:{port} failed: certificate has expired: renew the server's certificate"


async def test_certificate_for_another_name_is_refused_unless_the_name_is_given(
    valkey: Server, authority: Authority
) -> None:
    other = authority.issue("other", "DNS:redis.internal")
    ca = str(authority.ca)
    async with tls_proxy(valkey.port, server_context(other)) as port:
        for host, word in (("localhost", "Hostname mismatch"), ("127.0.0.1", "IP address mismatch")):
            text = await refusal(endpoint(port, host=host, ca_file=ca))
            assert word in text and text.endswith("If another name is right, set redis.tls.server_name")
        client = endpoint(port, host="127.0.0.1", ca_file=ca, server_name="redis.internal").commands()
        assert await client.ping()
        await client.aclose()


async def test_anyone_is_believed_only_where_that_is_asked_for(valkey: Server, localhost: Any) -> None:
    async with tls_proxy(valkey.port, server_context(localhost)) as port:
        client = endpoint(port, host="127.0.0.1", verify=False).commands()
        assert await client.ping()
        await client.aclose()


async def test_client_certificate_is_shown_and_its_lack_is_said(
    valkey: Server, authority: Authority, stranger: Authority, localhost: Any
) -> None:
    ca = str(authority.ca)
    mine, foreign = authority.issue("client"), stranger.issue("client")
    both = mine[0].with_name("both.pem")
    both.write_bytes(mine[0].read_bytes() + mine[1].read_bytes())
    async with tls_proxy(valkey.port, server_context(localhost, authority.ca)) as port:
        for files in ({"cert_file": str(mine[0]), "key_file": str(mine[1])}, {"cert_file": str(both)}):
            client = endpoint(port, ca_file=ca, **files).commands()
            assert await client.ping()
            await client.aclose()
        none = await refusal(endpoint(port, ca_file=ca))
        wrong = await refusal(endpoint(port, ca_file=ca, cert_file=str(foreign[0]), key_file=str(foreign[1])))
    for text in (none, wrong):  # whether the server's alert or the end of the connection comes first is open
        assert text.endswith(" at once; if it asks for a certificate, see redis.tls.cert_file and redis.tls.key_file")


async def test_tls_to_a_port_without_it_is_not_replaced_by_less(valkey: Server, authority: Authority) -> None:
    where = Endpoint(url=f"rediss://localhost:{valkey.port}", tls=Tls(ca_file=str(authority.ca)), connect_timeout_s=0.3)
    for _ in range(3):  # the server waits for the end of what it takes for a command, or complains of it
        assert "no TLS is spoken on this port, write redis:// or take the server's TLS port" in await refusal(where)


async def test_plain_connection_to_a_tls_port_is_hinted_at(valkey: Server, localhost: Any) -> None:
    async with tls_proxy(valkey.port, server_context(localhost)) as port:
        assert "wants TLS, write rediss:// (redis.url)" in await refusal(Endpoint(url=f"redis://localhost:{port}"))


async def test_renewed_files_are_used_by_the_next_connection(
    valkey: Server, authority: Authority, stranger: Authority, localhost: Any, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(stranger.ca, ca)
    async with tls_proxy(valkey.port, server_context(localhost)) as port:
        client = endpoint(port, ca_file=str(ca)).commands()
        with pytest.raises(NotSentError, match="its authority is not in"):
            await client.ping()
        shutil.copy(authority.ca, tmp_path / "new.pem")
        (tmp_path / "new.pem").replace(ca)
        assert await client.ping()
        await client.connection_pool.disconnect()
        ca.unlink()
        with pytest.raises(NotSentError, match=r"redis\.tls\.ca_file: .*ca\.pem can't be read: No such file"):
            await client.ping()
        await client.aclose()


def test_key_that_is_encrypted_or_another_ones_is_refused_without_a_question(
    authority: Authority, localhost: tuple[Path, Path]
) -> None:
    certificate, key = localhost
    for wrong in (authority.encrypt(key, "secret"), authority.issue("unrelated")[1], certificate):
        with pytest.raises(EndpointError, match=r"redis\.tls\.cert_file: no certificate with its unencrypted key"):
            endpoint(1, cert_file=str(certificate), key_file=str(wrong))
