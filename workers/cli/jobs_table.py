"""Jobs as they are shown: a table of many, and one with all that is known of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workers.cli.output import cell
from workers.cli.workers_table import duration
from workers.telemetry.logs import visible

_STYLES = {"failed": "red", "completed": "green", "active": "cyan", "delayed": "yellow", "unknown": "red"}
#: Characters of a remark in the table.
MAX_REMARK = 120


def table(jobs: Sequence[Mapping[str, Any]], now_ms: float) -> Table:
    """One line for each job."""
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in ("queue", "job", "name", "state", "since", "tries", ""):
        found.add_column(head, justify="right" if head in ("since", "tries") else "left", overflow="fold")
    for job in jobs:
        state = job["state"]
        found.add_row(
            cell(job["queueName"]),
            cell(job["id"]),
            cell(job["name"]),
            cell(state, _STYLES.get(state, "")),
            _age(since_ms(job), now_ms),
            f"{job['attemptsMade']}/{job['attempts']}",
            cell(remark(job, now_ms)),
        )
    return found


def since_ms(job: Mapping[str, Any]) -> int | None:
    """When it came to be as it is: finished, else started, else added."""
    key = {"completed": "finishedOn", "failed": "finishedOn", "active": "processedOn"}.get(job["state"], "timestamp")
    found: int | None = job[key] or job["timestamp"]
    return found


def remark(job: Mapping[str, Any], now_ms: float) -> str:
    """What matters most about it, short."""
    if job["state"] == "failed":
        said = str(job["failedReason"] or "").strip().partition("\n")[0]
    elif job["state"] == "delayed" and job["dueOn"]:
        left = job["dueOn"] - now_ms
        said = f"due in {duration(left / 1000)}" if left > 0 else "due"
    elif job["state"] == "active" and job["processedBy"]:
        said = f"on {job['processedBy']}"
    else:
        said = "; ".join(job["problems"])
    return said if len(said) <= MAX_REMARK else f"{said[: MAX_REMARK - 1]}…"


def details(task: Mapping[str, Any]) -> RenderableType:
    """All that is known of a task and its job."""
    job = task["job"]
    facts = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(task, job):
        if value not in (None, "", 0):
            facts.add_row(name, cell(value))
    parts: list[RenderableType] = [facts]
    for name in ("data", "opts", "progress", "returnvalue"):
        if job[name] not in (None, 0, {}):
            parts += [Text(), Text(name, style="bold"), block(pretty(job[name]))]
    for stack in job["stacktrace"][-1:]:
        parts += [Text(), Text("stack of the last failure", style="bold"), block(str(stack))]
    return Group(*parts)


def _facts(task: Mapping[str, Any], job: Mapping[str, Any]) -> list[tuple[str, Any]]:
    children = [f"{kind} {each['total']:,}" for kind, each in task["children"].items() if each["total"]]
    parent = job["parent"]
    others = [f"{other['jobId']} in {other['queueName']} ({other['state']})" for other in task["others"]]
    return [
        ("task", task["id"]),
        ("job", f"{job['id']} in {job['queueName']}"),
        ("name", job["name"]),
        ("status", f"{task['status'] or '?'} (BullMQ: {job['state']})"),
        ("attempts", f"{job['attemptsMade']} of {job['attempts']}, {job['attemptsStarted']} started"),
        ("lost workers", job["stalledCounter"]),
        ("priority", job["priority"]),
        ("added", clock(job["timestamp"])),
        ("due", clock(job["dueOn"]) if job["state"] == "delayed" else ""),
        ("started", clock(job["processedOn"])),
        ("finished", clock(job["finishedOn"])),
        ("worker", job["processedBy"]),
        ("failed because", job["failedReason"]),
        ("will fail because", job["deferredFailure"]),
        ("log", f"{task['logs']:,} lines: fleet jobs logs" if task["logs"] else ""),
        ("parent", f"{parent['id']} in {parent['queueName'] or parent['key']}" if parent else ""),
        ("children", ", ".join(children)),
        ("deduplication", job["deduplicationId"]),
        ("schedule", job["repeatJobKey"]),
        ("trace", job["traceId"]),
        ("cut", ", ".join(f"{name} of {size:,} bytes" for name, size in job["truncated"].items())),
        ("can't be read", "; ".join(job["problems"])),
        ("the id means, too", ", ".join(others)),
    ]


def pretty(value: Any) -> str:
    """A value for people: JSON, or the text that it is."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def block(text: str) -> Text:
    """A text of several lines, each of them harmless."""
    return Text("\n".join(visible(line.rstrip("\r")) for line in text.split("\n")))


def clock(at_ms: float | None) -> str:
    """A time of this machine's zone; of what no calendar has, the number."""
    if at_ms is None:
        return ""
    try:
        return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{at_ms} ms"


def event_line(event: Mapping[str, Any]) -> str:
    """An event on one line."""
    own = ("queueName", "event", "id", "jobId", "timestamp")
    said = {key: value for key, value in event.items() if key not in own and value not in (None, "")}
    words = [clock(event["timestamp"]), event["queueName"], event["event"], event["jobId"] or ""]
    rest = " ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in said.items())
    return "  ".join(word for word in (*words, rest) if word)


def _age(at_ms: int | None, now_ms: float) -> str:
    return "" if at_ms is None else duration(max(0.0, now_ms - at_ms) / 1000)
