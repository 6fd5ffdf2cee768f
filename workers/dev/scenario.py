"""Which jobs `make run` adds: the example jobs, then the trickle of scenario.json, round and round.

producer_node/producer.mjs does the same in JavaScript; a test holds the two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLACEHOLDER = re.compile(r"\{(n|run)\}")


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be added, as the Node stack would."""

    queue: str
    name: str
    data: dict[str, Any]
    opts: dict[str, Any]


def example_jobs(queues: Collection[str], run: str) -> Iterator[NewJob]:
    """The example jobs of these queues, their ids made unique by `run`: equal ids would be dropped as repeats."""
    for job in json.loads((HERE / "example_jobs.json").read_text("utf-8")):
        if job["queue"] not in queues:
            continue
        opts = dict(job["opts"])
        if "jobId" in opts:
            opts["jobId"] = unique(opts["jobId"], run)
        data = {**job["data"], "id": unique(job["data"]["id"], run)}
        yield NewJob(job["queue"], job["name"], data, opts)


def trickle_jobs(queues: Collection[str], run: str) -> Iterator[NewJob]:
    """The jobs of scenario.json for these queues, without end; none if it has none for them."""
    scenario = json.loads((HERE / "scenario.json").read_text("utf-8"))
    templates = [job for job in scenario["jobs"] if job["queue"] in queues]
    if not templates:
        return
    for n in count(1):
        job = _filled(templates[(n - 1) % len(templates)], {"n": str(n), "run": run})
        yield NewJob(job["queue"], job["name"], job["data"], {**scenario["opts"], **job["opts"]})


def unique(job_id: str, run: str) -> str:
    """The id of an example job in this run.

    BullMQ refuses a custom id with colons unless it has exactly two (npm bullmq 6.7.0, classes/job.js), so
    `user:reset-password` gets its second one.
    """
    return f"{job_id}{':' if job_id.count(':') == 1 else '-'}{run}"


def _filled(template: Any, values: dict[str, str]) -> Any:
    if isinstance(template, str):
        return PLACEHOLDER.sub(lambda match: values[match[1]], template)
    if isinstance(template, list):
        return [_filled(item, values) for item in template]
    if isinstance(template, dict):
        return {key: _filled(value, values) for key, value in template.items()}
    return template
