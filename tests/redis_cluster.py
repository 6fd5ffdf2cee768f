"""A cluster of three primaries and one replica: real processes of the bundled Valkey."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from tests.conftest import Server, free_port

SLOTS = 16_384
PRIMARIES = 3


class Cluster:
    """Starts with the slots in three equal parts; `servers[3]` is the replica of `servers[0]`.

    Args:
        directory: for the files of all nodes.
    """

    def __init__(self, directory: Path) -> None:
        self.servers = [self._server(directory / f"node-{number}") for number in range(PRIMARIES + 1)]

    @staticmethod
    def _server(directory: Path) -> Server:
        directory.mkdir(parents=True)
        cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(free_port()))
        return Server(directory, "--appendonly", "no", "--repl-diskless-sync-delay", "0", *cluster)

    def start(self) -> None:
        """Return when every slot is served and the replica is in step."""
        for server in self.servers:
            server.start()
        bounds = [round(SLOTS / PRIMARIES * number) for number in range(PRIMARIES + 1)]
        for number, server in enumerate(self.servers[:PRIMARIES]):
            self.ask(server, "CLUSTER", "ADDSLOTSRANGE", str(bounds[number]), str(bounds[number + 1] - 1))
            self.ask(server, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for server in self.servers[1:]:
            self.ask(self.servers[0], "CLUSTER", "MEET", "127.0.0.1", str(server.port), server.options[-1])
        _until(lambda: all(self._ok(server) for server in self.servers))
        primary = self.node_id(self.servers[0])
        _until(lambda: self.ask(self.servers[3], "CLUSTER", "REPLICATE", primary) is not None)
        self.in_step(self.servers[3])

    def stop(self) -> None:
        for server in self.servers:
            if server.process is not None:
                server.process.kill()
            server.stop()

    def ask(self, server: Server, *words: str) -> Any:
        """A reply, or None where there is none (yet)."""
        try:
            once = Retry(NoBackoff(), 0)
            with Redis(port=server.port, decode_responses=True, protocol=2, socket_timeout=2, retry=once) as client:
                client.response_callbacks.clear()
                return client.execute_command(*words)
        except Exception:
            return None

    def node_id(self, server: Server) -> str:
        return str(self.ask(server, "CLUSTER", "MYID"))

    def in_step(self, replica: Server) -> None:
        """Wait until this node is a replica that has all of its primary's keys."""
        _until(lambda: "master_link_status:up" in str(self.ask(replica, "INFO", "replication")))

    def owner(self, prefix: str) -> Server:
        """The primary of this prefix's slot, in the eyes of a node that lives."""
        slot = key_slot(prefix.encode())
        for server in self.servers:
            for first, last, primary, *_ in self.ask(server, "CLUSTER", "SLOTS") or ():
                if first <= slot <= last:
                    return next(each for each in self.servers if each.port == primary[1])
        raise AssertionError(f"nobody serves slot {slot}")

    def prefix_on(self, server: Server) -> str:
        """A prefix whose slot this primary serves."""
        return next(tag for number in range(1000) if self.owner(tag := f"{{t{number}-{time.time_ns()}}}") is server)

    def _ok(self, server: Server) -> bool:
        info = str(self.ask(server, "CLUSTER", "INFO"))
        return "cluster_state:ok" in info and f"cluster_known_nodes:{len(self.servers)}" in info


def _until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "the cluster does not get ready"
        time.sleep(0.02)
