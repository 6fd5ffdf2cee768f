"""The event loop that a process of a pool runs: asyncio's own, or uvloop where it is installed and asked for.

uvloop saves a few per cent of the worker's time (tests/benchmarks/results/loops.md), and is compiled code that
not every platform has: an extra, and not the default.
"""

from __future__ import annotations

import asyncio
import pkgutil
from importlib.util import find_spec
from typing import Literal, TypeAlias

LoopName: TypeAlias = Literal["asyncio", "uvloop"]


class NoSuchLoopError(Exception):
    """The event loop is not installed; the message says what to install."""


def missing(name: LoopName) -> str | None:
    """What to do before this loop can be used; None: it can."""
    if name == "asyncio" or find_spec(name) is not None:
        return None
    return f"{name} is not installed: pip install 'fleet-workers[{name}]', or set it to asyncio"


def use(name: LoopName) -> None:
    """Make the loops of this process of this kind, from now on.

    Raises:
        NoSuchLoopError: it is not installed, or can't be loaded here.
    """
    if name == "asyncio":
        return
    if problem := missing(name):
        raise NoSuchLoopError(problem)
    try:
        policy: asyncio.AbstractEventLoopPolicy = pkgutil.resolve_name(f"{name}:EventLoopPolicy")()
    except Exception as error:  # compiled for another machine, say
        raise NoSuchLoopError(f"{name} can't be loaded: {type(error).__name__}: {error}") from error
    asyncio.set_event_loop_policy(policy)
