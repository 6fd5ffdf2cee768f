"""The table of queues, and what about them wants a look. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from workers.cli.output import cell
from workers.cli.workers_table import duration

_COUNTS = ("waiting", "prioritized", "delayed", "active", "waiting-children", "completed", "failed")
_HEADS = ("queue", *(_COUNTS[:-3]), "children", *(_COUNTS[-2:]), "oldest", "workers", "state")
_LEFT = ("queue", "workers", "state")


def table(queues: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each queue. Waiting are also those that BullMQ before 6 keeps apart while a queue is paused."""
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in _HEADS:
        found.add_column(head, justify="left" if head in _LEFT else "right", overflow="fold")
    for queue in queues:
        waiting = {**queue, "waiting": queue["waiting"] + queue["paused"]}
        counts = [_count(name, waiting[name]) for name in _COUNTS]
        if queue["due"]:
            counts[2].append(f" ({queue['due']:,} due)", style="yellow")
        oldest = queue["oldestWaitingSeconds"]
        age = "" if oldest is None else duration(oldest)
        found.add_row(cell(queue["queueName"]), *counts, age, cell(workers(queue)), _state(queue))
    return found


def workers(queue: Mapping[str, Any]) -> str:
    """How many there are of each side: `fleet 2, node 1`."""
    if queue["workers"] is None:
        return "?"
    sides = Counter(worker["side"] for worker in queue["workers"])
    return ", ".join(f"{side} {count}" for side, count in sorted(sides.items())) or "none"


def worries(queue: Mapping[str, Any]) -> list[str]:
    """What about a queue wants a look. Failed jobs alone do not."""
    found = []
    name = queue["queueName"]
    if queue["isPaused"]:
        found.append(f"paused for everyone, Node's workers too; go on with: fleet queues resume {name}")
    if queue["backlog"] and queue["workers"] is not None and not queue["workers"]:
        found.append(f"{_jobs(queue['backlog'])} could start, and nobody works on it")
    return found + [f"can't be read: {problem}" for problem in queue["problems"]]


def notes(queue: Mapping[str, Any]) -> list[str]:
    """What is good to know beside."""
    found = []
    if queue["competitors"]:
        found.append(f"workers that are none of ours take its jobs, too: {workers(queue)}")
    if queue["rateLimitedSeconds"] > 0:
        found.append(f"its rate limit lets no job start for {duration(queue['rateLimitedSeconds'])}")
    return found


def _count(name: str, number: int) -> Text:
    style = "red" if name == "failed" and number else "dim" if not number else ""
    return Text(f"{number:,}", style=style)


def _state(queue: Mapping[str, Any]) -> Text:
    if queue["isPaused"]:
        return Text("paused", style="red")
    if queue["rateLimitedSeconds"] > 0:
        return Text("rate-limited", style="yellow")
    return Text("open" if queue["configured"] else "not configured", style="green" if queue["configured"] else "dim")


def _jobs(number: int) -> str:
    return f"{number:,} {'job' if number == 1 else 'jobs'}"
