"""One run: servers, fleets and a producer are started, tormented for a while, left alone, and held to account."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from redis.asyncio import Redis

from tests.chaos.fleet import ChaosFleet
from tests.chaos.hostile_verdict import HostileVerdict, judge_hostile
from tests.chaos.hostility import BESIDE, Acts
from tests.chaos.hostility import QUEUES as HOSTILE
from tests.chaos.latency import Mail, Spell, neighbours
from tests.chaos.ledger import Ledger
from tests.chaos.mail_sink import MailSink
from tests.chaos.mischief import FleetMischief, ServerMischief
from tests.chaos.producer import QUEUE, Producer
from tests.chaos.verdict import Verdict, judge
from tests.chaos.watcher import Watcher
from tests.conftest import Server, wait_until
from tests.queue_view import QueueView, look

PREFIX = "bull"
#: Seconds that the jobs may need to come to rest once they are left alone, and the producer to have all acknowledged.
REST_S, ACKNOWLEDGED_S = 90.0, 60.0
#: Seconds that the fleets may need to start: ten interpreters, on a machine that may have other work.
READY_S = 90.0
#: Marks the environment of a run's processes, so that none that outlives it goes unseen.
MARK = "CHAOS_RUN"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do.

    Args:
        seed: decides the faults and the jobs, though not how they fall together.
        seconds: how long the faults go on.
        fleets: supervisors, each behind a proxy of its own.
        processes: of each fleet.
        rate: jobs a second.
        only: faults and hostile acts by name; empty for all of them.
        hostile_every_s: the mean time between two hostile jobs, in every other ten seconds.
        rest_s: how long the jobs may need to come to rest afterwards.
    """

    seed: int
    seconds: float
    fleets: int = 2
    processes: int = 2
    rate: float = 20.0
    only: tuple[str, ...] = ()
    hostile_every_s: float = 1.0
    rest_s: float = REST_S


@dataclass(kw_only=True)
class Outcome:
    """What came of it."""

    plan: Plan
    verdict: Verdict
    hostile: HostileVerdict
    late_s: dict[str, list[float]]
    """How late the mails of each group were; see `neighbours`."""
    faults: Counter[str]
    breaks: int
    """Exchanges that were broken as planned."""
    exit_codes: Counter[int]
    """Of the supervisors that were asked to drain."""
    producer: str
    producer_restarts: int
    server: str
    seconds: float
    wrong: list[str] = field(default_factory=list)
    """All that must not be."""


