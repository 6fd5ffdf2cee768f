"""What a process of a supervisor has started ends with it, and nothing else does. Linux."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.hostile.rig import is_gone, own_zombies
from tests.integration.runtime.conftest import Supervise
from tests.integration.runtime.programs import OBEYS, spec
from tests.integration.runtime.test_supervisor import quick, stop
from workers.runtime.isolation import family
from workers.runtime.supervision import orphans

__all__ = ["quick"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nobody is adopted elsewhere")

#: A sleeper, one that has left the session of its parent and lost it, and one that has no environment; then `{then}`.
LEAVES = """
import subprocess
if os.path.exists({file!r}):
    heed()
    while not terms: beat(); time.sleep(0.01)
    sys.exit(0)
daemon = "import os, time\\nif os.fork() == 0:\\n  os.setsid()\\n  print(os.getpid(), flush=True)\\n  time.sleep(3600)"
started = [subprocess.Popen(["sleep", "3600"]).pid, subprocess.Popen(["sleep", "3600"], env={{}}).pid]
child = subprocess.Popen([sys.executable, "-c", daemon], stdout=subprocess.PIPE, text=True)
started.append(int(child.stdout.readline()))
child.wait()
open({file!r} + "~", "w").write(" ".join(map(str, started)))
os.rename({file!r} + "~", {file!r})
heed()
beat()
{then}
"""
WORKS = "while not terms: beat(); time.sleep(0.01)"


def leaves(file: Path, then: str) -> str:
    return LEAVES.format(file=str(file), then=then)


async def started(file: Path) -> list[int]:
    await wait_until(file.exists)
    return [int(word) for word in file.read_text().split()]  # noqa: ASYNC240 - it is short


@pytest.fixture
def own_child() -> Iterator[subprocess.Popen[bytes]]:
    """Of the program that the supervisor is a part of."""
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


async def test_what_a_killed_process_has_started_is_killed_and_nothing_else(
    supervise: Supervise, tmp_path: Path, own_child: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    kill = f"while not os.path.exists({str(tmp_path / 'die')!r}): beat(); time.sleep(0.01)\nos.kill(os.getpid(), 9)"
    supervisor = await supervise(spec(leaves(tmp_path / "dies", kill)), spec(leaves(tmp_path / "lives", WORKS), "p-1"))
    left, spared = await started(tmp_path / "dies"), await started(tmp_path / "lives")
    await wait_until(lambda: supervisor.ready)
    (tmp_path / "die").touch()
    await wait_until(lambda: all(map(is_gone, left)))
    await wait_until(lambda: supervisor.ready)
    assert not any(map(is_gone, spared)), "another process lives, and has not ended them"
    assert "that one of ours had left behind" in caplog.text
    await wait_until(lambda: not own_zombies())

    await stop(supervisor)
    assert supervisor.drained
    assert all(map(is_gone, spared))
    assert own_child.poll() is None
    assert family.adopt(False) is False, "it adopts no more"


async def test_orphan_that_ends_by_itself_is_reaped(supervise: Supervise, tmp_path: Path) -> None:
    supervisor = await supervise(spec(leaves(tmp_path / "lives", WORKS)))
    daemon = (await started(tmp_path / "lives"))[-1]
    await wait_until(lambda: daemon in family.children(os.getpid()))
    await asyncio.sleep(2 * orphans.LOOK_S)
    os.kill(daemon, signal.SIGTERM)
    await wait_until(lambda: daemon not in family.children(os.getpid()))
    await stop(supervisor)


async def test_child_that_nobody_knows_is_reaped_when_nobody_has_waited_for_it(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "UNCLAIMED_S", 0.5)
    monkeypatch.setattr(orphans, "LOOK_S", 0.1)
    supervisor = await supervise(spec(OBEYS))
    await wait_until(lambda: supervisor.ready)
    pid = os.posix_spawn("/bin/true", ["true"], {})  # noqa: ASYNC221 - it is not waited for
    await wait_until(lambda: pid in own_zombies() or pid not in family.children(os.getpid()))
    await wait_until(lambda: pid not in family.children(os.getpid()))
    await stop(supervisor)


async def test_two_supervisors_of_one_program_adopt_until_the_last_one_has_ended(supervise: Supervise) -> None:
    first, second = await supervise(spec(OBEYS)), await supervise(spec(OBEYS, "q-0"))
    await wait_until(lambda: first.ready and second.ready)
    await stop(first)
    assert family.adopt(True) is True
    await stop(second)
    assert family.adopt(False) is False
