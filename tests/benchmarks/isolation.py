"""What a job costs in each kind of isolation, beside a slot that calls its processor itself; and a thousand children,
each recycled after one job. `make bench isolation` takes about nine minutes and writes results/isolation.md; with
ROUNDS=2 it is shorter and only prints.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
from opentelemetry.trace import INVALID_SPAN

from config.schema import LogConfig
from tasks import TASKS
from tasks.base import Task
from tasks.codec import decode
from tests.hostile.module import AsyncActs
from tests.hostile.rig import KINDS, Answers, call, children, is_gone, isolated, own_descriptors, own_zombies
from tests.hostile.task import Hostile, HostileOptions
from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.endings import Completed, Ending
from workers.broker.execution import Execute, Execution
from workers.broker.hold import Hold
from workers.contract import retry_all
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.call import Isolator
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy

RESULTS = Path(__file__).parent / "results" / "isolation.md"
#: The most that each kind may cost a job, µs.
TARGETS = {"async": 15.0, "thread": 150.0, "process": 400.0, "process, def": 400.0}
BARE, DECODING = "bare slot", "bare slot, data decoded"
PAYLOAD = "x" * 1000
DATA: Mapping[str, Any] = {"type": "hostile", "id": "1", "act": "echo", "args": {"value": PAYLOAD}}


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    jobs: int = 300
    """In each round, one after the other."""
    recycles: int = 1000
    starts: int = 9


# --------------------------------------------------------------- cost of a job


def bare(*, decodes: bool = False) -> Execute:
    """A slot without an executor: it calls the processor with the task as it is, or as the data say."""
    process, task, context = AsyncActs(HostileOptions(), None), Hostile.model_validate(DATA), Answers()
    types: Mapping[str, type[Task]] = {**TASKS, "hostile": Hostile}

    async def execute(job: Activation, hold: Hold) -> Ending:
        return Completed(result=await process(task, context))

    async def decode_and_execute(job: Activation, hold: Hold) -> Ending:
        return Completed(result=await process(cast(Hostile, decode(job.data, types)), context))

    return decode_and_execute if decodes else execute


def executed(isolation: Isolator) -> Execute:
    """The executor, with everything that it does around this isolation."""
    plan = Plan(
        isolation=isolation,
        classify=retry_all,
        ladder=Ladder.timeout(60),
        retry=RetryPolicy(),
        task=Hostile,
    )
    limits = Limits(max_data_bytes=100_000, unknown_delay_s=30, unknown_give_up_s=3600)
    return Executor({"hostile": plan}, limits).execute


async def median_us(execute: Execute, jobs: int) -> float:
    """The median time of a job in its slot, microseconds."""
    execution = Execution(execute, lambda error, where, job_id: None, lambda: False)
    took = []
    for number in range(jobs):
        job = Activation(queue="hostile", id=str(number), token="t", data=DATA, data_bytes=1100)
        hold = Hold(job, cast(FleetBackend, None), lambda error, where, job_id: None)
        start = time.perf_counter()
        ending = await execution.run(job, hold, INVALID_SPAN)
        took.append(time.perf_counter() - start)
        if not isinstance(ending, Completed) or ending.result != PAYLOAD:
            raise SystemExit(f"the job ended as {ending}")
    return statistics.median(took) * 1e6


async def call_us(isolation: Isolator, jobs: int) -> float:
    """The median time of a call of the processor in its isolation, microseconds."""
    took = []
    for _ in range(jobs):
        run = call("echo", value=PAYLOAD)
        start = time.perf_counter()
        value = await isolation.run(run)
        took.append(time.perf_counter() - start)
        if value != PAYLOAD:
            raise SystemExit("the result is another one")
    return statistics.median(took) * 1e6


@dataclass(frozen=True)
class Costs:
    """By contestant, the median of each round, microseconds."""

    slots: dict[str, list[float]]
    calls: dict[str, list[float]]


async def costs(size: Size) -> Costs:
    """Measure. The contestants take turns, and each round begins with another one."""
    async with AsyncExitStack() as stack:
        isolations = {}
        for name, (kind, flavour) in KINDS.items():
            there = isolated(kind, flavour, slots=1, log=LogConfig(level="warning"), children={"max_jobs": 10**9})
            isolations[name] = await stack.enter_async_context(there)
        slots = {
            BARE: bare(),
            DECODING: bare(decodes=True),
            **{name: executed(isolation) for name, isolation in isolations.items()},
        }
        for execute in slots.values():
            await median_us(execute, size.jobs)  # warm
        names = list(slots)
        found = Costs({name: [] for name in names}, {name: [] for name in isolations})
        for number in range(size.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                gc.collect()
                found.slots[name].append(await median_us(slots[name], size.jobs))
                if name in isolations:
                    found.calls[name].append(await call_us(isolations[name], size.jobs))
        return found


# ------------------------------------------------------------ starts, recycling


async def starts_ms(count: int) -> list[float]:
    """How long a queue's first child takes to be ready."""
    took = []
    for _ in range(count):
        async with children(size=1) as pool:
            took.append((pool.started_in_s or 0) * 1000)
    return took


