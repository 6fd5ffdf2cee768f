"""The recorded show: a steady stream of mails, and a hostile module that does one thing after the other in the same
pool. `make bench neighbours` takes about eight minutes and writes results/neighbours.md; with ACTS=2 it plays the first
two acts of each scene and only prints. Fails where a mail is lost, or a hostile job ends in another way than it has to.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from bullmq import Queue
from redis.asyncio import Redis

from tests.acceptance.fleet_command import FleetCommand, environment
from tests.benchmarks.neighbourhood.acts import SCENES, Act, Scene, configuration, shortened
from tests.benchmarks.neighbourhood.page import Played, Shown, failed, page
from tests.benchmarks.neighbourhood.stream import EVERY_S, MailStream
from tests.conftest import Server, wait_until

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "neighbours.md"
#: An act is played again and again for so long, seconds: some last for a moment.
ACT_S = 3.0
#: How long a hostile job may take to end, seconds: more than a blocked process lives after its last job's last rung.
JOB_S = 100.0
#: Between the moment in which a fleet is whole again and the next act, seconds: its processes tell how they are once a
#: second.
TOLD_S = 2.0
#: How long the mails are alone after the last act, seconds.
AFTER_S = 5.0


class Neighbour:
    """Adds hostile jobs, one after the other, and tells how each ended."""

    def __init__(self, queue: Any, redis: Redis, fleet: FleetCommand) -> None:
        self._queue = queue
        self._redis = redis
        self._fleet = fleet
        self._count = 0

    async def play(self, act: Act, stream: MailStream) -> Shown:
        """The act for ACT_S, or once where that takes longer; and what the mails felt. Waits for a fleet that is whole,
        in case that the act before has cost it a process.
        """
        await readiness(self._fleet)
        await asyncio.sleep(TOLD_S)
        begin = time.monotonic()
        jobs: list[str] = []
        while not jobs or time.monotonic() < begin + ACT_S:
            jobs.append(await self._job(act))
        end = time.monotonic()
        await stream.caught_up()
        ends = [await self._ending(job) for job in jobs]
        with suppress(AssertionError):  # a line of the log comes soon after the job's end
            await wait_until(
                lambda: len(self._classes(set(jobs))) >= sum(map(failed, ends)), timeout_s=2.0, every_s=0.1
            )
        return Shown(
            title=act.title,
            expected=act.ends,
            ends=tuple(ends),
            classes=tuple(self._classes(set(jobs))),
            mails_s=tuple(stream.latencies_s(begin, end)),
        )

    async def _job(self, act: Act) -> str:
        self._count += 1
        job = f"hostile-{self._count:05d}"
        data: dict[str, Any] = {"type": "hostile", "id": job, "act": act.act, "args": dict(act.args)}
        if act.timeout_s is not None:
            data["timeout"] = round(act.timeout_s * 1000)
        await self._queue.add("hostile", data, {"jobId": job})

        async def has_ended() -> Any:
            return bool(await self._field(job, "finishedOn"))

        with suppress(AssertionError):  # told by `_ending`
            await wait_until(has_ended, timeout_s=JOB_S)
        return job

    async def _field(self, job: str, name: str) -> str | None:
        value: Any = await self._redis.hget(f"bull:hostile:{job}", name)
        return None if value is None else str(value)

    async def _ending(self, job: str) -> str:
        if await self._field(job, "finishedOn") is None:
            return f"not ended after {JOB_S:g} s"
        reason = await self._field(job, "failedReason")
        return "completed" if reason is None else f"failed: {reason}"

    def _classes(self, jobs: set[str]) -> list[str]:
        """What the log calls the failures of these jobs."""
        return [
            record["failure"]
            for record in self._fleet.records(level="error")
            if record.get("job_id") in jobs and "failure" in record
        ]


@asynccontextmanager
async def served(scene: Scene, redis: str, mail: str, folder: Path) -> AsyncIterator[FleetCommand]:
    """A real `fleet run` of the scene, ready. What Python compiles is shared with the scenes beside its folder."""
    file = folder / "fleet.yaml"
    file.write_text(json.dumps(configuration(scene, redis, mail)))  # which is YAML
    command = [sys.executable, "-m", "workers", "run", "-c", str(file)]
    env = environment({"PYTHONPATH": str(ROOT)}, folder.parent / "compiled")
    fleet = await asyncio.to_thread(FleetCommand, command, env=env, cwd=folder)
    try:
        await readiness(fleet)
        yield fleet
    finally:
        await asyncio.to_thread(fleet.kill)


async def readiness(fleet: FleetCommand) -> None:
    """Return when all of its processes serve."""

    async def is_ready() -> Any:  # in a thread, since the mail server that it looks at runs in this loop
        return await asyncio.to_thread(lambda: fleet.is_ready)

    await wait_until(is_ready, timeout_s=60.0, every_s=0.1)


async def play(scene: Scene, folder: Path) -> Played:
    """One scene, on a server of its own."""
    played = Played(scene)
    server = Server(folder, "--appendonly", "no")
    await asyncio.to_thread(server.start)
    try:
        async with AsyncExitStack() as stack:
            redis = Redis.from_url(server.url, decode_responses=True, protocol=2)
            stack.push_async_callback(redis.aclose)
            queue = Queue("hostile", {"connection": server.url})
            stack.push_async_callback(queue.close)
            stream = await stack.enter_async_context(MailStream(server.url))
            fleet = await stack.enter_async_context(served(scene, server.url, stream.url, folder))
            neighbour = Neighbour(queue, redis, fleet)
            stream.begin()
            played.quiet_s = await alone(stream, scene.quiet_s)
            for act in scene.acts:
                sys.stderr.write(f"{scene.title}: {act.title}\n")
                played.acts.append(await neighbour.play(act, stream))
            played.after_s = await alone(stream, AFTER_S)
            await stream.finish()
            if played.faults():
                sys.stderr.write("\n".join([*aside(fleet), ""]))
            played.mails, played.lost, played.twice = len(stream.added), stream.lost, stream.twice
            played.exit_code = await fleet.terminate()
    finally:
        server.stop()
    return played


def aside(fleet: FleetCommand) -> list[str]:
    """The end of what the fleet said besides how its jobs went."""
    quiet = ("fleet.jobs", "fleet.output")
    said = [record for record in fleet.records() if record["logger"] not in quiet and record["level"] != "info"]
    return [f"{record['timestamp']} {record['level']} {record['event']}" for record in said[-20:]]


async def alone(stream: MailStream, seconds: float) -> list[float]:
    """Latencies of the mails that nobody disturbs; the first second, in which connections are made, does not count."""
    await asyncio.sleep(1)
    begin = time.monotonic()
    await asyncio.sleep(seconds)
    end = time.monotonic()
    await stream.caught_up()
    return stream.latencies_s(begin, end)


def head(load: float) -> str:
    """What was played, and on what."""
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"`make bench neighbours`. CPython {python}, {psutil.cpu_count()} cores, load average {load:.1f} before the "
        "first scene: compare with the rows before and after, not with other machines. Each scene is a real `fleet "
        f"run` on a Valkey and a mail server of its own, with the settings that are shipped, but for `deaths: 1`, so "
        "that a job whose process dies is not tried again, and 10 s for a mail, since a blocked process is killed when "
        "none of its jobs may run any more; the neighbour's own jobs are cancelled and killed after a few seconds, as "
        "the table says. A mail is added every "
        f"{EVERY_S * 1000:.0f} ms; its latency runs from before its producer's call to the server's 250. The neighbour "
        f"plays each act for {ACT_S:g} s, job after job, or one job where that takes longer; a mail belongs to the act "
        "during which it was added."
    )


async def show(acts: int | None) -> list[Played]:
    """All scenes."""
    shows = []
    with tempfile.TemporaryDirectory() as directory:
        for number, scene in enumerate(SCENES):
            folder = Path(directory) / str(number)
            folder.mkdir()
            shows.append(await play(scene if acts is None else shortened(scene, acts), folder))
    return shows


def main() -> None:
    acts = os.environ.get("ACTS")
    if acts is not None and not (acts.isdecimal() and int(acts) > 0):
        raise SystemExit(f"ACTS={acts}: a whole number above 0 is needed")
    load = psutil.getloadavg()[0]
    shows = asyncio.run(show(int(acts) if acts else None))
    text = page(shows, head(load))
    if acts is None:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)
    sys.stdout.write(text)
    if faults := [fault for played in shows for fault in played.faults()]:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
