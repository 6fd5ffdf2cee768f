"""The process ends with its exit code, whatever a processor leaves behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from workers.cli.last_exit import run_to_exit

PRELUDE = """
import asyncio, threading, time
from workers.cli import last_exit
last_exit.LEFT_BEHIND_S = 0.05

async def deaf():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""


def ends(code: str) -> subprocess.CompletedProcess[str]:
    program = PRELUDE + textwrap.dedent(code) + "\nraise SystemExit(last_exit.run_to_exit(main()))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)


def test_code_is_returned_and_nobody_is_killed_where_nothing_is_left() -> None:
    async def main() -> int:
        return 3

    assert run_to_exit(main()) == 3


def test_error_is_raised_where_nothing_is_left() -> None:
    async def main() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_to_exit(main())


@pytest.mark.parametrize("code", [0, 78])
def test_task_that_ignores_its_cancellation_does_not_keep_the_process(code: int) -> None:
    ended = ends(f"""
        async def main():
            left = asyncio.create_task(deaf())
            await asyncio.sleep(0)
            print("drained")
            return {code}
    """)
    assert (ended.returncode, ended.stdout) == (code, "drained\n")
    assert "still runs although it was cancelled" in ended.stderr


def test_thread_that_never_ends_does_not_keep_the_process() -> None:
    ended = ends("""
        async def main():
            left = asyncio.create_task(asyncio.to_thread(threading.Event().wait))
            await asyncio.sleep(0.05)
            return 0
    """)
    assert ended.returncode == 0
    assert "still runs although it was cancelled" in ended.stderr


def test_failure_with_something_left_behind_is_a_failure() -> None:
    ended = ends("""
        async def main():
            left = asyncio.create_task(deaf())
            await asyncio.sleep(0)
            raise ValueError
    """)
    assert ended.returncode == 1
