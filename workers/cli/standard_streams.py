"""The standard streams of a process whose jobs run beside each other: a job that closes them, or points them elsewhere,
changes nothing for the others.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
from contextlib import suppress
from typing import TextIO, cast

log = logging.getLogger(__name__)

#: Copies get numbers from here on, out of the way of code that closes the first few.
HIGH = 200
#: How often it is looked whether all is as it was, seconds.
LOOK_S = 1.0
NAMES = ("stdin", "stdout", "stderr")


def high_copy(fd: int) -> int:
    """Another descriptor of the same file, with a high number; closed on exec."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)


class StandardStreams:
    """Puts back what jobs close or replace, once a second, until closed. Belongs to the running loop.

    A closed descriptor is opened anew; one that is another file by now, say a neighbour's connection, is left to it,
    and Python's stream of that number goes to the copy.
    """

    def __init__(self) -> None:
        self._copies = [high_copy(fd) for fd in range(3)]
        self._files = [_file(fd) for fd in range(3)]
        self._directory = os.getcwd()
        self._told = False
        self._look = asyncio.get_running_loop().call_later(LOOK_S, self._restore)

    def close(self) -> None:
        """Look no more. The copies stay: Python's streams may be theirs."""
        self._look.cancel()

    def restore(self) -> list[str]:
        """Put back what is not as it was; returns the names of that."""
        found = [name for fd, name in enumerate(NAMES) if self._mended(fd, name)]
        if _directory() != self._directory:
            found.append("working directory")
            with suppress(OSError):
                os.chdir(self._directory)
        return found

    def _mended(self, fd: int, name: str) -> bool:
        """Mend one; whether it had to be."""
        intact = _file(fd) == self._files[fd]
        if intact and not getattr(getattr(sys, name), "closed", True):
            return False
        if _file(fd) is None:
            # The lowest free number from `fd` on: it is `fd`, unless another thread has just been given that.
            copy = fcntl.fcntl(self._copies[fd], fcntl.F_DUPFD, fd)
            if copy != fd:
                os.close(copy)
        self._files[fd] = _file(fd)  # a neighbour's from now on, or what it was
        own = self._files[fd] == _file(self._copies[fd])
        setattr(sys, name, _stream(fd if own else self._copies[fd], "r" if fd == 0 else "w"))
        return True

    def _restore(self) -> None:
        try:
            found = self.restore()
        except OSError as error:
            found = [f"what it was can't be put back: {error}"]
        if found and not self._told:
            log.error("a job has changed %s of its process, which is put back", ", ".join(found))
        self._told = bool(found)
        self._look = asyncio.get_running_loop().call_later(LOOK_S, self._restore)


def _stream(fd: int, mode: str) -> TextIO:
    return cast(TextIO, open(fd, mode, encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False))


def _file(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed
        return ""
