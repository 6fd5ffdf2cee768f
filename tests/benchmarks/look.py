"""How long looks at queues take: the status of 12 queues, a page out of a million jobs, a thousand tasks' statuses.
`make bench look` takes about two minutes and 1.5 GB, and writes results/look.md; with ROUNDS=2 it is shorter and only
prints.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from redis.asyncio import Redis

from tests.conftest import Server
from tests.round_trips import RoundTrips
from tests.seeded import seed
from workers.broker.endpoint import Endpoint
from workers.broker.job_reader import Mark
from workers.queue_service.cursor import Place, write
from workers.queue_service.filter import parse
from workers.queue_service.looking import Looking

RESULTS = Path(__file__).parent / "results" / "look.md"
#: What is asked for, ms: the status of 12 queues in one round trip, and a page.
STATUS_MS, STATUS_TRIPS, PAGE_MS = 5.0, 1, 50.0
MILLION = 1_000_000
#: Queues, and jobs in each of their states.
QUEUES, EACH = 12, 500
#: Connections of workers, as of a fleet of two pods beside a Node stack, and of others.
WORKERS, OTHERS = 36, 64
#: Jobs of a page.
PAGE = 50
NOW = 1_800_000_000_000
#: The first id in the 12 queues.
FIRST = 2_000_000
Call: TypeAlias = Callable[[Looking], Awaitable[Any]]
_STATES = ("waiting", "prioritized", "delayed", "active", "completed", "failed")


@dataclass(frozen=True)
class Look:
    """What one look costs."""

    label: str
    ms: list[float]
    trips: int
    most_ms: float | None = None
    most_trips: int | None = None

    @property
    def median_ms(self) -> float:
        """Half of them took less."""
        return statistics.median(self.ms)

    @property
    def is_met(self) -> bool:
        """Whether it is as fast as it has to be."""
        fast = self.most_ms is None or self.median_ms < self.most_ms
        return fast and (self.most_trips is None or self.trips <= self.most_trips)

    @property
    def row(self) -> str:
        """Its line in the table."""
        asked = [f"{self.most_ms:g} ms"] if self.most_ms is not None else []
        asked += [f"{self.most_trips} round trip"] if self.most_trips is not None else []
        told = f"{', '.join(asked)}: {'met' if self.is_met else '**missed**'}" if asked else ""
        worst = sorted(self.ms)[max(0, round(0.95 * len(self.ms)) - 1)]
        return f"| {self.label} | {self.median_ms:.2f} | {worst:.2f} | {self.trips} | {told} |"


@dataclass(frozen=True)
class Wanted:
    """One look to be measured."""

    label: str
    call: Call
    check: Callable[[Any], bool]
    """Whether its answer is the right one."""
    most_ms: float | None = None
    most_trips: int | None = None


def page_of(
    queue: str, state: str, order: Any = "newest", mark: Mark | None = None
) -> Callable[[Looking], Awaitable[Any]]:
    """A page of one state, behind this mark."""
    wanted = parse(state=state)
    cursor = None if mark is None else write(Place(state, mark), of=f"{queue} {wanted}", order=order)
    return lambda looking: looking.jobs(queue, wanted, cursor=cursor, limit=PAGE, order=order)


def is_page(first: int) -> Callable[[Any], bool]:
    """Whether it is a full page that begins with this job."""
    return lambda page: len(page.items) == PAGE and page.items[0].id == str(first) and page.cursor is not None


def looks() -> list[Wanted]:
    """All of them."""
    half = MILLION // 2
    ids = [str(number) for number in range(FIRST, FIRST + 36_000, 36)]
    page = (PAGE_MS, None)
    return [
        Wanted(
            f"status of {QUEUES} queues",
            lambda looking: looking.get_queue_status([f"q{number}" for number in range(QUEUES)]),
            lambda found: all(status.stats.delayed == EACH for status in found.values()) and len(found) == QUEUES,
            STATUS_MS,
            STATUS_TRIPS,
        ),
        Wanted("completed jobs, the newest", page_of("big", "completed"), is_page(MILLION), *page),
        Wanted("completed jobs, the oldest", page_of("big", "completed", "oldest"), is_page(1), *page),
        Wanted(
            "completed jobs, after half of them",
            page_of("big", "completed", mark=Mark(str(NOW + half), str(half))),
            is_page(half - 1),
            *page,
        ),
        Wanted("waiting jobs, the newest", page_of("deep", "waiting"), is_page(MILLION), *page),
        Wanted("waiting jobs, the oldest", page_of("deep", "waiting", "oldest"), is_page(1), *page),
        Wanted(
            "waiting jobs, after half of them",
            page_of("deep", "waiting", mark=Mark(place=half, length=MILLION, anchors=(str(half + 1),))),
            is_page(half),
            *page,
        ),
        Wanted(
            "failed jobs, by their age",
            lambda looking: looking.jobs("q3", parse(state="failed", older="1s"), limit=PAGE),
            lambda found: len(found.items) == PAGE,
            *page,
        ),
        Wanted(
            "10,000 of a million looked through in vain",
            lambda looking: looking.jobs("big", parse(state="completed", where=["data.userId=nobody"])),
            lambda found: found.items == () and found.cursor is not None,
        ),
        Wanted(
            "statuses of 1,000 tasks in 14 queues",
            lambda looking: looking.get_task_statuses(ids),
            lambda found: len(found) == 1000 and all(each.status for each in found),
        ),
        Wanted(
            "details of a task that only its data name",
            lambda looking: looking.get_task_details(f"x{FIRST + 6 * EACH - 1}"),
            lambda found: found.looked_at > 0,
        ),
    ]


@asynccontextmanager
async def filled() -> AsyncIterator[Server]:
    """A server with all the jobs and clients."""
    server = Server(Path(tempfile.mkdtemp()), "--appendonly", "no")
    server.start()
    async with AsyncExitStack() as stack:
        stack.callback(server.stop)
        redis: Redis = Redis.from_url(server.url, decode_responses=True, protocol=2, socket_timeout=60)
        stack.push_async_callback(redis.aclose)
        for number in range(QUEUES):
            for place, state in enumerate(_STATES):
                first = FIRST + (number * len(_STATES) + place) * EACH
                await seed(redis, "bull", f"q{number}", state, EACH, first=first, now_ms=NOW - 10_000_000)
        await seed(redis, "bull", "big", "completed", MILLION, now_ms=NOW)
        await seed(redis, "bull", "deep", "waiting", MILLION, now_ms=NOW)
        endpoint = Endpoint(url=server.url)
        for number in range(WORKERS + OTHERS):
            client = endpoint.blocking(f"q{number % QUEUES}", f"w{number}") if number < WORKERS else endpoint.commands()
            stack.push_async_callback(client.aclose)
            await client.ping()
        yield server


async def measured(server: Server, rounds: int) -> list[Look]:
    """Each look in turn, round by round; its round trips are counted apart, through a proxy."""
    wanted = looks()
    times: list[list[float]] = [[] for _ in wanted]
    async with looking_at(server.url) as looking:
        for _ in range(rounds + 1):
            for each, ms in zip(wanted, times, strict=True):
                start = time.perf_counter()
                answer = await each.call(looking)
                ms.append((time.perf_counter() - start) * 1000)
                if not each.check(answer):
                    raise SystemExit(f"{each.label}: not the right answer: {str(answer)[:500]}")
    async with RoundTrips(server.port) as counter, looking_at(counter.url) as looking:
        trips = []
        for each in wanted:
            await each.call(looking)
            before = counter.count
            await each.call(looking)
            trips.append(counter.count - before)
    found = zip(wanted, times, trips, strict=True)
    return [Look(each.label, ms[1:], count, each.most_ms, each.most_trips) for each, ms, count in found]


@asynccontextmanager
async def looking_at(url: str) -> AsyncIterator[Looking]:
    """Looks through connections of its own."""
    endpoint = Endpoint(url=url)
    client = endpoint.commands()
    looking = Looking(endpoint, client, [f"q{number}" for number in range(QUEUES)], timeout_s=30, clock=lambda: NOW)
    await looking.queues()
    looking.names._looked_at = float("inf")  # the search for names, every 30 s, is no part of these looks
    yield looking
    await looking.close()
    await client.aclose()


def page(found: list[Look], rounds: int) -> str:
    """All numbers, as a Markdown page."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return "\n".join(
        [
            "# Looks at queues",
            "",
            f"`make bench look`. {platform.python_implementation()} {platform.python_version()}, client and server on "
            f"{os.cpu_count()} cores over loopback; load averages {load}.",
            "",
            f"{QUEUES} queues with {EACH} jobs in each of six states, a million completed jobs in one queue, a million "
            f"waiting ones in another; {WORKERS} connections of workers and {OTHERS} others. Each look in turn, "
            f"{rounds} rounds; pages of {PAGE} jobs. Round trips are counted on the wire.",
            "",
            "| look | median ms | 95th of 100, ms | round trips | asked |",
            "| --- | --- | --- | --- | --- |",
            *(each.row for each in found),
            "",
        ]
    )


async def measure(rounds: int) -> list[Look]:
    """All looks."""
    async with filled() as server:
        return await measured(server, rounds)


def main() -> int:
    """Print the page, and write it if it is a full run. 1: a target was missed; the page says which, and so does
    standard error.
    """
    asked = os.environ.get("ROUNDS")
    if asked is not None and not (asked.isdecimal() and int(asked) > 0):
        raise SystemExit(f"ROUNDS={asked}: a whole number above 0 is needed")
    rounds = int(asked or 100)
    found = asyncio.run(measure(rounds))
    text = page(found, rounds)
    if asked is None:
        RESULTS.write_text(text)
    sys.stdout.write(text)
    missed = [each for each in found if not each.is_met]
    sys.stderr.write("".join(f"missed: {each.label}: {each.median_ms:.2f} ms, {each.trips} trips\n" for each in missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
