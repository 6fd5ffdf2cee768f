"""`fleet` as a process of its own: what it writes, what it answers over HTTP, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import wait_until

#: Variables of whoever runs the tests that would change what a fleet does, or how it looks.
_FOREIGN = re.compile(
    r"FLEET_|REDIS_URL|SMTP_URL|SITE_EMAIL_|OTEL_|PROMETHEUS_|PYTHON(DONTWRITEBYTECODE|SAFEPATH)$"
    r"|(NO_COLOR|FORCE_COLOR|PY_COLORS|GITHUB_ACTIONS)$"
)
#: Seconds that one HTTP request may take.
HTTP_TIMEOUT_S = 5.0


def environment(variables: Mapping[str, str], cache: Path) -> dict[str, str]:
    """The variables of a command: these, and of the test run's own what doesn't concern a fleet.

    Args:
        cache: where compiled modules go if the test run may not put them beside the sources; without any, each
            command would compile all over again.
    """
    own = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    if sys.dont_write_bytecode:
        own["PYTHONPYCACHEPREFIX"] = str(cache)
    return {**own, "FLEET__HTTP__PORT": "0", "COLUMNS": "200", **variables}


class FleetCommand:
    """A running `fleet`.

    Args:
        command: program and arguments.
        env: all of its environment.
        cwd: its working directory.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        self.out: list[str] = []
        """Lines of standard output so far."""
        self.err: list[str] = []
        """Lines of standard error so far."""
        self._family: dict[int, psutil.Process] = {}
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self._process.stdout, self.out), (self._process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        with stream:
            lines.extend(line.rstrip("\n") for line in stream)

    # ------------------------------------------------------------------ its words

    @property
    def text(self) -> str:
        """All of standard error so far."""
        return "\n".join(self.err)

    def records(self, *, level: str | None = None) -> list[dict[str, Any]]:
        """The log so far; with `level` the records of that level alone."""
        found = [json.loads(line) for line in tuple(self.err) if line.startswith("{")]
        return [record for record in found if level in (None, record["level"])]

    def said(self, pattern: str) -> list[str]:
        """The events of the log that match, so far."""
        return [event for record in self.records() if re.search(pattern, event := record["event"])]

    async def says(self, pattern: str, *, times: int = 1) -> list[str]:
        """The events of the log that match, once there are so many."""
        await wait_until(lambda: len(self.said(pattern)) >= times, timeout_s=30.0)
        return self.said(pattern)

    # ------------------------------------------------------------------- its HTTP

    @property
    def url(self) -> str:
        """Where health and metrics are; empty until it has said so."""
        told = self.said(r"^health and metrics on ")
        return told[0].rpartition(" ")[2] if told else ""

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 where nobody answers."""
        where = urlsplit(self.url)
        if not where.hostname:
            return 0, "not listening yet"
        connection = HTTPConnection(where.hostname, where.port, timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    def probe(self, name: str) -> tuple[bool | None, dict[str, tuple[bool, str]]]:
        """What /livez, /readyz or /startupz says, None where nobody answers, and its checks: name → (ok, detail)."""
        status, body = self.get(f"/{name}")
        if not status:
            return None, {}
        checks = {check["name"]: (check["ok"], check["detail"]) for check in json.loads(body)["checks"]}
        return status == 200, checks

    @property
    def is_ready(self) -> bool:
        """Raises where it has ended instead of getting ready."""
        if (code := self._process.poll()) is not None:
            raise AssertionError(f"it ended with {code}:\n{self.text}")
        return self.probe("readyz")[0] is True

    async def ready(self) -> FleetCommand:
        """Return itself once it takes jobs."""
        await wait_until(lambda: self.is_ready, timeout_s=30.0, every_s=0.05)
        return self

    def metric(self, name: str, **labels: str) -> float | None:
        """A value of /metrics; None where it is not there."""
        status, body = self.get("/metrics")
        assert status == 200, body
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None

    # ---------------------------------------------------------------- its process

    def pool_processes(self) -> list[psutil.Process]:
        """The processes that it supervises, as they are now."""
        try:
            children = psutil.Process(self._process.pid).children()
        except psutil.NoSuchProcess:
            return []
        self._family |= {child.pid: child for child in children}
        return children

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Send it to the command alone."""
        self.pool_processes()  # remembered, since it may not outlive the signal
        self._process.send_signal(number)

    async def exit_code(self, *, timeout_s: float = 30.0) -> int:
        """Wait for its end; negative: the signal that ended it."""
        await wait_until(lambda: self.has_ended, timeout_s=timeout_s)
        for reader in self._readers:
            reader.join(5)
        return self._process.wait(0)

    async def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to drain; its exit code."""
        self.send(number)
        return await self.exit_code()

    def kill(self) -> None:
        """End it and every process that it ever had, at once. Idempotent."""
        self.pool_processes()
        self._process.kill()
        self._process.wait(10)
        for process in self._family.values():
            if process.is_running():  # false for another process with the same number
                process.kill()
        for reader in self._readers:
            reader.join(5)
