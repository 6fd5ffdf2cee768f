"""A new configuration reaches the processes: one after the other in each pool, and none for a broken one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.integration.runtime.conftest import Supervise
from tests.integration.runtime.programs import OBEYS, spec
from workers.runtime.supervision import death, life, recycle, replacement
from workers.runtime.supervision import supervisor as module
from workers.runtime.supervision.death import Death
from workers.runtime.supervision.recycle import Limits
from workers.runtime.supervision.replacement import Event, Recycled
from workers.runtime.supervision.roll import Roll
from workers.runtime.supervision.spec import ChildSpec
from workers.runtime.supervision.supervisor import EXIT_REFUSED, Supervisor


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(death, "RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(replacement, "PROVEN_S", 0.05)
    monkeypatch.setattr(recycle, "RETRY_FIRST_S", 0.1)


#: Says what it was told at its start.
TELLS = "told = sys.stdin.readline().strip()\nheed()\nwhile not terms: beat(detail=told); time.sleep(0.01)\n"


def told(name: str, brief: str, **fields: Any) -> ChildSpec:
    return spec(TELLS, name, stdin=brief.encode() + b"\n", **fields)


def details(supervisor: Supervisor) -> dict[str, str]:
    return {state.name: state.detail for state in supervisor.states() if state.ok}


async def stop(supervisor: Supervisor) -> None:
    await supervisor.stop(by=time.monotonic() + 20)
    assert supervisor.drained


async def test_changed_processes_are_replaced_and_the_others_left_alone(supervise: Supervise) -> None:
    supervisor = await supervise(told("a-0", "old"), told("a-1", "old"), told("b-0", "same"))
    await wait_until(lambda: supervisor.ready)
    before = {process.name: process.report.pid for process in supervisor.view().processes}
    worst = 0

    async def watch() -> None:
        nonlocal worst
        while True:
            worst = max(worst, sum(p.pool == "a" for p in supervisor.view().processes))
            assert supervisor.ready
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    roll = supervisor.apply([told("a-0", "new"), told("a-1", "new"), told("b-0", "same")], {"a": ("q",)})
    assert roll == Roll(replaced=("a-0", "a-1"), kept=("b-0",))
    await wait_until(lambda: details(supervisor) == {"a-0.q": "new", "a-1.q": "new", "b-0.q": "same"})
    await wait_until(lambda: len(supervisor.view().processes) == 3)
    watching.cancel()
    assert worst == 3, "one at a time"
    after = {process.name: process.report.pid for process in supervisor.view().processes}
    assert [name for name in before if before[name] != after[name]] == ["a-0", "a-1"]
    assert supervisor.view().pools[0].queues == ("q",)
    await stop(supervisor)


async def test_pools_grow_shrink_come_and_go(supervise: Supervise) -> None:
    ended: list[str] = []

    def heard(event: Event) -> None:
        if isinstance(event, Death) and event.expected:
            ended.append(event.process)

    present = [told("a-0", "x"), told("a-1", "x"), told("gone-0", "x")]
    supervisor = await supervise(*present, emit=heard)
    await wait_until(lambda: supervisor.ready)
    roll = supervisor.apply([told("a-0", "x"), told("new-0", "x"), told("new-1", "x")], {})
    assert roll == Roll(added=("new-0", "new-1"), removed=("a-1", "gone-0"), kept=("a-0",))
    await wait_until(lambda: sorted(ended) == ["a-1", "gone-0"])
    await wait_until(lambda: supervisor.ready)
    assert sorted(details(supervisor)) == ["a-0.q", "new-0.q", "new-1.q"]
    assert [(pool.name, pool.processes, pool.ready) for pool in supervisor.view().pools] == [("a", 1, 1), ("new", 2, 2)]
    await stop(supervisor)


async def test_removed_process_that_does_not_drain_is_killed_after_its_grace(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "KILL_SLACK_S", 0.1)
    stubborn = spec("heed()\nbeat()\nwhile True: time.sleep(1)", "gone-0", grace_s=0.1)
    supervisor = await supervise(told("a-0", "x"), stubborn)
    await wait_until(lambda: supervisor.ready)
    supervisor.apply([told("a-0", "x")], {})
    assert "draining" in [process.state for process in supervisor.view().processes]
    await wait_until(lambda: len(supervisor.view().processes) == 1)
    await stop(supervisor)


async def test_limits_and_grace_change_without_a_replacement(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "heed()\nwhile not terms: beat(jobs=9); time.sleep(0.01)\n"
    recycled: list[Event] = []
    supervisor = await supervise(
        spec(code), emit=lambda event: recycled.append(event) if isinstance(event, Recycled) else None
    )
    await wait_until(lambda: supervisor.ready)
    assert supervisor.apply([spec(code, limits=Limits(max_jobs=9))], {}) == Roll(adjusted=("p-0",))
    monkeypatch.setattr(recycle, "LIFE_S", 0.0)
    await wait_until(lambda: recycled)  # it is held to them from now on
    await stop(supervisor)


BROKEN = "sys.exit(3)"


async def test_configuration_with_which_no_process_starts_is_given_up_and_the_old_ones_go_on(
    supervise: Supervise, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[Recycled] = []

    def heard(event: Event) -> None:
        if isinstance(event, Recycled):
            failed.append(event)

    present = [told("a-0", "old"), told("a-1", "old"), told("b-0", "old")]
    supervisor = await supervise(*present, emit=heard)
    await wait_until(lambda: supervisor.ready)
    before = [process.report.pid for process in supervisor.view().processes][:2]
    supervisor.apply([spec(BROKEN, "a-0"), spec(BROKEN, "a-1"), told("b-0", "new")], {})
    await wait_until(lambda: details(supervisor).get("b-0.q") == "new")
    await wait_until(lambda: any(not event.started for event in failed))
    await wait_until(lambda: len(supervisor.view().processes) == 3)
    assert [process.report.pid for process in supervisor.view().processes][:2] == before
    assert details(supervisor) == {"a-0.q": "old", "a-1.q": "old", "b-0.q": "new"}
    assert supervisor.reload is not None and supervisor.reload.result == "failed"
    assert "pool a keeps its former configuration, process a-0 did not start with this one" in caplog.text
    assert len([event for event in failed if not event.started]) == 1, "the other one was spared"
    await stop(supervisor)


async def test_newer_configuration_outranks_one_that_is_just_failing(supervise: Supervise, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    fails = spec(f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\nsys.exit(3)", "a-0")
    supervisor = await supervise(told("a-0", "old"))
    await wait_until(lambda: supervisor.ready)
    supervisor.apply([fails], {})
    await wait_until(lambda: len(supervisor.view().processes) == 2)
    supervisor.apply([told("a-0", "newer")], {})
    gate.touch()
    await wait_until(lambda: details(supervisor) == {"a-0.q": "newer"})
    assert supervisor.reload is None
    await stop(supervisor)


async def test_process_that_could_not_start_yet_starts_anew_with_the_new_configuration(supervise: Supervise) -> None:
    """It serves nobody, so nobody waits for its successor."""
    hangs = spec("beat(started=False, ready=False)\nheed()\nwhile not terms: time.sleep(0.01)", "a-0")
    supervisor = await supervise(hangs)
    await wait_until(lambda: supervisor.view().processes[0].detail == "a-0: not ready")
    supervisor.apply([told("a-0", "new")], {})
    await wait_until(lambda: details(supervisor) == {"a-0.q": "new"})
    assert supervisor.view().processes[0].deaths == 0
    await stop(supervisor)


async def test_process_in_its_backoff_starts_next_with_the_new_configuration(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(death, "RESTART_FIRST_S", 0.3)
    supervisor = await supervise(spec(BROKEN, "a-0"))
    await wait_until(lambda: supervisor.view().processes[0].state == "dead" and supervisor.view().processes[0].deaths)
    supervisor.apply([told("a-0", "new")], {})
    await wait_until(lambda: details(supervisor) == {"a-0.q": "new"})
    await stop(supervisor)


async def test_new_pool_that_refuses_to_start_does_not_end_the_fleet(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(death, "RESTART_MAX_S", 0.2)
    supervisor = await supervise(told("a-0", "x"))
    waiting = asyncio.create_task(supervisor.wait())
    await wait_until(lambda: supervisor.ready)
    refuses = spec(f"sys.exit({EXIT_REFUSED})", "new-0")
    absent = ChildSpec(name="absent-0", argv=(str(tmp_path / "absent"),), stdin=b"")
    supervisor.apply([told("a-0", "x"), refuses, absent], {})
    for name in ("new-0", "absent-0"):
        await wait_until(
            lambda name=name: any(  # type: ignore[misc]
                process.name == name and process.detail.startswith("refused to start (its log says why), restarting in")
                for process in supervisor.view().processes
            )
        )
    assert not waiting.done()
    assert details(supervisor)["a-0.q"] == "x"
    await stop(supervisor)
    await waiting


async def test_nothing_is_begun_once_the_fleet_stops(supervise: Supervise) -> None:
    supervisor = await supervise(spec(OBEYS))
    await wait_until(lambda: supervisor.ready)
    stopping = asyncio.create_task(supervisor.stop(by=time.monotonic() + 20))
    await asyncio.sleep(0)
    supervisor.apply([spec(OBEYS), told("late-0", "x")], {})
    await stopping
    assert [process.name for process in supervisor.view().processes] == ["p-0"]
