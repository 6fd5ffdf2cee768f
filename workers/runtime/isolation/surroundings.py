"""What a child arranges around itself before its module is opened: it dies with its host, and its limits hold."""

from __future__ import annotations

import ctypes
import faulthandler
import io
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from workers.runtime.isolation import family, forks
from workers.runtime.isolation.brief import Brief
from workers.runtime.isolation.records import RecordSender, log_uncaught

#: prctl(2).
_PR_SET_PDEATHSIG = 1


class OrphanedError(Exception):
    """The host is gone."""


def arrange(brief: Brief, send: Callable[[Mapping[str, Any]], None]) -> RecordSender:
    """Set all of it; returns the handler of log records.

    Raises:
        OrphanedError: the host has died meanwhile.
    """
    _tie_to(brief.host_pid)
    faulthandler.enable()  # the frames of a crash in C go to standard error, and so to the host's log
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # said before a crash is said in time
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.path[:] = brief.path
    handler = _log_to(send, brief.log_level)
    log_uncaught()
    forks.install()
    if brief.memory_limit is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = brief.memory_limit if hard == resource.RLIM_INFINITY else min(brief.memory_limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    return handler


def _tie_to(host: int) -> None:
    """SIGKILL when the host dies, whatever runs here; and orphans of ours stay ours, so that they can be found."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        family.adopt(True)
    if os.getppid() != host:
        raise OrphanedError


def _log_to(send: Callable[[Mapping[str, Any]], None], level: str) -> RecordSender:
    handler = RecordSender(send)
    root = logging.getLogger()
    root.addHandler(handler)
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number)
    logging.getLogger("asyncio").setLevel(max(number, logging.INFO))
    logging.captureWarnings(True)
    return handler


def log_structured() -> None:
    """A module that logs by structlog logs through the standard library, as in its host; nothing where none does."""
    structlog = sys.modules.get("structlog")
    if structlog is None:
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class Standard:
    """The standard streams as the jobs of this process find them."""

    def __init__(self) -> None:
        self._files = [_file(fd) for fd in range(3)]
        self._cwd = _cwd()

    def intact(self) -> bool:
        """Whether the next job finds them, and the working directory, as the one before did."""
        streams = (sys.stdin, sys.stdout, sys.stderr)
        if any(getattr(stream, "closed", True) for stream in streams):
            return False
        return _cwd() == self._cwd and [_file(fd) for fd in range(3)] == self._files


def _file(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed
        return ""


def flush() -> None:
    """What the job has written goes out with it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # closed by the job
