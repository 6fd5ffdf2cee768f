"""Processes that are replaced: the successor first, then the drain; and what if either does not play along."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import wait_until
from tests.integration.runtime.conftest import Supervise
from tests.integration.runtime.programs import OBEYS, spec
from workers.runtime.supervision import death, life, recycle, replacement, silence
from workers.runtime.supervision import supervisor as module
from workers.runtime.supervision.death import Death
from workers.runtime.supervision.recycle import Limits
from workers.runtime.supervision.replacement import Event, Recycled
from workers.runtime.supervision.supervisor import EXIT_REFUSED, Supervisor

MB = 1024**2
#: The first life has what the second one lacks: a reason to be replaced. `{mark}` is a file that counts lives.
ONCE = """
mark = {mark!r}
open(mark, "a").write("x")
lives = os.path.getsize(mark)
heed()
while not terms: beat(**({report} if lives == 1 else {{}})); time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(death, "RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(recycle, "LIFE_S", 0.05)
    monkeypatch.setattr(replacement, "PROVEN_S", 0.1)


class Heard:
    """What the supervisor has told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def deaths(self) -> list[Death]:
        return [event for event in self.events if isinstance(event, Death)]

    @property
    def recycled(self) -> list[Recycled]:
        return [event for event in self.events if isinstance(event, Recycled)]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def once(tmp_path: Path) -> Callable[[str], str]:
    def code(report: str) -> str:
        return ONCE.format(mark=str(tmp_path / "lives"), report=report)

    return code


def states(supervisor: Supervisor) -> list[str]:
    return [process.state for process in supervisor.view().processes]


async def stop(supervisor: Supervisor) -> None:
    await supervisor.stop(by=time.monotonic() + 20)


@pytest.mark.parametrize(
    ("report", "limits", "reason", "detail"),
    [
        (
            '{"rss": 500 * 1024**2}',
            Limits(memory=400 * MB),
            "memory",
            "500MB resident, pools.p.memory is 400MB",
        ),
        ('{"jobs": 12}', Limits(max_jobs=10), "jobs", "12 jobs done, pools.p.max_jobs is 10"),
        (
            '{"extra": {"runs_left_behind": 5}}',
            Limits(),
            "left_behind",
            "5 runs go on although their jobs are over, more than 4",
        ),
    ],
)
async def test_process_over_its_limit_is_replaced_without_a_break_in_service(
    supervise: Supervise,
    heard: Heard,
    once: Callable[[str], str],
    report: str,
    limits: Limits,
    reason: str,
    detail: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor = await supervise(spec(once(report), limits=limits), emit=heard)
    await wait_until(lambda: supervisor.ready)
    (first,) = [process.report.pid for process in supervisor.view().processes]
    breaks = 0

    async def watch() -> None:
        nonlocal breaks
        while True:
            breaks += not supervisor.ready
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    await wait_until(lambda: heard.deaths)
    watching.cancel()
    assert breaks == 0
    (recycled,), (ended,) = heard.recycled, heard.deaths
    assert (recycled.process, recycled.reason, recycled.detail, recycled.started) == ("p-0", reason, detail, True)
    assert (ended.pid, ended.expected) == (first, True)
    assert heard.events == [recycled, ended], "the successor has started before the old one ends"
    (seen,) = supervisor.view().processes
    assert seen.report.pid != first
    assert (seen.recycles, seen.last_recycle, seen.deaths, seen.last_death) == (1, detail, 0, "")
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    await stop(supervisor)
    assert supervisor.drained


async def test_all_that_happens_meanwhile_is_seen(
    supervise: Supervise, heard: Heard, once: Callable[[str], str], tmp_path: Path
) -> None:
    gate, gone = tmp_path / "gate", tmp_path / "gone"
    code = once('{"jobs": 9}').replace(
        "heed()\n",
        f"heed()\nwhile lives == 2 and not os.path.exists({str(gate)!r}): "
        "beat(started=False, ready=False); time.sleep(0.01)\n",
    )
    code += f"while lives == 1 and not os.path.exists({str(gone)!r}): beat(ready=False); time.sleep(0.01)\n"
    supervisor = await supervise(spec(code, limits=Limits(max_jobs=9)), emit=heard)
    await wait_until(lambda: states(supervisor) == ["recycling", "starting"])
    assert supervisor.ready
    assert [pool.ready for pool in supervisor.view().pools] == [1]
    gate.touch()
    await wait_until(lambda: states(supervisor) == ["draining", "ready"])
    assert supervisor.ready
    gone.touch()
    await wait_until(lambda: states(supervisor) == ["ready"])
    await stop(supervisor)
    assert supervisor.drained


async def test_one_process_of_a_pool_at_a_time_is_replaced(supervise: Supervise, heard: Heard) -> None:
    """Each would be replaced at once, and its successor too."""
    code = "heed()\nwhile not terms: beat(jobs=9); time.sleep(0.01)\n"
    limits = Limits(max_jobs=9)
    specs = [spec(code, f"p-{number}", limits=limits) for number in range(3)]
    supervisor = await supervise(*specs, spec(code, "other-0", limits=limits), emit=heard)
    most = 0
    while len(heard.recycled) < 8:
        present = Counter(process.pool for process in supervisor.view().processes)
        most = max(most, present["p"])
        await asyncio.sleep(0.001)
    assert most == 4
    assert {event.process for event in heard.recycled} >= {"other-0"}
    await stop(supervisor)
    assert supervisor.drained


# ------------------------------------------------------- a successor that does not start

#: The first life works; a later one does what stands in `{then}`.
LATER = """
mark = {mark!r}
open(mark, "a").write("x")
lives = os.path.getsize(mark)
heed()
if lives > 1:
    {then}
while not terms: beat(jobs=9); time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("then", "problem"),
    [
        ("sys.exit(3)", "died (exit code 3)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "died (SIGSEGV)"),
        (f"sys.exit({EXIT_REFUSED})", f"died (exit code {EXIT_REFUSED})"),
        ("beat(); sys.exit(3)", "died (exit code 3)"),
        ("while True: time.sleep(1)", "has not started within 0 s"),
    ],
)
async def test_old_process_goes_on_where_the_successor_does_not_start(
    supervise: Supervise,
    heard: Heard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    then: str,
    problem: str,
) -> None:
    monkeypatch.setattr(recycle, "START_S", 0.3)
    monkeypatch.setattr(recycle, "RETRY_FIRST_S", 0.1)
    monkeypatch.setattr(replacement, "GIVEN_UP_S", 0.0)
    monkeypatch.setattr(life, "KILL_SLACK_S", 0.1)
    mark = tmp_path / "lives"
    code = LATER.format(mark=str(mark), then=then)
    supervisor = await supervise(spec(code, limits=Limits(max_jobs=9)), emit=heard)
    await wait_until(lambda: supervisor.ready)
    (first,) = [process.report.pid for process in supervisor.view().processes]
    await wait_until(lambda: len([event for event in heard.recycled if not event.started]) >= 2)  # and tried again
    assert supervisor.ready
    assert first in [process.report.pid for process in supervisor.view().processes]
    assert f"the successor of process p-0 {problem}; the old one goes on" in caplog.text
    assert supervisor.view().processes[0].last_recycle == f"failed, its successor {problem}"
    await stop(supervisor)


async def test_old_process_that_dies_leaves_its_place_to_the_successor(
    supervise: Supervise, heard: Heard, once: Callable[[str], str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    code = once('{"jobs": 9}').replace(
        "heed()\n", f"heed()\nwhile lives == 2 and not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    )
    supervisor = await supervise(spec(code, limits=Limits(max_jobs=9)), emit=heard)
    await wait_until(lambda: states(supervisor) == ["recycling", "starting"])
    first = supervisor.view().processes[0].report.pid
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: heard.deaths)
    assert not supervisor.ready
    assert states(supervisor) == ["starting"]
    gate.touch()
    await wait_until(lambda: supervisor.ready)
    assert [(event.pid, event.expected) for event in heard.deaths] == [(first, False)]
    assert (tmp_path / "lives").read_text() == "xx", "no third process was started"
    (seen,) = supervisor.view().processes
    assert (seen.deaths, seen.last_death) == (1, "SIGKILL")
    await stop(supervisor)
    assert supervisor.drained


async def test_successor_that_dies_after_its_start_is_restarted_while_the_old_one_drains(
    supervise: Supervise, heard: Heard, tmp_path: Path
) -> None:
    mark, gate = tmp_path / "lives", tmp_path / "gate"
    code = f"""
        mark = {str(mark)!r}
        open(mark, "a").write("x")
        lives = os.path.getsize(mark)
        heed()
        while not terms:
            beat(jobs=9 if lives == 1 else 0)
            time.sleep(0.01)
            if lives == 2 and os.path.exists({str(gate)!r}): sys.exit(3)
        while lives == 1 and len(terms) < 2: beat(); time.sleep(0.01)
    """
    supervisor = await supervise(spec(code, limits=Limits(max_jobs=9)), emit=heard)
    await wait_until(lambda: states(supervisor) == ["draining", "ready"])
    gate.touch()
    await wait_until(lambda: states(supervisor) == ["draining", "ready"] and mark.read_text() == "xxx")
    assert [event.notice for event in heard.deaths] == ["exit code 3"]
    await stop(supervisor)  # by which the old one is asked a second time
    assert supervisor.drained


async def test_old_process_that_does_not_drain_is_killed_and_its_jobs_are_not_to_blame(
    supervise: Supervise, heard: Heard, once: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "KILL_SLACK_S", 0.1)
    code = once('{"jobs": 9}') + "while lives == 1: time.sleep(1)\n"
    supervisor = await supervise(spec(code, limits=Limits(max_jobs=9), grace_s=0.1), emit=heard)
    await wait_until(lambda: heard.deaths)
    (ended,) = heard.deaths
    assert (ended.notice, ended.expected) == ("SIGKILL", True)
    assert supervisor.ready
    await stop(supervisor)
    assert supervisor.drained


async def test_stop_during_a_replacement_ends_all_three(
    supervise: Supervise, heard: Heard, once: Callable[[str], str]
) -> None:
    code = once('{"jobs": 9}').replace("heed()\n", "heed()\nwhile lives == 2 and not terms: time.sleep(0.01)\n")
    supervisor = await supervise(spec(code, limits=Limits(max_jobs=9)), emit=heard)
    await wait_until(lambda: states(supervisor) == ["recycling", "starting"])
    await stop(supervisor)
    assert supervisor.drained
    assert len(heard.deaths) == 2
    assert heard.recycled == []


async def test_stop_before_a_replacement_has_begun_leaves_no_process_behind(
    supervise: Supervise, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was decided, and its task has not run yet."""
    monkeypatch.setattr(module, "LOOK_S", 3600.0)
    monkeypatch.setattr(recycle, "LIFE_S", 0.0)
    code = "heed()\nwhile not terms: beat(jobs=9); time.sleep(0.01)\n"
    supervisor = await supervise(spec(code, limits=Limits(max_jobs=9)), emit=heard)
    await wait_until(lambda: supervisor.ready)
    supervisor._look()
    await stop(supervisor)
    assert supervisor.drained
    assert len(heard.deaths) == 1


# ----------------------------------------------------------------- limits and silence


async def test_limit_below_what_every_process_needs_is_named_once_and_no_tight_loop(
    supervise: Supervise, heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code = "heed()\nwhile not terms: beat(rss=500 * 1024**2); time.sleep(0.01)\n"
    supervisor = await supervise(spec(code, limits=Limits(memory=400 * MB)), emit=heard)
    await wait_until(lambda: len(heard.recycled) >= 3)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("pools.p.memory is too small: twice in a row process p-0 had reached it")
    await stop(supervisor)


async def test_restart_after_an_expected_end_is_no_death(supervise: Supervise, heard: Heard) -> None:
    supervisor = await supervise(spec("heed()\nbeat()\nos.kill(os.getpid(), signal.SIGTERM)\nsys.exit(0)"), emit=heard)
    await wait_until(lambda: len(heard.deaths) >= 2)
    assert not any(event.expected for event in heard.deaths), "nobody has asked it to end"
    await stop(supervisor)


async def test_exit_code_of_a_refusal_after_the_start_is_a_death_like_any_other(
    supervise: Supervise, heard: Heard
) -> None:
    """A hostile job may end its process with any code; the fleet must not take it at its word."""
    supervisor = await supervise(spec(f"beat()\ntime.sleep(0.1)\nsys.exit({EXIT_REFUSED})"), emit=heard)
    await wait_until(lambda: len(heard.deaths) >= 2)
    assert {event.reason for event in heard.deaths} == {"exit"}
    await stop(supervisor)


async def test_silent_process_is_spared_while_a_job_of_its_may_run_and_killed_after_that(
    supervise: Supervise, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT_S", 0.2)
    monkeypatch.setattr(silence, "IDLE_S", 0.3)
    monkeypatch.setattr(silence, "GRACE_S", 0.1)
    monkeypatch.setattr(life, "LISTEN_S", 0.02)
    until: dict[str, Any] = {"at": time.monotonic() + 3600, "asked": 0}

    def busy_until(pid: int) -> float | None:
        until["asked"] += 1
        at: float | None = until["at"]
        return at

    supervisor = await supervise(spec("beat()\ntime.sleep(60)"), emit=heard, busy_until=busy_until)
    await wait_until(lambda: until["asked"] > 50)  # a second, far longer than one without jobs may be silent
    assert heard.deaths == []
    assert states(supervisor) == ["silent"]
    until["at"] = time.monotonic()
    await wait_until(lambda: heard.deaths)
    assert heard.deaths[0].reason == "silence"
    assert heard.deaths[0].notice.startswith("SIGKILL after ")
    assert not heard.deaths[0].expected
    await stop(supervisor)


async def test_silent_process_without_jobs_is_killed_soon(
    supervise: Supervise, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT_S", 0.1)
    monkeypatch.setattr(silence, "IDLE_S", 0.2)
    monkeypatch.setattr(life, "LISTEN_S", 0.02)
    supervisor = await supervise(spec("beat()\ntime.sleep(60)", silence_s=3600), emit=heard)
    await wait_until(lambda: heard.deaths)
    assert heard.deaths[0].reason == "silence"
    await stop(supervisor)


async def test_descriptors_and_zombies_do_not_pile_up_with_replacements(supervise: Supervise, heard: Heard) -> None:
    others = set(psutil.Process().children())
    code = "heed()\nwhile not terms: beat(jobs=9); time.sleep(0.005)\n"
    supervisor = await supervise(spec(code, limits=Limits(max_jobs=9)), spec(OBEYS, "calm-0"), emit=heard)
    await wait_until(lambda: len(heard.recycled) >= 3)
    before = psutil.Process().num_fds()
    await wait_until(lambda: len(heard.recycled) >= 15)
    assert psutil.Process().num_fds() <= before + 8  # those of a successor and of one that ends just now
    zombies = [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
    assert len(zombies) <= 2
    await stop(supervisor)
    assert supervisor.drained
    assert set(psutil.Process().children()) <= others
