"""How many jobs' data a core decodes in a second, beside json.loads + pydantic; and what becomes of each job that
Node's producers add. `make bench tasks` takes about a minute and writes results/tasks.md; with ROUNDS=2 it is shorter
and only prints. It fails where decode is slower than asked for, or a producer's job is not what Node makes of it.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pydantic
from pydantic import TypeAdapter

from tasks import TASKS, AnyTask
from tasks.codec import decode, encode
from tasks.ids import job_id_for
from tasks.priority import calculate_priority
from tests.unit.tasks.producers import PRODUCERS
from tests.unit.tasks.wire_data import EXAMPLES, same
from workers.broker.activation import Bounds, parse

RESULTS = Path(__file__).parent / "results" / "tasks.md"
#: Jobs a second on one core that are asked for: of the largest example, and of each mail.
LARGEST, MAIL = 30_000, 100_000
DECODE, PYDANTIC = "json.loads + decode", "json.loads + pydantic, the type known"
#: What else Redis has of a job that was just started.
ROW = {
    "name": "job",
    "opts": '{"attempts":3,"backoff":{"type":"exponential","delay":2000},"removeOnComplete":true}',
    "timestamp": "1700000000000",
    "processedOn": "1700000003500",
    "delay": "0",
    "priority": "0",
    "ats": "1",
}
#: CPU seconds that a contestant gets in a round, about.
SLICE_S = 0.02

Contest: TypeAlias = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Rate:
    """Jobs a second of CPU time, by contestant: the median of the rounds."""

    label: str
    chars: int
    target: int | None
    medians: dict[str, float]

    @property
    def row(self) -> str:
        """Its line in the table."""
        cells = [f"{each:,.0f}" for each in self.medians.values()]
        cells.append(f"{self.medians[DECODE] / self.medians[PYDANTIC]:.0%}")
        told = "" if self.target is None else f"{self.target:,}: {'met' if self.is_met else '**missed**'}"
        return f"| {self.label} | {self.chars:,} | {' | '.join(cells)} | {told} |"

    @property
    def is_met(self) -> bool:
        """Whether decode is as fast as it has to be."""
        return self.target is None or self.medians["decode"] >= self.target

    @property
    def shortfall(self) -> str:
        """What is said of it where it is not."""
        return f"{self.label}: {self.medians['decode']:,.0f} jobs a second decoded, {self.target:,} are asked for"


def contest(data: dict[str, Any]) -> Contest:
    """What is measured with one job's data."""
    text, plain = json.dumps(data), TypeAdapter(TASKS[data["type"]])
    any_task: TypeAdapter[Any] = TypeAdapter(AnyTask)
    row, bounds = [part for pair in {**ROW, "data": text}.items() for part in pair], Bounds(4 * 2**20, 100)
    return {
        "decode": lambda: decode(data),
        "row + decode": lambda: decode(parse("q", "1", row, "t", bounds).data),
        DECODE: lambda: decode(json.loads(text)),
        PYDANTIC: lambda: plain.validate_python(json.loads(text)),
        "json.loads + pydantic, AnyTask": lambda: any_task.validate_python(json.loads(text)),
        "decode + encode": lambda: encode(decode(data)),
    }


