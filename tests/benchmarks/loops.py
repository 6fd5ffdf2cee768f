"""asyncio's event loop and uvloop's side by side, under FleetWorker as it is shipped. `make bench loops` takes two to
four minutes and writes results/loops.md; with ROUNDS=2 it is shorter and only prints.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.benchmarks.contest.contestant import Contestant
from tests.benchmarks.contest.measure import Run, measure
from tests.benchmarks.contest.plan import Load
from tests.benchmarks.contest.report import quantile, ratio, table, times
from tests.benchmarks.contest.yard import Yard
from tests.conftest import Server
from workers.runtime.supervision.event_loop import LoopName, missing

RESULTS = Path(__file__).parent / "results" / "loops.md"
LOOPS: tuple[LoopName, ...] = ("asyncio", "uvloop")
#: At least and at most; on a busy machine none begins later than that many seconds after the first.
LEAST, ROUNDS, LATEST_S = 7, 15, 200.0
#: Rounds of a pair of processes, before a new pair takes its place.
LIFETIME = 3
#: Of small runs, so that both loops meet the same moments of a machine that others use too.
LOADS = (
    Load(0, 1, 150),
    Load(0, 10, 250),
    Load(0, 100, 300),
    Load(2, 1, 80),
    Load(2, 10, 250),
    Load(2, 100, 300),
)
#: The gain in jobs a second that a default would have to bring, if it is compiled code that not every platform has.
#: Processors that compute gain less than these, since the loop's share of the time is smaller. Of all loads together:
#: the highest of some medians is mostly the one that the machine's other users have disturbed most.
WORTH = 1.25


@dataclass
class Measured:
    """By loop: of loads one value a round, of memory one a process."""

    rounds: int = 0
    loads: dict[Load, dict[str, list[Run]]] = field(
        default_factory=lambda: {load: {loop: [] for loop in LOOPS} for load in LOADS}
    )
    idle_mb: dict[str, list[float]] = field(default_factory=lambda: {loop: [] for loop in LOOPS})


class Measuring:
    """Takes the measurements, on one server."""

    def __init__(self, url: str, rounds: int) -> None:
        self._url = url
        self._rounds = rounds
        self._yard = Yard(url)
        self._begin = time.monotonic()
        self.found = Measured()

    async def hold(self) -> Measured:
        """All of it."""
        await self._yard.check()
        try:
            while self._goes_on():
                await self._pair()
        finally:
            sys.stderr.write("\n")
            await self._yard.redis.aclose()
        return self.found

    def _goes_on(self) -> bool:
        done = self.found.rounds
        return done < self._rounds and (done < LEAST or time.monotonic() < self._begin + LATEST_S)

    async def _pair(self) -> None:
        """The rounds of one pair of processes."""
        async with AsyncExitStack() as stack:
            pair = {loop: await started(loop, self._url, stack) for loop in LOOPS}
            for loop, weight in zip(LOOPS, await asyncio.gather(*map(idle_mb, pair.values())), strict=True):
                self.found.idle_mb[loop].append(weight)
            for process in pair.values():  # once for nothing: scripts get loaded, caches filled
                await self._once(process, LOADS[0])
            for _ in range(LIFETIME):
                if self._goes_on():
                    await self._round(pair)

    async def _round(self, pair: dict[LoopName, Contestant]) -> None:
        """Each load once for each; the loop that begins is another one each time."""
        sys.stderr.write(f"\rround {self.found.rounds + 1} of {self._rounds}   ")
        turn = LOOPS if self.found.rounds % 2 == 0 else LOOPS[::-1]
        for load, runs in self.found.loads.items():
            for loop in turn:
                runs[loop].append(await self._once(pair[loop], load))
            turn = turn[::-1]
        self.found.rounds += 1

    async def _once(self, process: Contestant, load: Load) -> Run:
        """One process under load."""
        run = await measure(process, load, self._yard)
        await process.ask("close")
        await self._yard.clear()
        return run


async def started(loop: LoopName, url: str, stack: AsyncExitStack) -> Contestant:
    """A process that really has this loop; it ends with the stack."""
    process = await Contestant.start("fleet", url, loop)
    stack.push_async_callback(process.end)
    package = (await process.ask("loop"))["package"]
    if package != loop:
        raise SystemExit(f"the process has a loop of {package}, not of {loop}")
    return process


async def idle_mb(process: Contestant) -> float:
    """Resident memory while its worker of ten slots has nothing to do, before the first job."""
    await process.ask("open", queue="idle", slots=10, work_s=0, note=False)
    await asyncio.sleep(1)
    weight = process.rss_mb()
    await process.ask("close")
    return weight


# ------------------------------------------------------------------------ page


def speed(run: Run) -> float:
    return run.jobs_per_s


def cpu_s(run: Run) -> float:
    """Of the worker's process, for a thousand jobs."""
    return run.cpu_us / 1000


