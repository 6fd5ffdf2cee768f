from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.dev import DevError, PartHealth
from workers.dev.board_state import BoardState
from workers.dev.catcher import MailCatcher
from workers.dev.embedded import EmbeddedValkey
from workers.dev.local_run import Addresses, LocalRun
from workers.dev.node import NodeMissing
from workers.dev.producer import Add, Producer
from workers.dev.resp import ask, serving_pid


class Diary:
    """What happened, in order."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def note(self, entry: str) -> None:
        self.entries.append(entry)


class FakeBoard:
    name = "board"

    def __init__(self, diary: Diary) -> None:
        self.said: list[str] = []
        self.facts: dict[str, str] = {}
        self.hints: list[str] = []
        self._diary = diary
        self._state = BoardState()

    def __call__(self, event: Any) -> None:
        self._state.apply(event)

    def say(self, text: str) -> None:
        self.said.append(text)

    def fact(self, label: str, value: Callable[[], str]) -> None:
        self.facts[label] = value()

    def hint(self, text: str) -> None:
        self.hints.append(text)

    async def start(self) -> None:
        self._diary.note("board starts")

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def stop(self, *, by: float) -> None:
        self._diary.note("board stops")

    def health(self) -> PartHealth:
        return PartHealth(ok=True, detail="")


class FakeFleet:
    """A fleet whose drain takes `drain_s`, or until it is hurried."""

    name = "fleet"
    url = "http://127.0.0.1:1"
    served = ("email-send",)
    skipped: Mapping[str, str] = {"sms-message": "not served yet"}

    def __init__(self, diary: Diary, *, drain_s: float = 0.0, start_s: float = 0.0) -> None:
        self.drained = True
        self.valkey_at_stop: bool | None = None
        self.addresses: Addresses | None = None
        self.dies = asyncio.get_running_loop().create_future()
        self._diary = diary
        self._drain_s = drain_s
        self._start_s = start_s
        self._by = float("inf")
        self._hurried = asyncio.Event()

    def made(self, addresses: Addresses) -> FakeFleet:
        self.addresses = addresses
        return self

    async def start(self) -> None:
        await asyncio.sleep(self._start_s)
        self._diary.note("fleet starts")

    async def wait(self) -> None:
        await asyncio.shield(self.dies)

    async def stop(self, *, by: float) -> None:
        if by >= self._by:
            raise AssertionError("the second deadline must be nearer")
        if self._by < float("inf"):
            self._diary.note("fleet hurries")
            self._hurried.set()
            return
        self._by = by
        self._diary.note("fleet drains")
        try:
            async with asyncio.timeout(self._drain_s):
                await self._hurried.wait()
            self.drained = False
        except TimeoutError:
            pass
        if self.addresses and self.addresses.redis:
            port = int(self.addresses.redis.rsplit(":", 1)[1].split("/")[0])
            self.valkey_at_stop = await serving_pid(port) is not None

    def health(self) -> PartHealth:
        return PartHealth(ok=True, detail="")


class Parts:
    """A run with a real Valkey and a real mail catcher around a fake fleet."""

    def __init__(self, directory: Path, **fleet: Any) -> None:
        self.diary = Diary()
        self.board = FakeBoard(self.diary)
        self.fleet = FakeFleet(self.diary, **fleet)
        self.valkey = EmbeddedValkey(directory, durable=False)
        self.catcher = MailCatcher(directory / "mails")
        self.added: list[str] = []

    def local_run(self, **more: Any) -> LocalRun:
        defaults: dict[str, Any] = {
            "board": self.board,
            "make_fleet": self.fleet.made,
            "valkey": self.valkey,
            "catcher": self.catcher,
            "make_producer": self.producer,
        }
        return LocalRun(**{**defaults, **more})

    def producer(self, url: str, queues: tuple[str, ...]) -> Producer:
        async def add(queue: str, _name: str, _data: dict[str, Any], _opts: dict[str, Any]) -> str:
            self.added.append(queue)
            return "1"

        @asynccontextmanager
        async def connect() -> AsyncIterator[Add]:
            try:
                yield add
            finally:
                self.diary.note("producer ends")

        async def no_node() -> NodeMissing:
            return NodeMissing("Node is not installed")

        return Producer(
            url=url, prefix="bull", queues=queues, rate=100, connect=connect, say=self.board.say, find=no_node
        )


async def test_parts_start_in_order_and_drain_in_the_opposite_order(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    local = parts.local_run()
    running = asyncio.create_task(local.run())
    await wait_until(lambda: len(parts.added) >= 3)
    assert parts.fleet.addresses == Addresses(redis=parts.valkey.url, smtp=parts.catcher.url)
    pid = await serving_pid(parts.valkey.port)
    local.end()
    assert await asyncio.wait_for(running, 20) is True

    assert parts.diary.entries == ["board starts", "fleet starts", "producer ends", "fleet drains", "board stops"]
    assert parts.fleet.valkey_at_stop is True
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not parts.catcher.health().ok


async def test_board_is_told_where_everything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = Parts(tmp_path)
    assert await parts.local_run(run_for_s=0.1).run() is True
    assert parts.board.facts["redis"].startswith("redis://127.0.0.1:")
    assert parts.board.facts["mails"] == "0 in mails"
    assert parts.board.facts["health"] == "http://127.0.0.1:1/readyz"
    assert parts.board.facts["metrics"] == "http://127.0.0.1:1/metrics"
    assert parts.board.facts["not served yet"] == "sms-message"
    assert parts.board.facts["jobs from"].startswith("the Python producer (Node is not installed), ")
    assert parts.board.said[-1] == "draining, at most 30 s"
    assert "Ctrl-C drains and stops" in parts.board.hints


async def test_joining_a_server_starts_neither_valkey_nor_catcher_nor_producer() -> None:
    diary = Diary()
    board, fleet = FakeBoard(diary), FakeFleet(diary)
    local = LocalRun(board=board, make_fleet=fleet.made, redis="redis://me:hunter2@redis.example.com/0", run_for_s=0.05)
    assert await local.run() is True
    assert fleet.addresses == Addresses(redis=None, smtp=None)
    assert board.facts["redis"] == "redis://me:***@redis.example.com/0"
    assert "mails" not in board.facts
    assert "jobs from" not in board.facts


async def test_second_request_hurries_the_drain_and_undrained_is_told(tmp_path: Path) -> None:
    parts = Parts(tmp_path, drain_s=3600.0)
    local = parts.local_run(grace_s=3600.0)
    running = asyncio.create_task(local.run())
    await wait_until(lambda: len(parts.added) >= 1)
    local.end()
    await wait_until(lambda: "fleet drains" in parts.diary.entries)
    local.end()
    assert await asyncio.wait_for(running, 20) is False
    assert parts.diary.entries[-2:] == ["fleet hurries", "board stops"]


async def test_request_during_the_start_is_obeyed_at_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, start_s=3600.0)
    local = parts.local_run()
    running = asyncio.create_task(local.run())
    await wait_until(lambda: parts.fleet.addresses is not None)
    local.end()
    assert await asyncio.wait_for(running, 20) is True
    assert parts.diary.entries == ["board starts", "fleet drains", "board stops"]
    assert parts.added == []


async def test_request_before_the_run_starts_nothing(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    local = parts.local_run()
    local.end()
    assert await asyncio.wait_for(local.run(), 20) is True
    assert "fleet starts" not in parts.diary.entries
    assert not (tmp_path / "valkey").exists()


async def test_valkey_that_can_not_start_ends_the_run_with_its_message(tmp_path: Path) -> None:
    (tmp_path / "valkey").touch()
    parts = Parts(tmp_path)
    with pytest.raises(DevError, match="can't make the data directory"):
        await parts.local_run().run()
    assert parts.diary.entries == ["board starts", "board stops"]


async def test_catcher_that_can_not_start_ends_the_run_and_valkey(tmp_path: Path) -> None:
    (tmp_path / "mails").touch()
    parts = Parts(tmp_path)
    with pytest.raises(DevError, match="can't store mails"):
        await parts.local_run().run()
    assert not parts.valkey.health().ok
    assert await serving_pid(parts.valkey.port) is None


async def test_valkey_that_dies_drains_the_fleet_and_raises(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    running = asyncio.create_task(parts.local_run().run())
    await wait_until(lambda: len(parts.added) >= 1)
    pid = await serving_pid(parts.valkey.port)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(DevError, match="the embedded Valkey ended by itself"):
        await asyncio.wait_for(running, 20)
    assert parts.diary.entries[-2:] == ["fleet drains", "board stops"]


async def test_fleet_that_dies_stops_the_others_and_raises_its_reason(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    running = asyncio.create_task(parts.local_run().run())
    await wait_until(lambda: len(parts.added) >= 1)
    parts.fleet.dies.set_exception(RuntimeError("a worker died"))
    with pytest.raises(RuntimeError, match="a worker died"):
        await asyncio.wait_for(running, 20)
    assert await serving_pid(parts.valkey.port) is None


async def test_fleet_that_can_not_be_built_stops_the_servers(tmp_path: Path) -> None:
    parts = Parts(tmp_path)

    def broken(_addresses: Addresses) -> FakeFleet:
        raise RuntimeError("nothing to serve")

    with pytest.raises(RuntimeError, match="nothing to serve"):
        await parts.local_run(make_fleet=broken).run()
    assert await serving_pid(parts.valkey.port) is None


async def test_part_that_fails_to_stop_keeps_no_other_from_stopping(tmp_path: Path) -> None:
    parts = Parts(tmp_path)

    async def broken(*, by: float) -> None:
        raise RuntimeError("will not stop")

    parts.fleet.stop = broken  # type: ignore[method-assign]
    assert await parts.local_run(run_for_s=0.1).run() is False
    assert await serving_pid(parts.valkey.port) is None
    assert parts.diary.entries[-1] == "board stops"


async def test_two_runs_in_one_directory_share_the_server(tmp_path: Path) -> None:
    first, second = Parts(tmp_path), Parts(tmp_path)
    first_local, second_local = first.local_run(), second.local_run()
    first_run = asyncio.create_task(first_local.run())
    await wait_until(lambda: len(first.added) >= 1)
    second_run = asyncio.create_task(second_local.run())
    await wait_until(lambda: len(second.added) >= 1)
    assert second.board.facts["redis"] == f"{first.valkey.url} (of another run here)"
    second_local.end()
    assert await asyncio.wait_for(second_run, 20) is True
    assert await ask(first.valkey.port, "PING") == "PONG"
    first_local.end()
    assert await asyncio.wait_for(first_run, 20) is True
