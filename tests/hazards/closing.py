"""Hazards of a worker that closes: H4, H6, H10, H11."""

from __future__ import annotations

import asyncio
import time

from tests.hazards.reproduction import Make, Reproduction, Seen
from tests.hazards.subject import Lab


async def lock_dropped_while_closing(make: Make, lab: Lab) -> Seen:
    async def work(job_id: str) -> None:
        await asyncio.sleep(0.3 if job_id == "short" else 4)

    subject = make(lab.url, work, slots=2)
    await lab.add("short")
    await lab.add("long")
    await subject.start()
    await lab.until(lambda: len(subject.started) == 2, 5)
    closing = asyncio.ensure_future(subject.close(10))
    rival = make(lab.url, work)
    await rival.start()
    await asyncio.wait({closing}, timeout=10)
    await lab.until(lambda: "long" in rival.completed, 1)
    runs = [*subject.started, *rival.started].count("long")
    return Seen(runs > 1, f"closed with two jobs running: the one that outlived its lock ran {runs}×")


async def close_that_spins(make: Make, lab: Lab) -> Seen:
    async def work(job_id: str) -> None:
        await asyncio.sleep(60)

    subject = make(lab.url, work)
    await lab.add("j")
    await subject.start()
    await lab.until(lambda: subject.started, 5)
    lab.background = asyncio.ensure_future(subject.close(60))
    await asyncio.sleep(0.2)
    return Seen(False, "the event loop ended while close() was waiting for a job")


async def close_without_redis(make: Make, lab: Lab) -> Seen:
    async def work(job_id: str) -> None:
        await asyncio.sleep(0.5)

    async with lab.proxied() as proxy:
        subject = make(proxy.url, work)
        await lab.add("j")
        await subject.start()
        await lab.until(lambda: subject.started, 5)
        proxy.refuse()
        began = time.monotonic()
        closing = asyncio.ensure_future(subject.close(2))
        done, _ = await asyncio.wait({closing}, timeout=15)
        took = time.monotonic() - began
        if not done:
            return Seen(True, "Redis went away with a job of 0.5 s running: not closed after 15 s")
        closing.result()
        return Seen(False, f"Redis went away with a job of 0.5 s running: closed after {took:.1f} s, as it was told")


async def job_fetched_while_closing(make: Make, lab: Lab) -> Seen:
    async def work(job_id: str) -> None:
        await asyncio.sleep(0.5)

    subject = make(lab.url, work)
    await subject.start()
    subject.slow_fetch(0.5)
    await lab.add("j")
    await asyncio.wait_for(subject.fetched.wait(), 10)
    await subject.close(5)
    ended = bool(subject.completed)
    await asyncio.sleep(1)
    if ended or not subject.started:
        waits = await lab.redis.llen("bull:q:wait")
        what = "completed" if ended else "is back in wait" if waits else "stays active"
        return Seen(what == "stays active", f"a fetch was under way: its job {what}")
    return Seen(True, "a fetch was under way: close() was done, and its job ran on")


REPRODUCTIONS = {
    "H4": Reproduction("Closing stops the renewal of locks", lock_dropped_while_closing, "test_worker.py"),
    "H6": Reproduction(
        "close() spins for ever",
        close_that_spins,
        "test_hazards_close.py",
        limit_s=12,
        hang="the process never ends: close() spins at 100 % CPU",
    ),
    "H10": Reproduction("close() without Redis has no end", close_without_redis, "test_outage.py"),
    "H11": Reproduction("A job that is fetched while closing", job_fetched_while_closing, "test_executor_in_worker.py"),
}