def together(found: Measured) -> dict[str, list[Run]]:
    """The runs under all loads, in one order for each loop."""
    return {loop: [run for runs in found.loads.values() for run in runs[loop]] for loop in LOOPS}


def verdict(found: Measured) -> list[str]:
    """What the default is, and by which numbers."""
    asyncio_mb, uvloop_mb = (statistics.median(found.idle_mb[loop]) for loop in LOOPS)
    gain = ratio(together(found), "uvloop", "asyncio", speed)
    why = "uvloop is compiled code, an extra, and not every platform has it (Windows has none)"
    decided = (
        f"**asyncio is the default**: {why}; and it gains less than ×{WORTH}, though these processors leave the loop "
        "the largest share of the time there can be. Pools with such processors may set `loop: uvloop`."
    )
    if gain[0] >= WORTH:
        decided = f"**asyncio is the default, which is worth another look**: {why}, but it gains ×{WORTH} or more."
    return [
        f"uvloop, all loads together: {times(gain)} jobs a second for "
        f"{times(ratio(together(found), 'uvloop', 'asyncio', cpu_s))} of the processor time. By load, medians: "
        f"{between(found, speed)} jobs a second, {between(found, cpu_s)} of the processor time. An idle process has "
        f"{uvloop_mb - asyncio_mb:+.1f} MB.",
        "",
        decided,
        "",
    ]


def between(found: Measured, of: Callable[[Run], float]) -> str:
    """The least and the greatest median ratio of a load."""
    medians = [ratio(runs, "uvloop", "asyncio", of)[0] for runs in found.loads.values()]
    return f"×{min(medians):.2f} to ×{max(medians):.2f}"


def spread(values: list[float], form: str) -> str:
    low, middle, high = quantile(values, 0.25), statistics.median(values), quantile(values, 0.75)
    return f"{middle:{form}} ({low:{form}}–{high:{form}})"


def section(title: str, unit: str, found: Measured, of: Callable[[Run], float], form: str) -> list[str]:
    """One quantity: the ratio, then what it was here."""
    rows = [
        [load.title, times(ratio(runs, "uvloop", "asyncio", of)), *(spread([*map(of, runs[n])], form) for n in LOOPS)]
        for load, runs in found.loads.items()
    ]
    rows.append(["all", times(ratio(together(found), "uvloop", "asyncio", of)), "", ""])
    return [f"## {title}", "", *table(["jobs", "uvloop / asyncio", *(f"{loop}, {unit}" for loop in LOOPS)], rows)]


def page(found: Measured, load: float) -> str:
    """All of it."""
    python = ".".join(map(str, sys.version_info[:3]))
    return "\n".join(
        [
            "# Event loops",
            "",
            f"`make bench loops`. uvloop {version('uvloop')} and redis-py {version('redis')} on CPython {python}, "
            f"{sys.platform}. {psutil.cpu_count()} cores, load average {load:.1f} before the first round: trust "
            "ratios, not absolutes, and no ratio far where its quartiles lie far apart.",
            "",
            *verdict(found),
            "FleetWorker with executor, metrics and two log lines a job, as it is shipped; its processor returns at "
            "once, or sleeps for 2 ms. One Valkey over loopback, full queues, a process for each loop.",
            "",
            f"{found.rounds} rounds, with new processes after each {LIFETIME}; under each load both take their turn, "
            "and the one that begins changes. A ratio is taken within a round; shown are the median and the quartiles. "
            "The clocks run from the first start to the last completion.",
            "",
            *section("Jobs a second", "here", found, speed, ",.0f"),
            *section("Processor seconds of the worker's process for 1,000 jobs", "s here", found, cpu_s, ".3f"),
            "## Resident memory of an idle process",
            "",
            "Ten slots, before the first job.",
            "",
            *table(["", *LOOPS], [["MB", *(spread(found.idle_mb[loop], ".1f") for loop in LOOPS)]]),
        ]
    )


def main() -> None:
    given = os.environ.get("ROUNDS")
    if given is not None and not (given.isdecimal() and int(given) > 0):
        raise SystemExit(f"ROUNDS={given}: a whole number above 0 is needed")
    if problem := missing("uvloop"):
        raise SystemExit(problem)
    rounds, load = int(given) if given else ROUNDS, psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--appendonly", "no")
        server.start()
        try:
            text = page(asyncio.run(Measuring(server.url, rounds).hold()), load)
        finally:
            server.stop()
    if not given:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
