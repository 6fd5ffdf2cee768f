"""The faults: which come next is drawn from the seed, and each leaves its fleet whole again when it is over."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import ClassVar

import psutil

from tests.chaos.fleet import LOCK_S, ChaosFleet
from tests.conftest import Server
from tests.fault_plan import POINTS, Direction, named

#: Seconds between two faults of one fleet, and between two restarts of Redis.
PAUSE_S, SERVER_PAUSE_S = (0.5, 3.0), (15.0, 35.0)
#: Exchanges that leave open what happened when they break.
EXCHANGES = ("moveToActive", "moveToFinished", "moveToDelayed", "moveJobFromActiveToWait", "extendLocks", "BZPOPMIN")
DIRECTIONS: tuple[Direction, ...] = ("up", "down")


async def _over(stop: asyncio.Event, after_s: float) -> bool:
    """Wait so long, or until `stop`; whether it was that."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), after_s)
    return stop.is_set()


class FleetMischief:
    """Torments one fleet. Each method is one fault, from its beginning to its end."""

    #: How often each comes, beside the others.
    WEIGHTS: ClassVar[dict[str, int]] = {
        "kill process": 3,
        "kill supervisor": 1,
        "kill children": 3,
        "stop process": 2,
        "stop everything": 2,
        "replace": 2,
        "replace in a hurry": 1,
        "reset": 2,
        "break exchange": 6,
        "cut": 2,
        "black hole": 2,
        "freeze": 2,
        "half open": 2,
        "refuse": 2,
        "slow down": 2,
    }

    def __init__(self, fleet: ChaosFleet, seed: int, only: Collection[str]) -> None:
        self.counts: Counter[str] = Counter()
        self._fleet = fleet
        self._draw = random.Random(f"{seed}:{fleet.name}")
        self._weights = {name: weight for name, weight in self.WEIGHTS.items() if not only or name in only}

    async def run(self, stop: asyncio.Event) -> None:
        """Torment until `stop`, then let the fault that is under way come to its end."""
        while self._weights and not await _over(stop, self._draw.uniform(*PAUSE_S)):
            (name,) = self._draw.choices(list(self._weights), weights=list(self._weights.values()))
            self.counts[name] += 1
            await getattr(self, name.replace(" ", "_"))()
        await stop.wait()

    # -------------------------------------------------------------- processes

    async def kill_process(self) -> None:
        """SIGKILL one process; its supervisor starts another."""
        self._signal(self._some_child(), signal.SIGKILL)

    async def kill_children(self) -> None:
        """SIGKILL every process that runs jobs for the pool processes, which live on."""
        self._signal(self._fleet.grandchildren(), signal.SIGKILL)

    async def kill_supervisor(self) -> None:
        """SIGKILL the supervisor, whose orphans drain beside the next fleet."""
        self._fleet.command.send(signal.SIGKILL)
        await self._fleet.command.exit_code()
        await self._fleet.start()

    async def stop_process(self) -> None:
        """SIGSTOP one process for longer than a lock lives."""
        await self._stop(self._some_child())

    async def stop_everything(self) -> None:
        """SIGSTOP the supervisor too, so that nobody renews for the process."""
        supervisor = self._fleet.command
        supervisor.send(signal.SIGSTOP)
        try:
            await self._stop([*self._fleet.children()])
        finally:
            supervisor.send(signal.SIGCONT)

    async def replace(self) -> None:
        """SIGTERM, then a new fleet, as in a deployment."""
        await self._fleet.terminate()
        await self._fleet.start()

    async def replace_in_a_hurry(self) -> None:
        """Two SIGTERM."""
        await self._fleet.terminate(hurried=True)
        await self._fleet.start()

    def _some_child(self) -> list[psutil.Process]:
        children = self._fleet.children()
        draw = self._draw.random()  # drawn in any case: the sequence must not depend on what runs
        return [children[int(draw * len(children))]] if children else []

    async def _stop(self, processes: Iterable[psutil.Process]) -> None:
        processes = tuple(processes)
        seconds = LOCK_S * self._draw.uniform(1.2, 2.0)
        self._signal(processes, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._signal(processes, signal.SIGCONT)

    @staticmethod
    def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    # ---------------------------------------------------------------- network

    async def reset(self) -> None:
        """RST on every connection."""
        self._fleet.proxy.reset()

    async def break_exchange(self) -> None:
        """Break a connection at a chosen point of a chosen exchange."""
        point, exchange = self._draw.choice(POINTS), self._draw.choice(EXCHANGES)
        self._fleet.proxy.break_at(point, named(exchange), nth=self._draw.randint(1, 5))

    async def cut(self) -> None:
        """Break a connection somewhere within a message."""
        self._fleet.proxy.cut_after(self._draw.randint(0, 20_000), self._draw.choice(DIRECTIONS))

    async def black_hole(self) -> None:
        self._fleet.proxy.black_hole()
        await self._heal_after(LOCK_S * 2)

    async def freeze(self) -> None:
        self._fleet.proxy.freeze(*self._draw.choice((DIRECTIONS[:1], DIRECTIONS[1:], DIRECTIONS)))
        await self._heal_after(LOCK_S * 2)

    async def half_open(self) -> None:
        self._fleet.proxy.half_open(self._draw.choice(DIRECTIONS))
        await self._heal_after(LOCK_S)

    async def refuse(self) -> None:
        self._fleet.proxy.refuse()
        await self._heal_after(LOCK_S * 2)

    async def slow_down(self) -> None:
        """A round trip takes up to a second."""
        for direction in DIRECTIONS:
            self._fleet.proxy.delay_s[direction] = self._draw.uniform(0.01, 0.5)
        await self._heal_after(LOCK_S)

    async def _heal_after(self, at_most_s: float) -> None:
        try:
            await asyncio.sleep(self._draw.uniform(0.2, at_most_s))
        finally:
            self._fleet.proxy.heal()


class ServerMischief:
    """Restarts Redis, by SIGTERM or SIGKILL; with `appendfsync always` it loses nothing that it has answered to."""

    NAMES: ClassVar[tuple[str, ...]] = ("restart Redis", "kill Redis")

    def __init__(self, server: Server, seed: int, only: Collection[str]) -> None:
        self.counts: Counter[str] = Counter()
        self._server = server
        self._draw = random.Random(f"{seed}:redis")
        self._names = [name for name in self.NAMES if not only or name in only]

    async def run(self, stop: asyncio.Event) -> None:
        """Torment until `stop`; the server is up then."""
        while self._names and not await _over(stop, self._draw.uniform(*SERVER_PAUSE_S)):
            name, away_s = self._draw.choice(self._names), self._draw.uniform(0.0, LOCK_S * 1.5)
            self.counts[name] += 1
            await self._restart(name == "kill Redis", away_s)
        await stop.wait()

    async def _restart(self, kills: bool, away_s: float) -> None:
        if kills and self._server.process is not None:
            self._server.process.kill()
        await asyncio.to_thread(self._server.stop)
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self._server.start)


#: Every fault by name.
NAMES = (*FleetMischief.WEIGHTS, *ServerMischief.NAMES)