class ChaosRun:
    """See `run`."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self.plan = plan
        self._say = say
        self._mark = secrets.token_hex(8)
        self._server = Server(folder, "--appendonly", "yes", "--appendfsync", "always")
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._sink = MailSink(self._ledger, f"{plan.seed}:mails")
        self._acts = Acts(f"{plan.seed}:acts", plan.only)
        jobs = f"{plan.seed}:jobs"
        self._producer = Producer(self._ledger, self._server.url, plan.rate, jobs, self._acts, plan.hostile_every_s)
        self._watchers = {queue: Watcher(self._server.url, PREFIX, queue) for queue in (QUEUE, *HOSTILE)}
        self._folder = folder
        self._fleets: list[ChaosFleet] = []

    async def run(self) -> Outcome:
        """All of it; whatever was started has ended on return."""
        began = time.monotonic()
        async with self._started():
            watching = [asyncio.create_task(watcher.run()) for watcher in self._watchers.values()]
            faults = await self._torment()
            views = await self._rest()
            await asyncio.gather(*(fleet.terminate() for fleet in self._fleets))
            survivors = await self._survivors()
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)
            for watcher in self._watchers.values():
                await watcher.finish()
            return await self._account(views, faults, survivors, time.monotonic() - began)

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.enter_context(self._ledger)
            await asyncio.to_thread(self._server.start)
            stack.callback(self._server.stop)
            await self._sink.start()
            stack.push_async_callback(self._sink.stop)
            env = {"SMTP_URL": self._sink.url, "FLEET__REDIS__PREFIX": PREFIX, MARK: self._mark}
            for number in range(self.plan.fleets):
                folder = self._folder / f"fleet-{number}"
                folder.mkdir()
                queues = (QUEUE, *HOSTILE) if self._acts.names else (QUEUE,)
                fleet = ChaosFleet(folder.name, self._server.port, env, folder, self.plan.processes, queues)
                stack.push_async_callback(fleet.close)
                self._fleets.append(fleet)
                await fleet.start()
            await wait_until(self._ready, timeout_s=READY_S, every_s=0.1)
            yield

    def _ready(self) -> bool:
        return all(fleet.command.is_ready for fleet in self._fleets)

    async def _torment(self) -> Counter[str]:
        """Faults and jobs at once, for the planned time; then no more of either."""
        stop_faults, stop_jobs = asyncio.Event(), asyncio.Event()
        torments: list[FleetMischief | ServerMischief] = [
            *(FleetMischief(fleet, self.plan.seed, self.plan.only) for fleet in self._fleets),
            ServerMischief(self._server, self.plan.seed, self.plan.only),
        ]
        tasks = [asyncio.create_task(torment.run(stop_faults)) for torment in torments]
        producing = asyncio.create_task(self._producer.run(stop_jobs))
        try:
            await self._watch_over({*tasks, producing})
            stop_faults.set()
            await asyncio.gather(*tasks)
            for fleet in self._fleets:
                fleet.proxy.heal()
            stop_jobs.set()
            await asyncio.wait_for(producing, ACKNOWLEDGED_S)
        finally:
            for task in (*tasks, producing):
                task.cancel()
            await asyncio.gather(*tasks, producing, return_exceptions=True)
        return sum((torment.counts for torment in torments), Counter())

    async def _watch_over(self, tasks: set[asyncio.Task[None]]) -> None:
        end = time.monotonic() + self.plan.seconds
        while (left := end - time.monotonic()) > 0:
            done, _ = await asyncio.wait(tasks, timeout=min(left, 10.0), return_when=asyncio.FIRST_COMPLETED)
            for task in done:  # none ends by itself
                task.result()
            delivered = sum(bool(entry.deliveries) for entry in self._ledger.entries.values())
            self._say(f"{left:4.0f} s left, {len(self._ledger.added)} jobs added, {delivered} delivered")

    async def _rest(self) -> dict[str, QueueView]:
        """Wait until every job is done; the queues then, or as far as they came."""
        async with Redis.from_url(self._server.url, decode_responses=True, protocol=2) as client:

            async def views() -> dict[str, QueueView]:
                return {queue: await look(client, PREFIX, queue) for queue in self._watchers}

            async def at_rest() -> bool:
                done = sum(view.count("completed", "failed") for view in (await views()).values())
                return done >= sum(len(self._added(queue)) for queue in self._watchers)

            condition: Callable[[], bool | Awaitable[bool]] = at_rest
            self._say("no more faults; waiting for the jobs to come to rest")
            with suppress(AssertionError):  # the views show what is missing
                await wait_until(condition, timeout_s=self.plan.rest_s, every_s=0.5)
            return await views()

    def _added(self, queue: str) -> list[str]:
        return self._ledger.added if queue == QUEUE else self._ledger.hostile_added(queue)

    async def _survivors(self) -> list[psutil.Process]:
        """Processes of the fleets that still live; orphans are given the time to drain."""

        def alive() -> list[psutil.Process]:
            found = []
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
            return found

        with suppress(AssertionError):
            await wait_until(lambda: not alive(), timeout_s=20.0, every_s=0.2)
        return [process for process in alive()]

    async def _account(
        self, views: dict[str, QueueView], faults: Counter[str], survivors: list[psutil.Process], seconds: float
    ) -> Outcome:
        async with Redis.from_url(self._server.url, decode_responses=True, protocol=2) as client:
            reasons = {}
            for queue, view in views.items():
                for job in (job for job, places in view.places.items() if "failed" in places):
                    row: Any = await client.hgetall(f"{PREFIX}:{queue}:{job}")
                    reasons[job] = row.get("failedReason", "")
            info: Any = await client.info("server")
        told = sum((fleet.completions() for fleet in self._fleets), Counter())
        events = {job: counts for watcher in self._watchers.values() for job, counts in watcher.counts.items() if job}
        verdict = judge(self._ledger, views[QUEUE], reasons, events, told)
        hostile = judge_hostile(self._ledger, views, reasons, events, faults)
        wrong = [*verdict.wrong, *hostile.wrong]
        wrong += [said for fleet in self._fleets for said in fleet.problems + fleet.proxy.problems]
        wrong += [f"process {process.pid} outlived its fleet" for process in survivors]
        for process in survivors:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        return Outcome(
            plan=self.plan,
            verdict=verdict,
            hostile=hostile,
            late_s=self._lateness(),
            faults=faults,
            breaks=sum(planned.fired.is_set() for fleet in self._fleets for planned in fleet.proxy.breaks),
            exit_codes=sum((fleet.exit_codes for fleet in self._fleets), Counter()),
            producer=self._producer.kind,
            producer_restarts=self._producer.restarts,
            server=f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}",
            seconds=seconds,
            wrong=wrong,
        )

    def _lateness(self) -> dict[str, list[float]]:
        places = {job: place for fleet in self._fleets for job, place in fleet.places().items()}
        mails = [
            Mail(entry.due_at, entry.deliveries[0], places.get(job, ""), entry.server_s)
            for job, entry in self._ledger.entries.items()
            if entry.deliveries and entry.due_at is not None and not entry.put_off
        ]
        spells = []
        for job, entry in self._ledger.hostile.items():
            runs = self._watchers[entry.queue].runs.get(job, [])
            for number, (begin, end) in enumerate(runs, start=1):
                # It is told where a job ended; where the starts before that were is not.
                place = places.get(job, "") if number == len(runs) else ""
                spells.append(Spell(entry.act, begin, end, entry.queue == BESIDE, place))
        return neighbours(mails, spells)
