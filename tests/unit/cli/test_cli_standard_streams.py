"""What a job does to the standard streams of its process is undone; tried in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROLOGUE = """
import asyncio, os, signal, sys, tempfile
from workers.cli.standard_streams import StandardStreams, high_copy
said = high_copy(1)
def say(*words): os.write(said, (" ".join(map(str, words)) + "\\n").encode())
"""

BREAKS = {
    "descriptors closed": ("for fd in range(3): os.close(fd)", ["stdin", "stdout", "stderr"]),
    "streams closed": ("sys.stdin.close(); sys.stdout.close(); sys.stderr.close()", ["stdin", "stdout", "stderr"]),
    "streams taken away": ("sys.stdout = sys.stderr = None", ["stdout", "stderr"]),
    "output elsewhere": ("os.dup2(os.open(os.devnull, os.O_WRONLY), 1)", ["stdout"]),
    "elsewhere": ("os.chdir(tempfile.gettempdir())", ["working directory"]),
    "in a directory that is gone": ("d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)", ["working directory"]),
    "nothing": ("pass", []),
}  # fmt: skip


def run(code: str) -> list[str]:
    """The lines that the code says, and standard output's after them."""
    script = PROLOGUE + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], input=b"", capture_output=True, timeout=30, check=True)
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(("breaks", "names"), BREAKS.values(), ids=BREAKS)
def test_what_a_job_breaks_is_put_back(breaks: str, names: list[str]) -> None:
    code = f"""
    async def main():
        streams = StandardStreams()
        here = os.getcwd()
        {breaks}
        say(streams.restore(), streams.restore(), os.getcwd() == here)
        print("printed", flush=True)
        print("told", file=sys.stderr, flush=True)
        say(repr(sys.stdin.read()))
        streams.close()
    asyncio.run(main())
    """
    lines = run(code)
    assert f"{names} [] True" in lines
    assert "printed" in lines
    assert "''" in lines


def test_number_that_a_neighbour_has_got_meanwhile_is_left_to_it() -> None:
    code = """
    async def main():
        streams = StandardStreams()
        os.close(1)
        theirs, other = os.pipe()
        say(theirs)
        say(streams.restore())
        print("printed", flush=True)
        os.write(other, b"for the neighbour")
        say(os.read(theirs, 100))
        streams.close()
    asyncio.run(main())
    """
    assert run(code) == ["1", "['stdout']", "printed", "b'for the neighbour'"]