async def recycled(count: int) -> dict[str, Any]:
    """Run so many jobs in children that are replaced after one each; what is left of them."""
    process = psutil.Process()
    async with children(size=1) as pool:  # what the first one leaves in the host, whatever follows
        await pool.run(call("echo", value=1))
    descriptors, memory = own_descriptors(), process.memory_info().rss
    async with children(size=2, max_jobs=1) as pool:
        await pool.run(call("echo", value=1))
        start = time.monotonic()
        seen: set[int] = set()

        async def some() -> None:
            while len(seen) < count:
                seen.add((await pool.run(call("facts")))["pid"])

        await asyncio.gather(some(), some())
        took_s = time.monotonic() - start
    await asyncio.sleep(0.5)
    return {
        "processes": len(seen),
        "seconds": took_s,
        "still there": sum(not is_gone(pid) for pid in seen),
        "zombies": len(own_zombies()),
        "descriptors": (descriptors, own_descriptors()),
        "grown_mb": (process.memory_info().rss - memory) / 2**20,
    }


# ------------------------------------------------------------------------ page


def quartiles(values: list[float], digits: int = 0) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def row(name: str, found: Costs) -> str:
    """One line of the table."""
    whole = found.slots[name]
    over = [value - base for value, base in zip(whole, found.slots[BARE], strict=True)]
    cells = ["", ""] if name not in found.calls else [f"{TARGETS[name]:.0f}", quartiles(found.calls[name], 1)]
    cells += [quartiles(whole, 1), "" if name == BARE else quartiles(over, 1)]
    return f"| {name} | {' | '.join(cells)} |"


def missed(found: Costs) -> list[str]:
    """Where a kind costs more than it may: a call by itself; on the loop, with all that surrounds a run, too."""
    base, lines = statistics.median(found.slots[BARE]), []
    for name, most in TARGETS.items():
        alone, over = statistics.median(found.calls[name]), statistics.median(found.slots[name]) - base
        if alone > most:
            lines.append(f"- MISSED: a call in `{name}` takes {alone:.0f} µs, {alone - most:.0f} more than it may.")
        elif name == "async" and over > most:
            decoded = statistics.median(found.slots[DECODING]) - base
            lines.append(
                f"- MISSED, if all that the executor does is counted: a call in `{name}` takes {alone:.1f} µs, but its "
                f"job {over:.1f} µs more than in the bare slot, {over - most:.1f} above the target. {decoded:.1f} of "
                "them decode its data; most of the rest drives its ladder, in an asyncio task of its own that can be "
                "cancelled and left behind."
            )
    return [*lines, ""] if lines else []


def page(size: Size, load: float, found: Costs, starts: list[float], left: Mapping[str, Any]) -> str:
    """The page."""
    python = ".".join(map(str, sys.version_info[:3]))
    before, after = left["descriptors"]
    return "\n".join(
        [
            "# What isolation costs",
            "",
            f"`make bench isolation`. CPython {python}, {psutil.cpu_count()} cores, load average {load:.1f} before the "
            "first round: trust differences, not absolutes.",
            "",
            "One job after the other, 1 kB of data, which is the result too; without Redis. A call is what the kind of "
            "isolation makes of calling the processor, there and back; of a process it asks for memory before, after "
            "and at most, too. A job in its slot is that with the executor around it: data decoded, context, ladder, "
            "ending decided. The bare slot calls an `async def` itself, and nothing else; the second one decodes the "
            "data before.",
            "",
            f"{size.rounds} rounds of {size.jobs} jobs in turn, each beginning with another one; a round's value is "
            "the median of its jobs, a difference is taken within a round. Shown are median and quartiles, µs.",
            "",
            "| isolation | at most | a call | a job in its slot | over the bare slot |",
            "| --- | --- | --- | --- | --- |",
            *(row(name, found) for name in found.slots),
            "",
            *missed(found),
            "## Children",
            "",
            f"- The first one is ready after {quartiles(starts)} ms ({len(starts)} starts).",
            f"- {left['processes']:,} children were replaced after one job each, two slots, in {left['seconds']:.0f} "
            f"s: {left['still there']} are still there, {left['zombies']} zombies; descriptors {before} before and "
            f"{after} after all had ended; the host has grown by {left['grown_mb']:.1f} MB.",
            "",
        ]
    )


async def bench(size: Size) -> str:
    """All of it."""
    load = psutil.getloadavg()[0]
    found = await costs(size)
    return page(size, load, found, await starts_ms(size.starts), await recycled(size.recycles))


def main() -> None:
    rounds = os.environ.get("ROUNDS")
    if rounds is not None and not (rounds.isdecimal() and int(rounds) > 0):
        raise SystemExit(f"ROUNDS={rounds}: a whole number above 0 is needed")
    size = Size(int(rounds), recycles=20, starts=2) if rounds else Size(15)
    text = asyncio.run(bench(size))
    if not rounds:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
