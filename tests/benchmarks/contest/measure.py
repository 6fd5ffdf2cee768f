"""Takes the measurements: contestants in turn on one server, the first of each round another one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bullmq import Queue

from tests.benchmarks.contest.contestant import Contestant
from tests.benchmarks.contest.plan import NAMES, Load, Plan
from tests.benchmarks.contest.yard import DATA, Yard


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant under load, once."""

    jobs_per_s: float
    cpu_us: float
    """Of the worker's process, a job."""
    server_us: float
    """Of the server's CPU, a job."""
    commands: float
    """That the worker sent, a job."""


async def measure(contestant: Contestant, load: Load, yard: Yard) -> Run:
    """Have it do all jobs of a load. Its worker stays open, and the rows stay."""
    await yard.load("load", load.jobs)
    before = await yard.count()
    await contestant.ask("open", queue="load", slots=load.slots, work_s=load.work_ms / 1000, note=False)
    ran = await contestant.ask("until", jobs=load.jobs)
    after = await yard.count()
    return Run(
        jobs_per_s=load.jobs / ran["seconds"],
        cpu_us=ran["cpu_s"] / load.jobs * 1e6,
        server_us=(after.cpu_s - before.cpu_s) / load.jobs * 1e6,
        commands=(after.commands - before.commands) / load.jobs,
    )


@dataclass(frozen=True, slots=True)
class Light:
    """One contestant with a job every now and then."""

    latencies_ms: tuple[float, ...]
    """From before the job is added to its start."""
    commands: float


@dataclass
class Measured:
    """All of it, by contestant."""

    loads: dict[Load, dict[str, list[Run]]] = field(default_factory=dict)
    light: dict[int, dict[str, list[Light]]] = field(default_factory=dict)
    """By slots."""
    idle: dict[float, dict[str, list[float]]] = field(default_factory=dict)
    """By seconds of silence: ms from before the job is added to its start."""
    idle_mb: dict[str, float] = field(default_factory=dict)
    used_mb: dict[str, float] = field(default_factory=dict)
    hangs: dict[str, int] = field(default_factory=dict)
    """How often its idle worker did not come back from being closed."""


class Contest:
    """The contestants on one server."""

    def __init__(self, url: str, plan: Plan) -> None:
        self._url = url
        self._plan = plan
        self._yard = Yard(url)
        self._contestants: dict[str, Contestant] = {}
        self.measured = Measured()

    async def hold(self) -> Measured:
        """Start all, measure all, end all."""
        await self._yard.check()
        for name in NAMES:
            self._contestants[name] = await Contestant.start(name, self._url)
        try:
            await self._weigh(self.measured.idle_mb)
            for name in NAMES:  # once for nothing: scripts get loaded, code compiled
                await self._once(self._contestants[name], self._plan.loads[0])
            for load in self._plan.loads:
                await self._under_load(load)
            await self._weigh(self.measured.used_mb)
            for slots in self._plan.light_slots:
                await self._at_light_load(slots)
            for seconds in self._plan.idle_s:
                await self._after_silence(seconds)
        finally:
            for contestant in self._contestants.values():
                await contestant.end()
            await self._yard.redis.aclose()
        return self.measured

    def _rounds(self, what: str, number: int) -> Iterator[list[str]]:
        for index in range(number):
            sys.stderr.write(f"\r{what}: round {index + 1} of {number}   ")
            turn = index % len(NAMES)
            yield [*NAMES[turn:], *NAMES[:turn]]
        sys.stderr.write("\n")

    async def _under_load(self, load: Load) -> None:
        runs: dict[str, list[Run]] = {name: [] for name in NAMES}
        self.measured.loads[load] = runs
        for turn in self._rounds(load.title, self._plan.rounds):
            for name in turn:
                runs[name].append(await self._once(self._contestants[name], load))

    async def _once(self, contestant: Contestant, load: Load) -> Run:
        run = await measure(contestant, load, self._yard)
        await self._close(contestant)
        await self._yard.clear()
        return run

    async def _close(self, contestant: Contestant) -> None:
        """Close its worker; a process that hangs meanwhile is counted and replaced."""
        if await contestant.closes():
            return
        name = contestant.name
        self.measured.hangs[name] = self.measured.hangs.get(name, 0) + 1
        await contestant.end()
        self._contestants[name] = await Contestant.start(name, self._url)

    async def _weigh(self, weights: dict[str, float]) -> None:
        """Memory of each while its worker of ten slots has nothing to do."""
        for name, contestant in self._contestants.items():
            await contestant.ask("open", queue="idle", slots=10, work_s=0, note=False)
            await asyncio.sleep(1)
            weights[name] = contestant.rss_mb()
            await self._close(contestant)

    async def _at_light_load(self, slots: int) -> None:
        light: dict[str, list[Light]] = {name: [] for name in NAMES}
        self.measured.light[slots] = light
        for turn in self._rounds(f"light load, slots: {slots}", self._plan.light_rounds):
            for name in turn:
                light[name].append(await self._lightly(self._contestants[name], slots))

    async def _lightly(self, contestant: Contestant, slots: int) -> Light:
        queue = Queue("light", {"connection": self._url})
        await contestant.ask("open", queue="light", slots=slots, work_s=0, note=True)
        await queue.add("n", DATA, {"jobId": "first"})
        await contestant.ask("until", jobs=1)
        await asyncio.sleep(0.2)
        before, added = await self._yard.count(), {}
        for number in range(self._plan.light_jobs):
            added[f"j{number}"] = time.time()
            await queue.add("n", DATA, {"jobId": f"j{number}"})
            await asyncio.sleep(self._plan.light_gap_s)
        await contestant.ask("until", jobs=self._plan.light_jobs + 1)
        after = await self._yard.count()
        starts = await contestant.ask("starts")
        await self._close(contestant)
        await queue.close()
        await self._yard.clear()
        late = tuple((starts[job_id] - at) * 1000 for job_id, at in added.items())
        own = after.commands - before.commands - self._plan.light_jobs  # without those that add the jobs
        return Light(late, own / self._plan.light_jobs)

    async def _after_silence(self, seconds: float) -> None:
        """All are silent at the same time, each with a queue of its own."""
        late: dict[str, list[float]] = {name: [] for name in NAMES}
        self.measured.idle[seconds] = late
        queues = {name: Queue(f"idle-{name}", {"connection": f"{self._url}?socket_timeout=60"}) for name in NAMES}
        for number in range(self._plan.idle_rounds):
            sys.stderr.write(f"\rafter {seconds:g} s of silence: {number + 1} of {self._plan.idle_rounds}   ")
            for name, contestant in self._contestants.items():
                await contestant.ask("open", queue=f"idle-{name}", slots=10, work_s=0, note=True)
                await queues[name].add("n", DATA, {"jobId": "first"})
                await contestant.ask("until", jobs=1)
            await asyncio.sleep(seconds)
            added = {}
            for name in NAMES:
                added[name] = time.time()
                await queues[name].add("n", DATA, {"jobId": "late"})
            for name, contestant in self._contestants.items():
                await contestant.ask("until", jobs=2)
                late[name].append(((await contestant.ask("starts"))["late"] - added[name]) * 1000)
                await self._close(contestant)
            await self._yard.clear()
        sys.stderr.write("\n")
        for each in queues.values():
            await each.close()
