"""The supervisor with real processes, small programs of its own (programs.py)."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import wait_until
from tests.integration.runtime.conftest import Supervise
from tests.integration.runtime.programs import OBEYS, spec
from workers.runtime.process import State
from workers.runtime.supervision import death, life, silence
from workers.runtime.supervision import supervisor as module
from workers.runtime.supervision.death import Death
from workers.runtime.supervision.replacement import Event
from workers.runtime.supervision.supervisor import EXIT_REFUSED, ChildSpec, RefusedToStartError, Supervisor

NEVER = 3600.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(death, "RESTART_FIRST_S", 0.01)


class Deaths:
    """Notes the ids of the dead."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids

    def __call__(self, event: Event) -> None:
        if isinstance(event, Death):
            self._pids.append(event.pid)


async def stop(supervisor: Supervisor, in_s: float = 20.0) -> None:
    await supervisor.stop(by=time.monotonic() + in_s)


# ------------------------------------------------------------------------ life


async def test_processes_are_ready_when_all_have_said_so_and_drain_on_stop(supervise: Supervise) -> None:
    supervisor = await supervise(spec(OBEYS), spec(OBEYS, "p-1"))
    assert supervisor.states() == [State("p-0", False, "not started"), State("p-1", False, "not started")]
    waiting = asyncio.create_task(supervisor.wait())
    await wait_until(lambda: supervisor.ready)
    assert supervisor.started
    assert supervisor.states() == [State("p-0.q", True, "fine"), State("p-1.q", True, "fine")]
    assert supervisor.health() == State("supervisor", True, "2 processes work")
    await stop(supervisor)
    await waiting
    assert supervisor.drained
    assert not supervisor.ready
    assert supervisor.health().detail == "p-0: stopped; p-1: stopped"


async def test_process_gets_its_brief_its_environment_and_a_life_line(supervise: Supervise) -> None:
    told = 'heed()\nbeat(detail=sys.stdin.readline() + os.environ["ROLE"])\nwhile not terms: time.sleep(0.01)'
    supervisor = await supervise(spec(told, env={"ROLE": "mail"}))
    await wait_until(lambda: supervisor.ready)
    assert supervisor.states() == [State("p-0.q", True, "brief\nmail")]
    await stop(supervisor)
    assert supervisor.drained


async def test_process_that_is_not_ready_is_shown(supervise: Supervise) -> None:
    code = "heed()\nbeat(ready=False, ok=False, detail='away')\ntime.sleep(0.1)\nbeat(ready=False)\n"
    supervisor = await supervise(spec(code + "while not terms: time.sleep(0.01)"))
    await wait_until(lambda: supervisor.states() == [State("p-0.q", False, "away")])
    assert supervisor.started and not supervisor.ready
    await wait_until(lambda: supervisor.states()[-1] == State("p-0", False, "not ready"))
    assert not supervisor.ready


