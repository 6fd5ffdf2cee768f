"""Hazards of what a job, its processor or a listener does: H5, H12, H13, H14, H15, H18, H19."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from typing import Any

from tests.hazards.reproduction import Make, Reproduction, Seen
from tests.hazards.subject import Lab


async def escaped_cancellation(make: Make, lab: Lab) -> Seen:
    async def work(job_id: str) -> None:
        await asyncio.sleep(0.3)
        if job_id == "bad":
            raise asyncio.CancelledError

    subject = make(lab.url, work, slots=3)
    for job_id in ("bad", "one", "two", "after"):
        await lab.add(job_id)
    await subject.start()
    others = {"one", "two", "after"}
    await lab.until(lambda: others <= set(subject.completed), 5)
    left = len(others - set(subject.completed))
    told = subject.failed.get("bad") or "; ".join(subject.errors) or "nothing"
    return Seen(left > 0, f"{left} of 3 other jobs never ended; told: {told}")


async def results_that_are_no_json(make: Make, lab: Lab) -> Seen:
    results = {"set": {1, 2}, "bytes": b"x", "NaN": math.nan}

    async def work(job_id: str) -> Any:
        return results[job_id]

    subject = make(lab.url, work, slots=3)
    for job_id in results:
        await lab.add(job_id)
    await subject.start()
    await lab.until(lambda: len(subject.completed) + len(subject.failed) == len(results), 5)
    said = ", ".join([f"{job_id}: {await _state(lab, job_id)}" for job_id in results])
    return Seen(bool(subject.failed), f"jobs whose processor returned: {said}")


async def _state(lab: Lab, job_id: str) -> str:
    for state in ("completed", "failed", "delayed"):
        if await lab.redis.zscore(f"bull:q:{state}", job_id) is not None:
            return state
    return "active" if job_id in await lab.redis.lrange("bull:q:active", 0, -1) else "waiting"


async def bad_rows(make: Make, lab: Lab) -> Seen:
    rows: dict[str, Any] = {
        "data": {"data": "{nope"},
        "attempts": {"opts": json.dumps({"attempts": None})},
        "delay": {"opts": json.dumps({"attempts": 2, "backoff": {"type": "exponential"}})},
        "backoff": {"opts": json.dumps({"attempts": 2, "backoff": {"type": "fibonacci", "delay": 1}})},
    }

    async def work(job_id: str) -> None:
        raise ValueError("the real reason")

    subject = make(lab.url, work)
    for job_id, fields in rows.items():
        await lab.add(job_id)
        await lab.redis.hset(f"bull:q:{job_id}", mapping=fields)
    await subject.start()
    await lab.until(lambda: len(subject.failed) == len(rows), 8)
    reasons = {job_id: (await lab.row(job_id)).get("failedReason", "none") for job_id in rows}
    wrong = {id_: said for id_, said in reasons.items() if "real reason" not in said and "data: not JSON" not in said}
    said = "; ".join(f"{job_id}: {reason[:60]}" for job_id, reason in reasons.items())
    return Seen(bool(wrong), f"reasons after 8 s at most: {said}")


async def raising_listeners(make: Make, lab: Lab) -> Seen:
    late = make(lab.url, raise_on="completed")
    await late.start()
    await lab.add("ended")
    await lab.until(lambda: late.errors or late.failed, 1)
    harmed = [*late.errors, *late.failed.values()]
    await late.close(2)
    early = make(lab.url, raise_on="active")
    await early.start()
    await lab.add("begun")
    await lab.until(lambda: early.completed, 3)
    begun = bool(early.completed)
    said = f"`completed` listener: {harmed[0][:60] if harmed else 'no harm'}"
    said += f"; `active` listener: {'no harm' if begun else 'its job does not run'}"
    return Seen(bool(harmed) or not begun, said)


async def shared_token(make: Make, lab: Lab) -> Seen:
    go = asyncio.Event()

    async def work(job_id: str) -> None:
        await go.wait()

    subject = make(lab.url, work, slots=10)
    for number in range(10):
        await lab.add(f"j{number}")
    await subject.start()
    await lab.until(lambda: len(subject.started) == 10, 5)
    tokens = {await lab.redis.get(f"bull:q:{job_id}:lock") for job_id in subject.started}
    go.set()
    return Seen(len(tokens) < 10, f"10 jobs in flight carry {len(tokens)} lock tokens")


async def blocked_loop(make: Make, lab: Lab) -> Seen:
    started: list[str] = []
    ended = threading.Event()

    async def work(job_id: str) -> None:
        started.append(threading.current_thread().name)
        time.sleep(2.5)  # noqa: ASYNC251 - what it is about

    async def rival() -> None:
        other = make(lab.url, work, stalled_ms=200, drain_s=0.2)
        await other.start()
        await asyncio.to_thread(ended.wait)
        await other.close(2)

    subject = make(lab.url, work)
    await lab.add("j")
    await subject.start()
    thread = threading.Thread(target=lambda: asyncio.run(rival()), daemon=True)
    loop = asyncio.get_running_loop()
    loop.call_later(0, thread.start)
    await lab.until(lambda: subject.completed or subject.failed or len(started) > 1, 8)
    await asyncio.sleep(0.5)
    ended.set()
    return Seen(len(started) > 1, f"a processor that blocks its loop for 2.5 locks was run {len(started)}×")


async def shared_options(make: Make, lab: Lab) -> Seen:
    subject = make(lab.url, keep_completed={"count": 5})
    await lab.add("j")
    await subject.start()
    await lab.until(lambda: subject.completed, 5)
    rule = subject.opts_seen["j"].get("removeOnComplete")
    return Seen(rule is not None, f"the worker's keep rule in the options of its job: {rule or 'none'}")


REPRODUCTIONS = {
    "H5": Reproduction("An escaped CancelledError ends the worker", escaped_cancellation, "test_hazards_processor.py"),
    "H12": Reproduction(
        "A result that is no JSON fails its job", results_that_are_no_json, "test_worker.py, test_hazards_rows.py"
    ),
    "H13": Reproduction("Bad rows stay active, their reasons are lost", bad_rows, "test_hazards_rows.py"),
    "H14": Reproduction("Listeners that raise", raising_listeners, "test_hazards_listeners.py"),
    "H15": Reproduction("A burst of fetches shares one token", shared_token, "test_hazards_processor.py"),
    "H18": Reproduction("A processor that blocks the loop", blocked_loop, "test_hazards_processor.py"),
    "H19": Reproduction("Options that are shared", shared_options, "test_hazards_rows.py"),
}
