"""The memory of a process, where there is such a process."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from workers.runtime.rss import resident

SIZE = 64 * 1024 * 1024


def test_memory_that_is_kept_is_seen() -> None:
    before = resident()
    kept = bytearray(b"x") * SIZE
    after = resident()
    assert before is not None
    assert after is not None
    assert after - before > SIZE * 0.9
    assert len(kept) == SIZE


def test_another_process_can_be_asked_for_until_it_is_gone() -> None:
    program = [sys.executable, "-c", "print('here', flush=True); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"  # before it, it may be no Python yet
        assert (resident(child.pid) or 0) > 1024 * 1024
        child.communicate(b"\n")
    assert resident(child.pid) is None


def test_system_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: psutil.Process) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "memory_info", denied)
    assert resident() is None
