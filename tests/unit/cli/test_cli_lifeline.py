"""A process whose supervisor is gone ends, in time or by force."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def start(code: str) -> subprocess.Popen[bytes]:
    script = """
    import asyncio, os, sys, time
    from workers.cli import lifeline
    lifeline.SLACK_S = 0.2
    line = lifeline.Lifeline.of_stdin(0.3)
    """
    program = [sys.executable, "-c", textwrap.dedent(script) + textwrap.dedent(code)]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_end_of_standard_input_is_told_and_jobs_read_nothing_there() -> None:
    code = """
    async def main():
        print(repr(sys.stdin.buffer.read()), flush=True)
        print(await line.end())
    asyncio.run(main())
    """
    with start(code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"b''\n"
        out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == (b"the supervisor is gone\n", 0)


@pytest.mark.parametrize("block", ["while True: pass", "time.sleep(600)"])
def test_loop_that_is_blocked_for_ever_ends_with_its_supervisor(block: str) -> None:
    code = f"""
    async def main():
        waiting = asyncio.create_task(line.end())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        print("blocked", flush=True)
        {block}
    asyncio.run(main())
    """
    with start(code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"blocked\n"
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"it is killed" in err
