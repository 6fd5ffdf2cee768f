"""Serves the hostile queues of a run: the acts of tests/hostile, and some that end by themselves or use up what their
process may have.
"""

from __future__ import annotations

import os
import re
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.hostile.acts import Here, act
from tests.hostile.module import MODULE
from workers.contract import JobContext

__all__ = ["MODULE"]

#: A regular expression on so many letters holds the GIL for a good part of a second: each more doubles the time.
LETTERS = 23
#: The descriptors that a process may have while they are used up: few, since a system may allow a million.
DESCRIPTORS = 512
#: The size that a file may have while the disk is full, bytes.
DISK = 4096
#: Bytes of one bite of memory.
BITE = 16 * 2**20


@contextmanager
def _limit(kind: int, most: int) -> Iterator[None]:
    """A lower soft limit for a while; what other acts in the same process do to it is undone, so one at a time."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@act
async def computes(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Keeps its thread busy in Python code, for `seconds`."""
    end = time.monotonic() + args["seconds"]
    while time.monotonic() < end:
        sum(range(1000))
    return "computed"


@act
async def hogs_gil(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Regular expressions that don't let go of the interpreter, one after the other for `seconds` at least."""
    end = time.monotonic() + args["seconds"]
    while time.monotonic() < end:
        re.match(r"(a+)+$", "a" * LETTERS + "!")
    return "matched nothing"


@act
async def waits_a_while(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Does no harm, for `seconds`."""
    await here.pause(args["seconds"])
    return "waited"


@act
async def bombs_memory(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Takes memory and writes to it, until there is no more."""
    eaten = []
    while True:
        eaten.append(b"x" * BITE)


@act
async def exhausts_descriptors(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Opens files until its process may open no more, keeps them for `seconds`, and fails with the system's error."""
    opened: list[int] = []
    with _limit(resource.RLIMIT_NOFILE, DESCRIPTORS):
        try:
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            await here.pause(args["seconds"])
            raise
        finally:
            for fd in opened:
                os.close(fd)


@act
async def fills_disk(args: Mapping[str, Any], ctx: JobContext, here: Here) -> Any:
    """Writes until no file of its process may grow, keeps it so for `seconds`, and fails with the system's error."""
    with tempfile.TemporaryFile(buffering=0) as file, _limit(resource.RLIMIT_FSIZE, DISK):
        try:
            while True:
                file.write(b"x" * DISK)
        except OSError:
            await here.pause(args["seconds"])
            raise
