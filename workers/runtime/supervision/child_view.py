"""What one place in a pool shows of its processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workers.runtime.supervision.beat import NO_REPORT
from workers.runtime.supervision.life import Life
from workers.runtime.supervision.spec import ChildSpec
from workers.runtime.supervision.view import ProcessState, ProcessView


@dataclass(slots=True)
class History:
    """What became of the processes of one place so far."""

    deaths: int = 0
    """Those that were asked to end left out."""
    last_death: str = ""
    recycles: int = 0
    last_recycle: str = ""


def views(
    spec: ChildSpec, history: History, lives: Iterable[Life], current: Life | None, absence: str, *, replacing: bool
) -> list[ProcessView]:
    """Each process, those that start or end included; and where none works, a dead one for it. No I/O.

    Args:
        current: the process that works.
        absence: why there is none.
        replacing: a successor of it starts.
    """
    shown = [
        _view(spec, history, *state_of(life, recycling=replacing and life is current), life)
        for life in lives
        if life.pid
    ]
    return shown if current is not None and shown else [_view(spec, history, "dead", absence), *shown]


def state_of(life: Life, *, recycling: bool) -> tuple[ProcessState, str]:
    """The state of one process, and why."""
    if life.silent_s:
        return "silent", f"silent for {life.silent_s:.0f} s"
    if life.asked:
        return "draining", ""
    if life.beat is None or not life.started.is_set():
        return "starting", _wrong(life)
    if not life.beat.ready:
        return "not ready", _wrong(life)
    return ("recycling", "its successor starts") if recycling else ("ready", "")


def _wrong(life: Life) -> str:
    return "; ".join(f"{state.name}: {state.detail}" for state in life.states() if not state.ok)


def _view(spec: ChildSpec, history: History, state: ProcessState, detail: str, life: Life | None = None) -> ProcessView:
    return ProcessView(
        name=spec.name,
        pool=spec.pool,
        state=state,
        detail=detail,
        report=life.report if life is not None else NO_REPORT,
        deaths=history.deaths,
        last_death=history.last_death,
        recycles=history.recycles,
        last_recycle=history.last_recycle,
    )
