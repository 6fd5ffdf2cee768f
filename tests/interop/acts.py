"""An execution that does what a job's `data.do` asks for, one step after the other; the words of node/bridge.mjs."""

from __future__ import annotations

import asyncio
from typing import Any

from workers.broker.activation import Activation
from workers.broker.endings import AwaitingChildren, Completed, Delayed, Ending, Failed, RateLimited, Requeued
from workers.broker.hold import Hold
from workers.contract import Verdict
from workers.runtime import retry


class Stop(Exception):
    """The run ends so."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending


async def acts(job: Activation, hold: Hold) -> Ending:
    """Run the steps. Failures are decided as in the executor, without settings of a queue."""
    steps = job.data.get("do", []) if isinstance(job.data, dict) else []
    try:
        for verb, value in steps:
            await _step(verb, value, job, hold)
    except Stop as stop:
        return stop.ending
    return Completed(result={"by": "python", "id": job.id})


async def _step(verb: str, value: Any, job: Activation, hold: Hold) -> None:
    if ending := _ending(verb, value, job):
        raise Stop(ending)
    match verb:
        case "sleep":
            await asyncio.sleep(value / 1000)
        case "progress":
            await hold.progress(value)
        case "log":
            await hold.log(value)
        case "children":
            raise Stop(Completed(result=await hold.children_values()))
        case "failures":
            raise Stop(Completed(result=await hold.children_failures()))


def _ending(verb: str, value: Any, job: Activation) -> Ending | None:
    again = job.fence > 1
    match verb:
        case "return":
            return Completed(result=value)
        case "fail":
            return failure(value, job)
        case "fail_times" if job.attempts_made < value:
            return failure(f"attempt {job.attempts_made + 1}", job)
        case "unrecoverable":
            return failure(value, job, Verdict(retry=False))
        case "delay_once" if not again:
            return Delayed(delay_ms=value, reason="later")
        case "delay":
            return Delayed(delay_ms=value, reason="later")
        case "requeue_once" if not again:
            return Requeued(reason="next step")
        case "await_children" if not again:
            return AwaitingChildren(reason="children")
        case "rate_limit_once" if not again:
            return RateLimited(delay_ms=value, reason="429")
    return None


def failure(reason: str, job: Activation, verdict: Verdict | None = None) -> Ending:
    """Another attempt or the end, as the job's own options say."""
    ending = retry.after_failure(
        reason=reason,
        error="Error",
        stack=f"Error: {reason}\n  at a line of ours",
        verdict=verdict or Verdict(),
        attempts_made=job.attempts_made,
        opts=job.opts,
        policy=retry.RetryPolicy(),
        draw=0.5,
    )
    assert isinstance(ending, Failed) or ending.delay_ms >= 0
    return ending