async def test_dead_process_is_replaced_and_told(
    supervise: Supervise, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = f"""
        mark = {str(tmp_path / "lives")!r}
        lives = os.path.getsize(mark) if os.path.exists(mark) else 0
        open(mark, "a").write("x")
        if lives < 2: sys.exit(3)
        heed()
        while not terms: beat(); time.sleep(0.01)
    """
    dead: list[int] = []
    supervisor = await supervise(spec(code), emit=Deaths(dead))
    assert not supervisor.started
    await wait_until(lambda: supervisor.ready)
    assert len(set(dead)) == 2
    notices = [record.message for record in caplog.records if "died" in record.message]
    assert notices[0] == "process p-0 died (exit code 3); restarting it in 0.0 s"
    assert len(notices) == 2
    await stop(supervisor)
    assert supervisor.drained
    assert len(dead) == 3


async def test_process_that_is_to_be_restarted_is_shown_and_no_failure_to_drain(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(death, "RESTART_FIRST_S", 20.0)
    supervisor = await supervise(spec("os.kill(os.getpid(), signal.SIGKILL)"), spec(OBEYS, "p-1"))
    died = State("p-0", False, "died (SIGKILL), restarting in 20 s (1 death)")
    await wait_until(lambda: supervisor.states()[0] == died)
    assert not supervisor.started
    await stop(supervisor)
    assert supervisor.drained


async def test_what_fails_after_a_death_does_not_stop_the_restart(supervise: Supervise) -> None:
    deaths = 0

    def emit(event: Event) -> None:
        nonlocal deaths
        deaths += 1
        raise OSError("disk full")

    supervisor = await supervise(spec("sys.exit(1)"), emit=emit)
    await wait_until(lambda: deaths >= 3)
    await stop(supervisor)


async def test_descriptors_do_not_pile_up_with_restarts(supervise: Supervise) -> None:
    dead: list[int] = []
    supervisor = await supervise(spec("beat()\nsys.exit(1)"), emit=Deaths(dead))
    await wait_until(lambda: len(dead) >= 2)
    before = psutil.Process().num_fds()
    await wait_until(lambda: len(dead) >= 8)
    assert psutil.Process().num_fds() <= before + 4  # those of one process that lives just now
    await stop(supervisor)


# ---------------------------------------------------------------------- refusals


async def test_refusal_of_a_process_is_final(supervise: Supervise) -> None:
    supervisor = await supervise(spec(f"sys.exit({EXIT_REFUSED})"), spec(f"sys.exit({EXIT_REFUSED})", "p-1"))
    with pytest.raises(RefusedToStartError, match=r"p-[01] refused to start"):
        await supervisor.wait()
    await stop(supervisor)


async def test_program_that_does_not_exist_is_final_and_named(supervise: Supervise, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for path, words in ((tmp_path / "absent", "No such file"), (tmp_path / "text", "Permission denied")):
        supervisor = await supervise(ChildSpec(name="p-0", argv=(str(path),), stdin=b""))
        with pytest.raises(RefusedToStartError, match=f"process p-0 can't be started: .*{words}"):
            await supervisor.wait()


async def test_machine_that_is_short_of_processes_is_waited_for(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = asyncio.create_subprocess_exec
    refusals = iter([errno.EAGAIN, errno.EMFILE])

    async def short(*args: Any, **options: Any) -> asyncio.subprocess.Process:
        for code in refusals:
            raise OSError(code, os.strerror(code))
        return await real(*args, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", short)
    supervisor = await supervise(spec(OBEYS))
    await wait_until(lambda: supervisor.ready)
    assert "process p-0 can't be started: [Errno 11]" in caplog.text
    await stop(supervisor)
    assert supervisor.drained


# -------------------------------------------------------------------------- stop


@pytest.mark.parametrize(("code", "drained"), [(0, True), (1, False), (70, False)])
async def test_exit_code_tells_whether_a_process_drained(supervise: Supervise, code: int, drained: bool) -> None:
    supervisor = await supervise(spec(OBEYS + f"sys.exit({code})"), spec(OBEYS, "p-1"))
    await wait_until(lambda: supervisor.ready)
    await stop(supervisor)
    assert supervisor.drained is drained


async def test_process_that_is_stopped_before_it_can_heed_has_drained(supervise: Supervise) -> None:
    supervisor = await supervise(spec("beat(started=False, ready=False)\ntime.sleep(60)"))
    await wait_until(lambda: supervisor.states() != [State("p-0", False, "starting")])
    await stop(supervisor)
    assert supervisor.drained


async def test_process_that_does_not_heed_is_killed(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KILL_SLACK_S", 0.1)
    supervisor = await supervise(spec("heed()\nbeat()\nwhile True: time.sleep(60)"), spec(OBEYS, "p-1"))
    await wait_until(lambda: supervisor.ready)
    await stop(supervisor, 0)
    await supervisor.wait()
    assert not supervisor.drained


async def test_second_stop_is_passed_on_and_hurries(supervise: Supervise) -> None:
    code = "heed()\nbeat()\nwhile len(terms) < 2: beat(detail=str(len(terms))); time.sleep(0.01)"
    supervisor = await supervise(spec(code))
    await wait_until(lambda: supervisor.ready)
    first = asyncio.create_task(stop(supervisor, NEVER))
    await wait_until(lambda: supervisor.states() == [State("p-0.q", True, "1")])
    await asyncio.gather(stop(supervisor), first)
    assert supervisor.drained


async def test_stop_while_a_process_is_born_asks_it_once(supervise: Supervise) -> None:
    """Its brief is more than a pipe holds, and it does not read: the stop comes while it is being written."""
    code = "heed()\nbeat()\nwhile not terms: time.sleep(0.01)\ntime.sleep(0.2)\nsys.exit(len(terms) - 1)"
    supervisor = await supervise(spec(code, stdin=b"x" * 2**20))
    await wait_until(lambda: supervisor.started)
    await stop(supervisor)
    assert supervisor.drained


async def test_stop_before_the_first_process_is_born_leaves_none(supervise: Supervise) -> None:
    dead: list[int] = []
    supervisor = await supervise(spec(OBEYS), emit=Deaths(dead))
    await stop(supervisor)
    assert supervisor.drained
    supervisor = await supervise(spec(OBEYS), emit=Deaths(dead))
    await asyncio.sleep(0)  # it is being spawned now
    await stop(supervisor)
    assert supervisor.drained
    assert not any(psutil.pid_exists(pid) for pid in dead)


async def test_stop_is_legal_before_start_and_final() -> None:
    supervisor = Supervisor([spec(OBEYS)])
    await stop(supervisor)
    await stop(supervisor)
    with pytest.raises(RuntimeError):
        await supervisor.start()
    await supervisor.wait()
    assert supervisor.drained


# ------------------------------------------------------------------------- beats


async def test_process_that_falls_silent_is_shown(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = await supervise(spec("heed()\nbeat()\nwhile not terms: time.sleep(0.01)"))
    await wait_until(lambda: supervisor.ready)
    monkeypatch.setattr(silence, "SILENT_S", 0.05)
    await wait_until(lambda: supervisor.states()[0].detail.startswith("silent for"))
    assert not supervisor.ready
    await stop(supervisor)


async def test_process_that_never_beats_is_starting(supervise: Supervise) -> None:
    supervisor = await supervise(spec("heed()\nwhile not terms: time.sleep(0.01)"))
    await wait_until(lambda: supervisor.states() == [State("p-0", False, "starting")])
    assert not supervisor.started
    await stop(supervisor)


async def test_garbage_on_the_pipe_is_ignored_and_beats_after_it_are_heard(
    supervise: Supervise, caplog: pytest.LogCaptureFixture
) -> None:
    code = r"""
        heed()
        for junk in (b"\n", b"hello\n", b"\xff\xfe\n", b"[1]\n", b'{"started": true}\n', b"[" * 50_000 + b"\n"):
            os.write(fd, junk)
        for chunk in range(30): os.write(fd, b"x" * 10_000)
        os.write(fd, b"\n")
        while not terms: beat(); time.sleep(0.01)
    """
    supervisor = await supervise(spec(code))
    await wait_until(lambda: supervisor.ready)
    assert "process p-0 sent a beat that is too long" in caplog.text
    await stop(supervisor)


async def test_process_that_closes_its_pipe_is_not_taken_for_dead(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT_S", 0.05)
    dead: list[int] = []
    supervisor = await supervise(
        spec("heed()\nbeat()\nos.close(fd)\nwhile not terms: time.sleep(0.01)"), emit=Deaths(dead)
    )
    await wait_until(lambda: supervisor.states()[0].detail.startswith("silent for"))
    assert dead == []
    await stop(supervisor)
    assert supervisor.drained


async def test_process_sees_the_end_of_its_input_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    mark, parent = tmp_path / "orphaned", tmp_path / "parent.py"
    child = f"sys.stdin.readline()\nbeat()\nsys.stdin.read()\nopen({str(mark)!r}, 'w').write(str(os.getpid()))"
    parent.write_text(
        "import asyncio, sys\n"
        "from workers.runtime.supervision.supervisor import ChildSpec, Supervisor\n"
        f"spec = ChildSpec(name='p', argv={spec(child).argv!r}, stdin=b'brief\\n')\n"
        "async def main():\n"
        "    supervisor = Supervisor([spec])\n"
        "    await supervisor.start()\n"
        "    while not supervisor.ready: await asyncio.sleep(0.01)\n"
        "    print('ready', flush=True)\n"
        "    await supervisor.wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, str(parent), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    await wait_until(lambda: mark.exists() and mark.read_text())
    await wait_until(lambda: not psutil.pid_exists(int(mark.read_text())))


async def test_child_that_stays_silent_is_killed_and_replaced(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop that is blocked for good beats no more; nobody else would give its slots back."""
    monkeypatch.setattr(silence, "SILENT_S", 0.2)
    monkeypatch.setattr(life, "LISTEN_S", 0.05)
    dead: list[int] = []
    silent = spec("beat()\ntime.sleep(60)", silence_s=0.6)
    await supervise(silent, emit=Deaths(dead))
    await wait_until(lambda: len(dead) >= 2)
    assert "was silent for" in caplog.text


@pytest.mark.parametrize("busy_until", [0.0, float("inf")])
async def test_process_whose_job_blocks_it_before_its_first_beat_is_killed(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch, busy_until: float
) -> None:
    """The last rung of its job has passed, or no job of its runs; without a job it would be spared, as one that still
    imports what it needs.
    """
    monkeypatch.setattr(silence, "SILENT_S", 0.2)
    monkeypatch.setattr(silence, "IDLE_S", 0.3)
    monkeypatch.setattr(life, "LISTEN_S", 0.05)
    dead: list[int] = []
    blocked, imports = spec("time.sleep(60)", silence_s=NEVER), spec("time.sleep(60)", "p-1", silence_s=NEVER)
    asked: list[int] = []

    def busy(pid: int) -> float | None:
        if pid not in asked:
            asked.append(pid)
        return busy_until if pid == asked[0] else None

    supervisor = await supervise(blocked, imports, emit=Deaths(dead), busy_until=busy)
    await wait_until(lambda: len(asked) > 1 and dead)
    assert dead == asked[:1]
    await stop(supervisor)
