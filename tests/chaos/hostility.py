"""The hostile acts of a run: which job does each, and how it may end. Which comes next is drawn from the seed."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeAlias

#: The queue whose jobs run on the loop beside the mails, and the one whose jobs run in children of the same processes;
#: each has the name of its tasks' type.
BESIDE, CHILDREN = "hostile", "hostile-child"
QUEUES = (BESIDE, CHILDREN)
#: Process deaths from which a hostile job is quarantined: the default of a queue.
DEATHS = 3
#: How long a run of each queue may last, seconds; those of CHILDREN are killed a second later.
BESIDE_S, CHILDREN_S = 8.0, 3.0
#: Address space of a child: above what an interpreter with its libraries takes, and nothing that a machine would miss.
CHILD_MEMORY = "512MB"
#: Three deaths, the last ones ten seconds apart; and the process that dies most often is restarted last. So this act
#: comes first, and in every fourth round alone.
LONGEST, LONGEST_EVERY = "kill own process", 4
#: A start under load takes the time of an act, and more.
TIMED_OUT = r"^timed out after "
KILLED = r"its process was killed by SIGKILL"
#: What any job of CHILDREN may fail with, as soon as this fault or act was among those of the run.
EXCUSES = {
    "kill children": rf"^(no child process could be started: )?{KILLED}",
    "exhaust descriptors": r"^no child process could be started: .*Too many open files",
}

Job: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Act:
    """One way to misbehave."""

    queue: str
    act: str
    """Its function's name in tests/hostile/acts.py or hostile_module.py."""
    seconds: tuple[float, float] | None = None
    """How long it goes on, drawn between these; None: that is its own matter."""
    args: dict[str, Any] = field(default_factory=dict)
    completes: bool = False
    """It may end well."""
    fails: tuple[str, ...] = ()
    """Patterns of the reasons that it may fail with, besides quarantine."""


def _beside(act: str, *fails: str, **more: Any) -> Act:
    return Act(queue=BESIDE, act=act, fails=(TIMED_OUT, *fails), **more)


def _child(act: str, *fails: str, **more: Any) -> Act:
    return Act(queue=CHILDREN, act=act, fails=(TIMED_OUT, *fails), **more)


#: A block may outlast a lock (3 s), and no reply of the mail server (5 s).
_BLOCK_S = (0.5, 3.6)
_HELD_S = (0.5, 2.0)
#: Each act by name.
ACTS: dict[str, Act] = {
    "block loop": _beside("sleeps_in_c", seconds=_BLOCK_S, completes=True),
    "compute": _beside("computes", seconds=_BLOCK_S, completes=True),
    "hog GIL": _beside("hogs_gil", seconds=_BLOCK_S, completes=True),
    "exhaust descriptors": _beside("exhausts_descriptors", "Too many open files", seconds=_HELD_S),
    "fill disk": _beside("fills_disk", "File too large", seconds=_HELD_S),
    LONGEST: _beside("dies", args={"signal": "SIGKILL"}),
    "child: block for ever": _child("never_yields"),
    "child: hog GIL for ever": _child("holds_gil"),
    "child: killed": _child("dies", f"^{KILLED}", args={"signal": "SIGKILL"}),
    "child: wait": _child("waits_a_while", seconds=_HELD_S, completes=True),
    "child: memory bomb": _child("bombs_memory", "MemoryError"),
    "child: exhaust descriptors": _child("exhausts_descriptors", "Too many open files", seconds=_HELD_S),
    "child: fill disk": _child("fills_disk", "File too large", seconds=_HELD_S),
}


def overlay(lock_s: float) -> dict[str, Any]:
    """What fleet.yaml lacks. One slot on the loop, since an act there changes its whole process."""
    common = {
        "pool": "communication",
        "lock": f"{lock_s:g}s",
        "stalls": 1000,
        "deaths": DEATHS,
        "keep": {"completed": "forever", "failed": "forever"},
    }
    child: dict[str, Any] = {
        "isolation": "process",
        "timeout": {"cancel": f"{CHILDREN_S:g}s", "kill": f"{CHILDREN_S + 1:g}s"},
        "children": {"memory_limit": CHILD_MEMORY},
    }
    beside = {"isolation": "async", "timeout": f"{BESIDE_S:g}s"}
    return {
        "queues": {
            BESIDE: {**common, "module": "tests.chaos.hostile_module", "concurrency": 1, "task": beside},
            CHILDREN: {**common, "module": "tests.chaos.hostile_child_module", "concurrency": 2, "task": child},
        }
    }


class Acts:
    """Draws jobs: every act once in each round, but for LONGEST.

    Args:
        only: names; empty for all. Names that are no act are left aside.
    """

    def __init__(self, seed: str, only: Collection[str] = ()) -> None:
        self.names = tuple(name for name in ACTS if not only or name in only)
        self._draw = random.Random(seed)
        self._round: list[str] = []
        self._rounds, self._count = 0, 0

    def next(self) -> tuple[str, Job]:
        """The name of an act, and a job that does it."""
        if not self._round:
            self._round = self._next_round()
        name = self._round.pop()
        act = ACTS[name]
        self._count += 1
        args = {**act.args, **({"seconds": round(self._draw.uniform(*act.seconds), 2)} if act.seconds else {})}
        job = f"hostile-{self._count:05d}"
        data = {"type": act.queue, "id": job, "act": act.act, "args": args}
        return name, {"queue": act.queue, "name": act.act, "data": data, "opts": {"jobId": job}}

    def _next_round(self) -> list[str]:
        """The last one comes first."""
        drawn = self._draw.sample(self.names, len(self.names))
        others = [name for name in drawn if name != LONGEST]
        comes = LONGEST in drawn and (self._rounds % LONGEST_EVERY == 0 or not others)
        self._rounds += 1
        return [*others, LONGEST] if comes else others
