"""How late does an idle worker start a job, and how late is a delayed job? The package's Worker beside FleetWorker.

Both idle at the same time on one Valkey, each on its own queue; the job is added by one producer to both.
Run with `make bench`; writes results/idle_and_delays.md.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bullmq import Queue, Worker

from tests.conftest import Server
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint
from workers.broker.hold import Hold
from workers.broker.renewer import Renewer
from workers.broker.settings import WorkerSettings
from workers.broker.worker import FleetWorker

RESULTS = Path(__file__).parent / "results" / "idle_and_delays.md"
IDLE_S = (6, 13, 22)
DELAYS_MS = (50, 100, 200, 300, 500, 700, 1200, 1500)
ROUNDS = 5


class Subject:
    """One worker with its queue and the times at which its jobs started."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.queue = Queue(name, {"connection": url})
        self.started: dict[str, float] = {}

    async def lateness_ms(self, delay_ms: int = 0) -> float:
        """Add a job and tell how long after it was due it started."""
        due = time.monotonic() + delay_ms / 1000
        job = await self.queue.add("n", {}, {"delay": delay_ms})
        while job.id not in self.started:  # noqa: ASYNC110 - waking an event would take longer than a turn
            await asyncio.sleep(0.0005)
        return (self.started[job.id] - due) * 1000

    async def on_stock(self, job: Any, token: str) -> None:
        self.started[job.id] = time.monotonic()

    async def on_fleet(self, job: Activation, hold: Hold) -> Ending:
        self.started[job.id] = time.monotonic()
        return Completed(result=None)


async def measure(url: str) -> str:
    """All numbers, as a Markdown page."""
    stock, fleet = Subject("stock", url), Subject("fleet", url)
    theirs = Worker("stock", stock.on_stock, {"connection": url})
    endpoint = Endpoint(url=url)
    client = endpoint.commands()
    renewer = Renewer(endpoint.commands, endpoint.prefix, on_error=lambda error: None)
    ours = FleetWorker(
        "fleet",
        fleet.on_fleet,
        client=client,
        blocking=endpoint.blocking("fleet", "bench"),
        prefix="bull",
        settings=WorkerSettings(name="bench"),
        renewer=renewer,
        emit=lambda event: None,
    )
    await ours.start()
    idle = []
    for seconds in IDLE_S:
        await asyncio.sleep(seconds)
        late = await asyncio.gather(stock.lateness_ms(), fleet.lateness_ms())
        idle.append(f"| {seconds} s | {late[0]:.0f} | {late[1]:.0f} |")
    delays = []
    for delay in DELAYS_MS:
        rounds = [await asyncio.gather(stock.lateness_ms(delay), fleet.lateness_ms(delay)) for _ in range(ROUNDS)]
        medians = [statistics.median(pair[side] for pair in rounds) for side in (0, 1)]
        delays.append(f"| {delay} ms | {medians[0]:.0f} | {medians[1]:.0f} |")
    await ours.stop(by=time.monotonic() + 2)
    await renewer.stop()
    await theirs.close(force=True)
    await asyncio.gather(stock.queue.close(), fleet.queue.close(), client.aclose())
    head = "| {} | stock `bullmq.Worker`, ms late | FleetWorker, ms late |\n|---|---|---|"
    return "\n".join(
        [
            "# Idle workers and delayed jobs",
            "",
            "`make bench`. One Valkey, both workers idle side by side; the clock starts when the job is due.",
            "",
            head.format("idle before"),
            *idle,
            "",
            f"Median of {ROUNDS}:",
            "",
            head.format("delay"),
            *delays,
            "",
        ]
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--appendonly", "no")
        server.start()
        try:
            page = asyncio.run(measure(server.url))
        finally:
            server.stop()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(page)
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
