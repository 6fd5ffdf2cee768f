"""A Node producer adds mails, the mail server fails some of them, a supervised fleet delivers: what became of each?

`python -m tests.acceptance.thousand_mails` adds 1,000 with 5 % failures, prints a table, and exits with 1 unless every
mail was delivered once or failed with a reason. Needs Node and the packages of tests/interop/node.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.acceptance.fleet_command import FleetCommand, environment
from tests.acceptance.mail_host import MailHost
from tests.conftest import Server

QUEUE = "email-send"
NODE_PROJECT = Path(__file__).parents[1] / "interop" / "node"
PROCESSES = 2
#: Share of the mails that the server fails: one half with a 4xx reply the first time, one half with a 5xx reply.
FAILING = 0.05
#: Seconds without any job that ends after which the rest counts as stuck.
PATIENCE_S = 60.0
LATER, NEVER = "451 4.7.1 come back later", "550 5.7.1 not wanted here"


@dataclass(frozen=True)
class Plan:
    """What is added, and what the mail server does about it."""

    recipients: tuple[str, ...]
    later: frozenset[str]
    never: frozenset[str]

    @classmethod
    def draw(cls, count: int, seed: int) -> Plan:
        recipients = tuple(f"reader{number:04d}@example.com" for number in range(count))
        failing = random.Random(seed).sample(recipients, round(count * FAILING))
        half = len(failing) // 2
        return cls(recipients, frozenset(failing[:half]), frozenset(failing[half:]))

    def apply_to(self, host: MailHost) -> None:
        for recipient in self.later:
            host.answers[recipient].append(LATER)
        host.refuse |= dict.fromkeys(self.never, NEVER)

    def lines(self) -> str:
        """The jobs as the Node producer reads them, with the options that the Node stack writes."""
        return "".join(json.dumps(self._job(recipient)) + "\n" for recipient in self.recipients)

    @staticmethod
    def _job(recipient: str) -> dict[str, Any]:
        job_id = recipient.partition("@")[0]
        data = {"type": QUEUE, "id": job_id, "to": [recipient], "subject": "Hello", "text": f"Hello {recipient}"}
        keep = {"age": 86_400, "count": 5_000}
        backoff = {"type": "exponential", "delay": 10_000}
        opts = {
            "jobId": job_id,
            "attempts": 5,
            "backoff": backoff,
            "removeOnComplete": keep,
            "removeOnFail": keep,
        }
        return {"queue": QUEUE, "name": QUEUE, "data": data, "opts": opts}


@dataclass(frozen=True)
class Tally:
    """What became of the mails."""

    added: int
    delivered: int
    """Mails that the server accepted, each counted once."""
    failed: dict[str, str]
    """Job id → its failedReason."""
    retried: int
    """Attempts that were followed by another."""
    twice: int
    """Mails that the server accepted more than once."""
    lost: int
    """Jobs that neither failed with a reason nor completed with their mail accepted."""
    exit_code: int
    """Of the fleet, after SIGTERM."""
    seconds: float
    """From the first job added to the last one ended."""

    @property
    def is_complete(self) -> bool:
        ended = self.delivered + len(self.failed)
        return ended == self.added and self.twice == self.lost == self.exit_code == 0

    def table(self) -> str:
        reasons = Counter(reason.rpartition(": ")[2] for reason in self.failed.values())
        rows: list[tuple[str, object, str]] = [
            ("added", self.added, "by Node"),
            ("delivered", self.delivered, f"{self.retried} attempts were repeated"),
            ("failed", len(self.failed), "; ".join(f"{count} × {reason}" for reason, count in reasons.items())),
            ("delivered twice", self.twice, ""),
            ("lost", self.lost, ""),
            ("seconds", f"{self.seconds:.1f}", f"{self.added / self.seconds:.0f} mails a second"),
            ("exit code", self.exit_code, "of the fleet after SIGTERM"),
        ]
        return "\n".join(f"{name:<16}{value!s:>7}  {remark}".rstrip() for name, value, remark in rows)


async def deliver(plan: Plan, *, redis_url: str, prefix: str, host: MailHost, fleet: FleetCommand) -> Tally:
    """Add the jobs from Node, wait until each has ended, stop the fleet and count.

    Raises:
        RuntimeError: the Node producer failed.
        AssertionError: jobs are left that don't end.
    """
    plan.apply_to(host)
    await fleet.ready()
    begun = time.monotonic()
    ids = await _add_from_node(plan, redis_url, prefix)
    async with Redis.from_url(redis_url, decode_responses=True, protocol=2) as redis:
        keys = [f"{prefix}:{QUEUE}:{state}" for state in ("completed", "failed")]

        async def ended() -> int:
            return sum([await redis.zcard(key) for key in keys])

        await _settled(ended, len(ids))
        seconds = time.monotonic() - begun
        exit_code = await fleet.terminate()
        completed, failed = [set(map(str, await redis.zrange(key, 0, -1))) for key in keys]
        reasons = {job: await redis.hget(f"{prefix}:{QUEUE}:{job}", "failedReason") for job in sorted(failed)}
    accepted = Counter(recipient.partition("@")[0] for recipient in host.recipients())
    explained = {job: str(reason) for job, reason in reasons.items() if reason and job not in accepted}
    return Tally(
        added=len(ids),
        delivered=len(accepted),
        failed=explained,
        retried=len(fleet.said("^job failed, retrying$")),
        twice=sum(count > 1 for count in accepted.values()),
        lost=len(set(ids) - (completed & set(accepted)) - set(explained)),
        exit_code=exit_code,
        seconds=seconds,
    )


async def _settled(ended: Callable[[], Awaitable[int]], wanted: int) -> None:
    """Wait as long as jobs still end."""
    last, since = -1, time.monotonic()
    while (now := await ended()) < wanted:
        if now > last:
            last, since = now, time.monotonic()
        if time.monotonic() > since + PATIENCE_S:
            raise AssertionError(f"{wanted - now} of {wanted} jobs have not ended, and none did for {PATIENCE_S:g} s")
        await asyncio.sleep(0.05)


async def _add_from_node(plan: Plan, redis_url: str, prefix: str) -> list[str]:
    options = {"redis": redis_url, "prefix": prefix, "bullmq": 6, "timeout_ms": 120_000}
    process = await asyncio.create_subprocess_exec(
        "node",
        str(NODE_PROJECT / "add.mjs"),
        json.dumps(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(plan.lines().encode())
    if process.returncode != 0:
        raise RuntimeError(f"the Node producer ended with {process.returncode}: {err.decode(errors='replace')}")
    return [json.loads(line)["id"] for line in out.splitlines()]


async def _alone(count: int, seed: int, folder: Path) -> Tally:
    """With servers of its own."""
    server, host = Server(folder, "--appendonly", "no"), MailHost()
    fleet: FleetCommand | None = None
    try:
        server.start()
        host.start()
        env = environment({"REDIS_URL": server.url, "SMTP_URL": host.url}, folder / "compiled")
        settings = ["--set", f"pools.communication.processes={PROCESSES}"]
        fleet = FleetCommand([sys.executable, "-m", "workers", "run", *settings], env=env, cwd=folder)
        return await deliver(Plan.draw(count, seed), redis_url=server.url, prefix="bull", host=host, fleet=fleet)
    finally:
        if fleet is not None:
            fleet.kill()
        host.stop()
        server.stop()


def missing() -> str | None:
    """What Node lacks here, if anything."""
    if shutil.which("node") is None:
        return "node"
    return None if (NODE_PROJECT / "node_modules").is_dir() else f"`npm ci` in {NODE_PROJECT}"


def main() -> int:
    """Print the table; 0 if no mail was lost or delivered twice, 1 if not, 2 if Node is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=1000, help="how many are added (default 1000)")
    parser.add_argument("--seed", type=int, default=2, help="draws the failing ones (default 2)")
    options = parser.parse_args()
    if lacking := missing():
        sys.stderr.write(f"needs {lacking}\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        tally = asyncio.run(_alone(options.mails, options.seed, Path(folder)))
    sys.stdout.write(tally.table() + "\n")
    return 0 if tally.is_complete else 1


if __name__ == "__main__":
    raise SystemExit(main())
