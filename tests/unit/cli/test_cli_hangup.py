"""SIGHUP reads the configuration again, refuses what is wrong with it, and ends nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from config.errors import ConfigError, ConfigIssue
from config.loader import LoadedConfig
from config.schema import FleetConfig
from tests.conftest import wait_until
from workers.cli import hangup as module
from workers.cli.hangup import Hangup, Reloader, ignored, survive
from workers.fleet import SelectionError
from workers.runtime.supervision.reload import Reload, Reloaded
from workers.runtime.supervision.roll import Roll


@pytest.fixture(autouse=True)
def disposition() -> Iterator[None]:
    """What a test does to SIGHUP holds for it alone."""
    former = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, former)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


async def test_each_hangup_is_told_and_none_after_the_end() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    heard: list[int] = []
    listening = Hangup(lambda: heard.append(1))
    hang_up()
    await wait_until(lambda: len(heard) == 1)
    hang_up()
    await wait_until(lambda: len(heard) == 2)
    listening.close()
    hang_up()  # would end the test run
    await asyncio.sleep(0)
    assert len(heard) == 2


async def test_under_nohup_it_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listening = Hangup(lambda: pytest.fail("nohup asked for silence"))
    hang_up()
    await asyncio.sleep(0)
    listening.close()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


async def test_start_survives_a_hangup_and_does_not_take_it_for_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    survive()
    hang_up()
    heard: list[int] = []
    listening = Hangup(lambda: heard.append(1))
    hang_up()
    await wait_until(lambda: heard == [1])
    listening.close()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    survive()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_where_there_is_nothing_to_reload_it_says_why(caplog: pytest.LogCaptureFixture) -> None:
    ignored("this is one process")()
    assert caplog.messages == ["SIGHUP is ignored: this is one process"]


# --------------------------------------------------------------------- the reloader


class FakeReload:
    """What it is told; not the real one, whose own tests are elsewhere."""

    def __init__(self) -> None:
        self.applied: list[Any] = []
        self.refused: list[str] = []
        self.problem: Exception | None = None
        self.later: tuple[str, ...] = ()

    def apply(self, config: Any) -> Reloaded:
        if self.problem is not None:
            raise self.problem
        self.applied.append(config)
        return Reloaded(Roll(kept=("a-0",)), self.later)

    def refuse(self, problem: str) -> None:
        self.refused.append(problem)


class Source:
    """Reads; as slowly as its gate wants."""

    def __init__(self) -> None:
        self.reads = 0
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.config: Any = object()

    def __call__(self) -> LoadedConfig:
        self.reads += 1
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return cast(LoadedConfig, self)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(module, "check_options", lambda loaded: [])
    return Source()


@pytest.fixture
def reload() -> FakeReload:
    return FakeReload()


def reloader(source: Source, reload: FakeReload) -> Reloader:
    def localize(config: FleetConfig) -> FleetConfig:
        return cast(FleetConfig, ("here", config))

    return Reloader(source, localize, cast(Reload, reload))


async def test_valid_configuration_is_applied_as_this_run_has_it(
    source: Source, reload: FakeReload, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    reload.later = ("http.port", "redis.url")
    reloader(source, reload).ask()
    await wait_until(lambda: reload.applied == [("here", source.config)])
    await wait_until(lambda: "next start only: http.port, redis.url" in caplog.text)
    assert "reload applied: left alone: a-0" in caplog.text


ISSUES = [
    ConfigIssue(source="fleet.yaml", line=3, column=1, path="queues.q.lock", message="expected a duration"),
    ConfigIssue(source="--set", path="http.port", message="expected an integer"),
]
PROBLEM = "fleet.yaml:3:1: queues.q.lock: expected a duration; --set: http.port: expected an integer"


async def test_what_is_wrong_is_one_error_that_names_everything(
    source: Source, reload: FakeReload, caplog: pytest.LogCaptureFixture
) -> None:
    source.error = ConfigError(ISSUES)
    reloader(source, reload).ask()
    await wait_until(lambda: reload.refused == [PROBLEM])
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert error.message == f"reload refused, the former configuration stays in force: {PROBLEM}"
    assert reload.applied == []


async def test_what_the_modules_say_is_part_of_it(
    source: Source, reload: FakeReload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_options", lambda loaded: ISSUES)
    reloader(source, reload).ask()
    await wait_until(lambda: reload.refused == [PROBLEM])


@pytest.mark.parametrize("error", [SelectionError("nothing to serve"), RuntimeError("a secret")])
async def test_nothing_that_goes_wrong_ends_the_fleet(source: Source, reload: FakeReload, error: Exception) -> None:
    reload.problem = error
    asked = reloader(source, reload)
    asked.ask()
    await wait_until(lambda: len(reload.refused) == 1)
    assert "secret" not in reload.refused[0]
    reload.problem = None
    asked.ask()
    await wait_until(lambda: len(reload.applied) == 1)


async def test_hangups_meanwhile_are_one_more_reading(source: Source, reload: FakeReload) -> None:
    source.gate.clear()
    asked = reloader(source, reload)
    for _ in range(5):
        asked.ask()
        await asyncio.sleep(0)
    await wait_until(lambda: source.reads == 1)
    asked.ask()
    asked.ask()
    source.gate.set()
    await wait_until(lambda: len(reload.applied) == 2)
    assert source.reads == 2


async def test_end_of_the_fleet_ends_a_reading(source: Source, reload: FakeReload) -> None:
    source.gate.clear()
    asked = reloader(source, reload)
    asked.ask()
    await wait_until(lambda: source.reads == 1)
    await asked.close()
    source.gate.set()
    assert reload.applied == reload.refused == []
    await reloader(source, reload).close()
