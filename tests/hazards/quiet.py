"""Hazards of a worker that has little or nothing to do: H1, H2, H3, H16, H17."""

from __future__ import annotations

import asyncio
import statistics
import time

from tests.hazards.reproduction import Make, Reproduction, Seen
from tests.hazards.subject import Lab

#: With the defaults of both libraries: the block is as long as the client's time-out, 5 s.
DEFAULT_DRAIN_S = 5.0
IDLE_S = 13
DELAYS_MS = (50, 200, 300, 700)


async def idle_deafness(make: Make, lab: Lab) -> Seen:
    subject = make(lab.url, drain_s=DEFAULT_DRAIN_S)
    await subject.start()
    await asyncio.sleep(IDLE_S)
    added = time.monotonic()
    await lab.add("j")
    await lab.until(lambda: subject.started, 20)
    late_s = time.monotonic() - added
    return Seen(late_s > 0.5, f"after {IDLE_S} s of silence a job started {late_s:.2f} s late")


async def deaf_events(make: Make, lab: Lab) -> Seen:
    # The worker's own client waits long enough: what is late here is the listener alone.
    subject = make(lab.url, drain_s=DEFAULT_DRAIN_S, patient=True)
    await subject.start()
    heard = subject.listen(lab.url)
    await asyncio.sleep(6)
    await lab.add("j")
    ended = await lab.until(lambda: subject.completed, 5)
    await lab.until(lambda: heard, 8)
    share = f"{len(heard)} of {int(ended)}"
    return Seen(not heard, f"a listener that heard nothing for 6 s was told of {share} jobs that completed then")


async def rounded_delays(make: Make, lab: Lab) -> Seen:
    subject = make(lab.url, drain_s=DEFAULT_DRAIN_S)
    await subject.start()
    late_ms = []
    for delay in DELAYS_MS:
        due = time.monotonic() + delay / 1000
        await lab.add(str(delay), delay=delay)
        await lab.until(lambda delay=delay: str(delay) in subject.started, 5)  # type: ignore[misc]
        late_ms.append((time.monotonic() - due) * 1000)
    said = ", ".join(f"{delay} → +{late:.0f}" for delay, late in zip(DELAYS_MS, late_ms, strict=True))
    return Seen(statistics.median(late_ms) > 250, f"delays in ms: {said}")


async def start_without_redis(make: Make, lab: Lab) -> Seen:
    async with lab.proxied() as proxy:
        proxy.refuse()
        # What the package's client does after its 20 tries, six minutes; here after the first.
        subject = make(proxy.url, retries=False)
        await subject.start()
        await asyncio.sleep(1.5)
        proxy.heal()
        await lab.add("j")
        served = await lab.until(lambda: subject.completed, 6)
        told = f"; errors told: {len(subject.errors)}"
        if served:
            return Seen(False, "Redis came 1.5 s after the worker, and it served" + told)
        return Seen(True, "Redis came 1.5 s after the worker, which never served" + told)


async def idle_burst(make: Make, lab: Lab) -> Seen:
    subject = make(lab.url, slots=100, drain_s=DEFAULT_DRAIN_S)
    await subject.start()
    await lab.add("first")
    await lab.until(lambda: subject.completed, 5)
    await asyncio.sleep(0.3)
    jobs, before = 20, await lab.calls("evalsha")
    for number in range(jobs):
        await lab.add(f"j{number}")
        await asyncio.sleep(0.03)
    await lab.until(lambda: len(subject.completed) == jobs + 1, 10)
    each = (await lab.calls("evalsha") - before) / jobs
    return Seen(each > 10, f"100 slots, a job each 30 ms: {each:.0f} scripts a job")


REPRODUCTIONS = {
    "H1": Reproduction("Idle deafness", idle_deafness, "test_hazards_idle.py", limit_s=40),
    "H2": Reproduction("Listeners miss events after silence", deaf_events, "test_hazards_idle.py", limit_s=40),
    "H3": Reproduction("Delays rounded up to whole seconds", rounded_delays, "test_worker.py"),
    "H16": Reproduction("A start without Redis ends the worker", start_without_redis, "test_hazards_idle.py"),
    "H17": Reproduction("One job wakes every free slot", idle_burst, "test_hazards_idle.py"),
}
