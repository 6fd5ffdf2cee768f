"""The script that adds jobs: `add_jobs.lua` with BullMQ's own four inside, unchanged.

Why not one EVALSHA of BullMQ's for each job, as its own clients do it:

- **They don't say whether they added anything.** They answer with a job's id in any case, also where a job of that id
  is there already, or where another one has its deduplication key. Here it is looked in the same step.
- **A flow is added whole or not at all.** In a MULTI, what came before a refused command stays done.
- **Ten thousand jobs are twenty commands**, and the server sets up one script for five hundred of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgpack
from bullmq.queue_keys import QueueKeys
from bullmq.redis_connection import SCRIPT_DEFINITIONS, loadScript
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from workers.broker.new_job import Kind, NewJob, arguments
from workers.broker.scripts import Script

#: The keys of a queue, in the order in which the script is given them; NAMES in the Lua file.
KEYS = (
    *("wait", "paused", "meta", "id", "completed", "delayed", "active", "events", "marker", "prioritized", "pc"),
    *("waiting-children", "failed"),
)
#: BullMQ's script for each kind of job, and the keys that it takes, in its order. Source: the head of each Lua file.
ADDERS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "standard": ("addStandardJob", KEYS[:9]),
    "delayed": ("addDelayedJob", ("marker", "meta", "id", "delayed", "completed", "events")),
    "prioritized": (
        "addPrioritizedJob",
        ("marker", "meta", "id", "prioritized", "delayed", "completed", "active", "events", "pc"),
    ),
    "parent": ("addParentJob", ("meta", "id", "delayed", "waiting-children", "completed", "events")),
}
#: Where the Lua file wants them.
MARKER = "--@adders"
#: Jobs that are written in one go; then others get their turn.
TURN = 25

#: A job, whether one of its id (`id`) or one with its deduplication key (`deduplication`) was there already.
Why: TypeAlias = Literal["id", "deduplication"]


class AddRefusedError(Exception):
    """The job can't be added, now or later."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a job that was to be added."""

    job_id: str
    """Its own; that of the job that is there already, where one is. Empty: of a flow, its parent was there already, and
    brought its children with it."""
    why: Why | None = None
    """Why it was not added. None: it was."""
    state: str | None = None
    """That of the job that is there already, in the words of BullMQ's getState."""


Answer: TypeAlias = Placed | Exception
"""An AddRefusedError, or a ResponseError where the server could not run it all."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Jobs as the script takes them."""

    jobs: Sequence[NewJob]
    keys: list[str]
    packed: bytes


class AddScript:
    """The script of one client.

    Args:
        client: commands.
        prefix: BullMQ's key prefix.
    """

    def __init__(self, client: Redis, prefix: str) -> None:
        self._script: Script = client.register_script(text())
        self._names = QueueKeys(prefix)

    async def add(self, jobs: Sequence[NewJob], now_ms: int) -> list[Answer]:
        """Add each of them that can be added; an answer for each.

        Raises:
            NodeRefusedError: options that can't be written; nothing was sent.
            NotSentError, ReplyLostError, redis.exceptions.RedisError: Redis did not take them, or did not say so.
        """
        return await self.send(await self.prepare(jobs, now_ms))

    async def add_tree(self, jobs: Sequence[NewJob], above: Sequence[int], now_ms: int) -> list[Placed]:
        """Add a flow, all of it or nothing.

        Args:
            jobs: the root first, each parent before its children.
            above: for each the number, from 1, of its parent among them; 0 for the root.

        Raises:
            NodeRefusedError: one of them can't be added; says which.
            NotSentError, ReplyLostError, redis.exceptions.RedisError: as above.
        """
        ready = await self.prepare(jobs, now_ms, above)
        answers: list[Any] = await self._script(keys=ready.keys, args=[ready.packed])
        if answers[0] == "refused":
            node = int(answers[1]) - 1
            raise NodeRefusedError(str(_refusal(int(answers[2]), jobs[node])), node)
        placed: list[Placed] = []
        for answer, job in zip(answers, jobs, strict=True):
            match _answer(answer, job):
                case Placed() as each:
                    placed.append(each)
                case Exception() as error:
                    raise error
        return placed

    async def prepare(self, jobs: Sequence[NewJob], now_ms: int, above: Sequence[int] | None = None) -> Prepared:
        """Write them as the script takes them. Lets others go on meanwhile; asks nobody.

        Raises:
            NodeRefusedError: the options of one can't be written.
        """
        keys: list[str] = []
        plan: list[tuple[Any, ...]] = []
        queues: dict[str, tuple[int, str]] = {}
        pack = msgpack.Packer(use_bin_type=False).pack  # Lua knows no binary type
        for place, job in enumerate(jobs):
            if place % TURN == TURN - 1:
                await asyncio.sleep(0)
            found = queues.get(job.queue)
            if found is None:
                named = self._names.getKeys(job.queue)
                keys += [named[name] for name in KEYS]
                found = queues[job.queue] = (len(queues) + 1, named[""])
            number, base = found
            at = above[place] if above else 0
            about = (number, job.kind, job.id, job.parent_key, job.deduplication_id != "", at)
            try:
                plan.append(about + arguments(job, base, now_ms, pack))
            except (TypeError, ValueError, OverflowError, RecursionError) as error:  # what msgpack can't write
                raise NodeRefusedError(f"its options can't be written: {error}", place) from error
        return Prepared(jobs, keys, pack(([base for _, base in queues.values()], above is not None, plan)))

    async def send(self, ready: Prepared) -> list[Answer]:
        """Add what was prepared without `above`; as `add`."""
        answers: list[Any] = await self._script(keys=ready.keys, args=[ready.packed])
        return [_answer(answer, job) for answer, job in zip(answers, ready.jobs, strict=True)]


class NodeRefusedError(AddRefusedError):
    """Of several jobs this one can't be added, so none was."""

    def __init__(self, text: str, node: int) -> None:
        super().__init__(text)
        self.node = node
        """Its place among them, from 0."""


def text() -> str:
    """The whole script."""
    parts = []
    for kind, (name, keys) in ADDERS.items():
        names = ", ".join(f'"{key}"' for key in keys)
        source = loadScript(SCRIPT_DEFINITIONS[name])
        parts.append(f'adders["{kind}"] = function(KEYS, ARGV)\n{source}\nend\ntakes["{kind}"] = {{{names}}}\n')
    return Path(__file__).with_name("add_jobs.lua").read_text("utf-8").replace(MARKER, "".join(parts))


def _answer(answer: Any, job: NewJob) -> Answer:
    if isinstance(answer, str):
        return Placed(answer)
    if isinstance(answer, int):
        return _refusal(answer, job)
    job_id, why, said = answer
    return ResponseError(said) if why == "error" else Placed(job_id, why, said)


def _refusal(code: int, job: NewJob) -> AddRefusedError:
    """BullMQ's two, in its words, and ours."""
    parent = job.parent_key
    return AddRefusedError(
        {
            -5: f"Missing key for parent job {parent}. addJob",
            -7: f"The parent job {parent} cannot be replaced. addJob",
            -101: f"child {job.id} of queue {job.queue} was added before and has failed: retry it first",
        }.get(code, f"the script answered {code}")
    )
