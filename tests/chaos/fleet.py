"""One fleet of several processes behind a proxy of its own, which is killed, stopped, and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.acceptance.fleet_command import FleetCommand, environment
from tests.chaos.hostility import overlay
from tests.faults import FaultProxy

LOCK_S = 3.0
#: How long a supervisor may need to end after SIGTERM, seconds: the grace of its pool, and a good deal more.
END_S = 30.0
#: Short timers, so that minutes show what takes hours; as many stalls as may come, since the faults are not the jobs'.
SETTINGS = (
    "redis.connect_timeout=1s",
    "redis.command_timeout=2s",
    "tracing.enabled=false",
    "log.format=json",
    "pools.communication.grace=4s",
    f"queues.email-send.lock={LOCK_S:g}s",
    "queues.email-send.stalls=1000",
    "queues.email-send.deaths=1000",
    "queues.email-send.keep.completed=forever",
    "queues.email-send.keep.failed=forever",
    "queues.email-send.task.timeout=10s",
    "queues.email-send.task.retry.attempts=50",
    "queues.email-send.task.retry.backoff=200ms",
    "queues.email-send.task.options.timeout=5s",
)


class ChaosFleet:
    """`fleet run` for these queues, its proxy, and all the processes that it ever had."""

    def __init__(
        self, name: str, port: int, env: Mapping[str, str], folder: Path, processes: int, queues: Sequence[str]
    ) -> None:
        self.name = name
        self.proxy = FaultProxy(port)
        self.exit_codes: Counter[int] = Counter()
        """Of the supervisors that were asked to drain."""
        self.problems: list[str] = []
        """What no fault excuses."""
        self.commands: list[FleetCommand] = []
        self._env = env
        self._folder = folder
        self._processes = processes
        self._queues = queues

    async def start(self) -> None:
        """Start a supervisor; returns before it works."""
        if not self.proxy.port:
            await self.proxy.start()
        settings = (*SETTINGS, f"pools.communication.processes={self._processes}")
        arguments = [part for setting in settings for part in ("--set", setting)]
        hostile = self._folder / "hostile.yaml"
        hostile.write_text(json.dumps(overlay(LOCK_S)))  # which is YAML
        command = [sys.executable, "-m", "workers", "run", "-o", str(hostile), "--queues", ",".join(self._queues)]
        env = environment({**self._env, "REDIS_URL": self.proxy.url}, self._folder / "compiled")
        self.commands.append(await asyncio.to_thread(FleetCommand, [*command, *arguments], env=env, cwd=self._folder))

    @property
    def command(self) -> FleetCommand:
        """The supervisor that runs, or ran last."""
        return self.commands[-1]

    def children(self) -> list[psutil.Process]:
        """Its pool processes now."""
        return self.command.pool_processes()

    def grandchildren(self) -> list[psutil.Process]:
        """The processes now in which its pool processes run hostile jobs."""
        found: list[psutil.Process] = []
        for child in self.children():
            with suppress(psutil.NoSuchProcess):
                found += child.children()
        return found

    async def terminate(self, hurried: bool = False) -> None:
        """SIGTERM, a second one if hurried, and wait for the end."""
        self.command.send(signal.SIGTERM)
        if hurried:
            await asyncio.sleep(0.2)
            if not self.command.has_ended:
                self.command.send(signal.SIGTERM)
        try:
            self.exit_codes[await self.command.exit_code(timeout_s=END_S)] += 1
        except AssertionError:
            self.problems.append(f"{self.name}: the supervisor had not ended {END_S:g} s after SIGTERM")
            await asyncio.to_thread(self.command.kill)

    async def close(self) -> None:
        """End every process and the proxy; what the processes said goes to a file."""
        for command in self.commands:
            await asyncio.to_thread(command.kill)
        await self.proxy.stop()
        (self._folder / "fleet.log").write_text("".join(f"{line}\n" for each in self.commands for line in each.err))

    def completions(self) -> Counter[str]:
        """Job id → how often its completion was told, by all processes so far."""
        return Counter(record["job_id"] for record in self._records() if record["event"] == "job completed")

    def places(self) -> dict[str, str]:
        """Job id → the process of this fleet in which it ended, where that was told."""
        ends = (record for record in self._records() if record["event"] in ("job completed", "job failed"))
        return {record["job_id"]: f"{self.name}/{record['process']}" for record in ends}

    def _records(self) -> list[dict[str, Any]]:
        return [record for command in self.commands for record in command.records()]
