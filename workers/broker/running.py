"""Which job the code that runs now belongs to, readable from another thread.

A context variable, so that the tasks, callbacks and threads that a job's code makes are known as its own. Whoever
looks from outside finds it in the context of a task or handle (`of`); a thread that does a job's work says so
(`in_thread`), because the context that a thread is in can't be seen from outside.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass

from opentelemetry.trace import Span


@dataclass(slots=True, eq=False)
class Running:
    """One job that runs in this process."""

    queue: str
    task_type: str
    """As in JobEvent: bounded, safe as a metric label."""
    job_id: str
    span: Span
    """Its consumer span."""


_running: ContextVar[Running | None] = ContextVar("fleet_running_job", default=None)
_threads: dict[int, Running] = {}


def begin(running: Running) -> None:
    """The present task works for this job from now on, and so does what it makes."""
    _running.set(running)


def end() -> None:
    """The present task works for no job any more."""
    _running.set(None)


def current() -> Running | None:
    """The job that the calling code works for."""
    return _running.get()


def of(context: Context) -> Running | None:
    """The job that code in this context works for. Legal from any thread."""
    return context.get(_running)


@contextmanager
def in_thread() -> Iterator[None]:
    """Around work in a thread whose context is a copy of the job's: `threads` knows it meanwhile."""
    running, ident = _running.get(), threading.get_ident()
    if running is None:
        yield
        return
    _threads[ident] = running
    try:
        yield
    finally:
        _threads.pop(ident, None)


def threads() -> Mapping[int, Running]:
    """The jobs that threads work for now, by the thread's identifier."""
    return dict(_threads)
