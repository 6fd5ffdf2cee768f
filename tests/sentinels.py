"""A primary, its replicas and the sentinels that watch them: real processes of the bundled Valkey."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import Server, free_port
from workers.dev.embedded import find_binary

NAME = "main"


class Sentinel:
    """One watcher."""

    def __init__(self, directory: Path, primary: int, password: str) -> None:
        self.port = free_port()
        self._directory = directory
        directory.mkdir()
        # It must own its file: what it learns is written there.
        self._file = directory / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {NAME} 400\n"
            f"sentinel failover-timeout {NAME} 2000\n"
            + (f"requirepass {password}\nsentinel sentinel-pass {password}\n" if password else "")
        )
        self._password = password or None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._directory / "sentinel.log").open("ab") as output:
            command = [str(find_binary()), str(self._file), "--sentinel"]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)

    def ask(self, *words: str) -> Any:
        """A reply, or None where there is none (yet)."""
        try:
            once = Retry(NoBackoff(), 0)
            with Redis(
                port=self.port, password=self._password, decode_responses=True, protocol=2, socket_timeout=2, retry=once
            ) as client:
                return client.execute_command(*words)
        except Exception:
            return None

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None


class Sentinels:
    """One primary and one replica, watched by three.

    Args:
        directory: for the files of all of them.
        password: of the sentinels. Defaults to none.
    """

    def __init__(self, directory: Path, password: str = "") -> None:
        self.servers = [self._server(directory / f"server-{number}") for number in range(2)]
        self.watchers = [Sentinel(directory / f"sentinel-{n}", self.servers[0].port, password) for n in range(3)]

    @staticmethod
    def _server(directory: Path) -> Server:
        directory.mkdir(parents=True)
        return Server(directory, "--appendonly", "no", "--repl-diskless-sync-delay", "0")

    def start(self) -> None:
        """Return when the replica is in step and the sentinels know it and each other."""
        primary, replica = self.servers
        primary.start()
        replica.options += ("--replicaof", f"127.0.0.1 {primary.port}")
        replica.start()
        for watcher in self.watchers:
            watcher.start()
        self._until(self._settled)

    def stop(self) -> None:
        for watcher in self.watchers:
            watcher.stop()
        for server in self.servers:
            if server.process is not None:
                server.process.kill()
            server.stop()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in self.watchers)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    def _settled(self) -> bool:
        states = [watcher.ask("SENTINEL MASTER", NAME) for watcher in self.watchers]
        return all(state and state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 for state in states)

    @staticmethod
    def _until(condition: Any) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "the sentinels did not find each other"
            time.sleep(0.05)