def measured(label: str, data: dict[str, Any], target: int | None, rounds: int) -> Rate:
    """All contestants in turn, round by round: what else the machine does hits them alike."""
    contestants = contest(data)
    counts = {name: max(1, int(SLICE_S / _cpu_s(call, 50))) for name, call in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            rates[name].append(1 / _cpu_s(call, counts[name]))
    return Rate(label, len(json.dumps(data)), target, {name: statistics.median(each) for name, each in rates.items()})


def _cpu_s(call: Callable[[], Any], count: int) -> float:
    """CPU seconds of a call: another process on the core is not counted."""
    gc.collect()
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def rates(rounds: int) -> Iterator[Rate]:
    """Each example, and whether it is as fast as it has to be."""
    largest = max(EXAMPLES, key=lambda job: len(json.dumps(job["data"])))
    for number, job in enumerate(EXAMPLES):
        kind = job["data"]["type"]
        target = LARGEST if job is largest else MAIL if kind == "email-send" else None
        shape = TASKS[kind].shape_of(job["data"])
        yield measured(f"{number} {kind}{'' if shape is TASKS[kind] else ', flat'}", job["data"], target, rounds)


# ---------------------------------------------------------------- the producers


def outcome(label: str, data: dict[str, Any], priority: int, job_id: str | None) -> tuple[str, bool]:
    """A line of the table: what is understood, what comes back, and Node's priority and id beside ours."""
    before = copy.deepcopy(data)
    task = decode(data)
    back = same(encode(task), before)
    ours = calculate_priority(task, rule="node")
    named = "by BullMQ" if job_id is None else "as Node" if job_id_for(task) == job_id else f"`{job_id_for(task)}`"
    cells = [label, type(task).__name__, _yes(back), f"{ours} / {priority}", _yes(ours == priority), named]
    fine = back and ours == priority and named in ("by BullMQ", "as Node")
    return f"| {' | '.join(cells)} |", fine


def _yes(fine: bool) -> str:
    return "yes" if fine else "**no**"


def table() -> tuple[list[str], bool]:
    """All producers, then all examples."""
    rows = [outcome(each.name, each.data, each.priority, each.job_id) for each in PRODUCERS]
    for number, job in enumerate(EXAMPLES):
        opts, name = job["opts"], f"example {number}: {job['queue']}"
        rows.append(outcome(name, job["data"], opts.get("priority", 0), opts.get("jobId")))
    return [line for line, _ in rows], all(fine for _, fine in rows)


# ---------------------------------------------------------------------- the page


def page(found: list[Rate], lines: list[str], rounds: int) -> str:
    """All numbers, as a Markdown page."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    names = list(found[0].medians)
    return "\n".join(
        [
            "# Tasks: decoding, and what Node's producers write",
            "",
            f"`make bench tasks`. pydantic {pydantic.VERSION} on {platform.python_implementation()} "
            f"{platform.python_version()}; {os.cpu_count()} cores, load averages {load}.",
            "",
            "## Jobs a second on one core",
            "",
            f"Of CPU time, in turn, the medians of {rounds} rounds. `decode` takes parsed data, as the broker has "
            "them, and measures their depth first; pydantic does not. `row + decode` is a worker's way from the row as "
            "Redis gives it, its data bounded and their JSON read as strictly as Node's. The share is that of "
            f"`{DECODE}` in the speed of `{PYDANTIC}`, which another machine or a loaded one changes least.",
            "",
            f"| example | characters | {' | '.join(names)} | share | asked of decode |",
            f"| --- | --- |{' --- |' * len(names)} --- | --- |",
            *(each.row for each in found),
            "",
            "## Node's producers",
            "",
            "Each producer of the Node stack, and each example: the model that its data become, whether `encode` gives "
            "back what it wrote, our priority by the rule `node` beside the one that Node sets (0: none), and the id.",
            "",
            "| producer | decoded | round-tripped | priority, ours / Node's | as Node would | job id |",
            "| --- | --- | --- | --- | --- | --- |",
            *lines,
            "",
        ]
    )


def main() -> int:
    """Print the page, and write it if it is a full run. 1: decode missed a target, or a producer's job is not what Node
    makes of it; the page says which, and standard error does.
    """
    asked = os.environ.get("ROUNDS")
    if asked is not None and not (asked.isdecimal() and int(asked) > 0):
        raise SystemExit(f"ROUNDS={asked}: a whole number above 0 is needed")
    rounds = int(asked or 15)
    found = list(rates(rounds))
    lines, fine = table()
    text = page(found, lines, rounds)
    if asked is None:
        RESULTS.write_text(text)
    sys.stdout.write(text)
    complaints = [each.shortfall for each in found if not each.is_met]
    complaints += [] if fine else ["a producer's job is not what Node makes of it"]
    sys.stderr.write("".join(f"missed: {each}\n" for each in complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
