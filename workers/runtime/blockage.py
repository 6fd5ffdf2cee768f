"""Who kept the event loop from turning, judged from what was measured and seen meanwhile. Pure.

Not every late turn is a job's doing: the process may have been stopped or starved, collecting garbage, or waiting for
a thread that held the GIL. A job is blamed only where none of these explains the delay and most looks at the loop's
thread met that job.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from workers.broker.running import Running
from workers.runtime.stack import Stack

K = TypeVar("K", bound=Hashable)

#: Queue and task type where no job is to blame.
UNKNOWN = "unknown"
#: Task types (of the queue "unknown") where it is known what else it was: the process got no processor; garbage
#: collection.
STOPPED, COLLECTOR = "stopped", "gc"
#: A share of the block from which something is its reason; and the share of processor time below which nothing ran.
MOST, IDLE = 0.5, 0.1
#: The share of the block that garbage collection must have taken to be its reason.
LEAST = 0.1


@dataclass(frozen=True, slots=True)
class Look:
    """What the loop's thread was doing at one moment."""

    for_s: float
    """Seconds that this look stands for: since the one before."""
    stack: Stack
    running: Running | None
    """The job whose code it executed; None: something else, or nothing."""
    threads: Mapping[Running, Stack] = field(default_factory=dict)
    """What the other threads that work for jobs were doing."""
    exact: bool = False
    """Looked by the thread itself, between two instructions: right after a call that held the GIL, before any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A time in which the loop did not turn."""

    blocked_s: float
    threshold_s: float
    """From which length on a block counts."""
    watched_s: float
    """Of these, how long looks were due."""
    held_up_s: float
    """Of these, how long the thread that looks could not run either."""
    process_s: float
    """Processor time of all threads."""
    loop_s: float | None
    """Processor time of the loop's thread; None: not known yet."""
    collector_s: float
    """Time that garbage collection took."""
    looks: Sequence[Look]


@dataclass(frozen=True, slots=True)
class Finding:
    """Who it was, and what tells so."""

    queue: str = UNKNOWN
    task_type: str = UNKNOWN
    running: Running | None = None
    """The job, where it is one alone."""
    stack: Stack | None = None
    note: str = ""
    """One line for a person; empty where the stack says all."""

    def text(self) -> str:
        """The note and the stack. Reads source files."""
        parts = (f"({self.note})" if self.note else "", self.stack.text() if self.stack else "")
        return "\n".join(part for part in parts if part)


def find(block: Block) -> Finding:
    """Judge."""
    held_up = block.held_up_s >= MOST * block.watched_s
    if _collected(block):
        note = f"no job's doing: garbage collection took {block.collector_s:.2f} s"
        return Finding(task_type=COLLECTOR, stack=_last(block.looks), note=note)
    if held_up and block.process_s < IDLE * block.blocked_s:
        note = f"no job's doing: the process got {block.process_s:.2f} s of processor time; stopped, or starved"
        return Finding(task_type=STOPPED, stack=_last(block.looks), note=note)
    if held_up and block.loop_s is not None and _idle(block.loop_s, block):
        return _in_thread(block.looks)
    if not block.looks:
        return Finding(note="no stack: the thread that looks got no turn either, so something held the GIL")
    finding = _blamed(block.looks)
    return finding if finding.note else replace(finding, note=_besides(block, held_up))


def _collected(block: Block) -> bool:
    """Whether garbage collection made a block of what would be none. A look at the very beginning of a job's block,
    just past the threshold, finds some collector time too.
    """
    rest_s = block.blocked_s - block.collector_s
    return rest_s < block.threshold_s and block.collector_s >= LEAST * block.blocked_s


def _idle(loop_s: float, block: Block) -> bool:
    """Whether the loop's thread computed next to nothing, and others more."""
    return loop_s < IDLE * block.blocked_s and loop_s < MOST * block.process_s


def _besides(block: Block, held_up: bool) -> str:
    if block.collector_s >= MOST * block.blocked_s:
        return f"garbage collection took {block.collector_s:.2f} s of it"
    if not held_up:
        return ""
    if any(look.exact for look in block.looks):
        return "the GIL was held"
    return "the GIL was held: the stack is from soon after it was given up, and may be of another job"


def _in_thread(looks: Sequence[Look]) -> Finding:
    """The loop's thread waited for the GIL: it was another thread; a job's, where only one job has such a thread."""
    note = "another thread held the GIL"
    seen = {running: stack for look in looks for running, stack in look.threads.items()}
    if len(seen) != 1:
        return Finding(note=note if not seen else f"{note}; {len(seen)} jobs have one")
    ((running, stack),) = seen.items()
    return Finding(running.queue, running.task_type, running, stack, note)


def _blamed(looks: Sequence[Look]) -> Finding:
    """The job in most looks, or its task type where that many jobs share the blame."""
    running = _most(looks, lambda look: look.running)
    alone = [look for look in looks if look.running is running]
    if running is not None and _share(alone, looks) >= MOST:
        return Finding(running.queue, running.task_type, running, _usual(alone))
    kind = _most(looks, _kind)
    alike = [look for look in looks if _kind(look) == kind]
    if kind is not None and _share(alike, looks) >= MOST:
        jobs = len({look.running for look in alike})
        return Finding(*kind, None, _usual(alike), f"{jobs} jobs one after the other; the stack is one of them")
    others = [look for look in looks if look.running is None]
    if _share(others, looks) >= MOST:
        return Finding(stack=_usual(others))
    return Finding(stack=_usual(looks), note="jobs of several types one after the other; the stack is one of them")


def _kind(look: Look) -> tuple[str, str] | None:
    return (look.running.queue, look.running.task_type) if look.running is not None else None


def _usual(looks: Sequence[Look]) -> Stack:
    """The stack of the functions seen longest, as it was last."""
    usual = _most(looks, lambda look: tuple((file, name) for file, _, name in look.stack.frames))
    return [look.stack for look in looks if tuple((file, name) for file, _, name in look.stack.frames) == usual][-1]


def _most(looks: Sequence[Look], key: Callable[[Look], K]) -> K:
    times: dict[K, float] = {}
    for look in looks:
        times[key(look)] = times.get(key(look), 0.0) + look.for_s
    return max(times, key=lambda each: times[each])


def _share(some: Sequence[Look], looks: Sequence[Look]) -> float:
    total = sum(look.for_s for look in looks)
    return sum(look.for_s for look in some) / total if total > 0 else len(some) / len(looks)


def _last(looks: Sequence[Look]) -> Stack | None:
    return looks[-1].stack if looks else None
