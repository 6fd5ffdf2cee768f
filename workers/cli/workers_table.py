"""The tables of `fleet workers`. What jobs are called is shown with control characters as escapes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from config.quantities import format_duration
from workers.runtime.supervision.recycle import megabytes
from workers.runtime.supervision.view import FleetView, ProcessState, ProcessView
from workers.runtime.supervision.vitals import LEFT_BEHIND, left_behind
from workers.telemetry.logs import visible

_STYLES: dict[ProcessState, str] = {
    "ready": "green",
    "recycling": "green",
    "draining": "yellow",
    "starting": "yellow",
    "not ready": "red",
    "silent": "red",
    "dead": "red",
}
_COLUMNS = ("process", "pid", "state", "up", "memory", "lag", "done", "runs", "deaths", "recycled")


def render(view: FleetView) -> RenderableType:
    """Everything."""
    parts: list[RenderableType] = [_head(view), _processes(view)]
    parts += [notes for notes in (_notes(view), _jobs(view)) if notes is not None]
    if view.reload is not None:
        ago = duration(max(0.0, time.time() - view.reload.at))
        detail = f": {view.reload.detail}" if view.reload.detail else ""
        parts.append(Text(visible(f"configuration {view.reload.result} {ago} ago{detail}")))
    return Group(parts[0], *(one for part in parts[1:] for one in (Text(), part)))


def _head(view: FleetView) -> Table:
    pools = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("pool", "ready", "queues"):
        pools.add_column(column, overflow="fold")
    for pool in view.pools:
        style = "green" if pool.ready >= pool.processes else "red"
        pools.add_row(
            _text(pool.name), Text(f"{pool.ready} of {pool.processes}", style=style), _text(", ".join(pool.queues))
        )
    return pools


def _processes(view: FleetView) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("process", "state") else "right", no_wrap=True)
    for process in view.processes:
        report = process.report
        memory = megabytes(report.rss) if report.rss else ""
        if report.children:
            memory += f" + {megabytes(report.children_rss)} in {report.children}"
        table.add_row(
            _text(process.name),
            _number(report.pid),
            Text(process.state, style=_STYLES[process.state]),
            duration(report.uptime_s) if report.pid else "",
            memory,
            f"{report.lag_s * 1000:.0f} ms" if report.pid else "",
            str(report.jobs) if report.pid else "",
            str(report.active) if report.pid else "",
            _number(process.deaths),
            _number(process.recycles),
        )
    return table


def _notes(view: FleetView) -> RenderableType | None:
    lines = [_text(f"{process.name}: {note}") for process in view.processes for note in _said(process)]
    return Group(*lines) if lines else None


def _said(process: ProcessView) -> Iterator[str]:
    if process.detail:
        yield process.detail
    if process.last_death and process.state != "dead":
        yield f"died last of {process.last_death}"
    if process.last_recycle:
        yield f"replaced last: {process.last_recycle}"
    if left := left_behind(process.report):
        yield f"left behind: {left} {'run' if left == 1 else 'runs'} go on although the jobs are over"
    if extra := {name: value for name, value in process.report.extra.items() if value and name != LEFT_BEHIND}:
        yield ", ".join(f"{name} {_short(value)}" for name, value in extra.items())


def _jobs(view: FleetView) -> Table | None:
    running = [(process, job) for process in view.processes for job in process.report.running]
    if not running:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("running in", "queue", "type", "job", "for"):
        table.add_column(column, justify="right" if column == "for" else "left", overflow="fold")
    for process, job in running:
        names = (process.name, job.queue, job.task_type, job.job_id)
        table.add_row(*(_text(name) for name in names), duration(job.seconds))
    unnamed = sum(process.report.active - len(process.report.running) for process in view.processes)
    if unnamed > 0:
        table.add_row(Text(f"and {unnamed} more", style="dim"))
    return table


def duration(seconds: float) -> str:
    """For people, whole: `850ms`, `42s`, `3h12m`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    for unit, lower in ((3600, 60), (60, 1)):
        if seconds >= unit:
            seconds -= seconds % lower
            break
    return format_duration(int(seconds))


def _text(text: str) -> Text:
    """As it is, and no markup."""
    return Text(visible(text))


def _number(number: int) -> str:
    return str(number) if number else ""


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
