"""Who works on a queue, as the server tells it: workers of either side have a connection with a name that says so.

Source: npm bullmq, `Queue.getWorkers` and `Worker`; the `bullmq` package for Python, `Worker._ensure_client_names`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from workers.broker.keys import client_name

Side: TypeAlias = Literal["fleet", "python", "node", "unknown"]

#: How the fleet's own connections call their library (CLIENT SETINFO).
LIBRARY = "redis-py(fleet)"
#: What is asked. Replicas and subscribers are no workers.
COMMAND = ("CLIENT", "LIST", "TYPE", "NORMAL")
#: How the libraries call themselves that BullMQ for Node works with.
_NODE = ("ioredis", "iovalkey", "node-redis", "valkey-glide", "glide", "bun")
# A client's name has no spaces: the server refuses them. There are few workers among thousands of clients.
_NAME = re.compile(r" name=(\S+)")
_SAID = re.compile(r"(?<!\S)(addr|age|idle|flags|lib-name|lib-ver)=(\S*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeen:
    """One worker of one queue: a process, however many jobs it runs at once."""

    queue: str
    name: str
    """As it calls itself; empty: it has no name."""
    side: Side
    """`fleet`: ours; `python`: the stock `bullmq` package; `node`: competes for the same jobs; `unknown`: its library
    has not said what it is, as on a server before Redis 7.2 or without the permission `client|setinfo`."""
    address: str
    library: str
    """Name and version, as far as it said."""
    connected_s: int
    idle_s: int
    """How long it has asked the server for nothing; of one that waits for a job, since when."""
    is_waiting: bool
    """It waits for a job at present, so that it has a slot free."""

    def json(self) -> dict[str, Any]:
        """For output."""
        return {
            "queueName": self.queue,
            "name": self.name,
            "side": self.side,
            "address": self.address,
            "library": self.library,
            "connectedSeconds": self.connected_s,
            "idleSeconds": self.idle_s,
            "waiting": self.is_waiting,
        }


def seen(text: str, prefix: str, queues: Iterable[str]) -> dict[str, tuple[WorkerSeen, ...]]:
    """The workers of these queues in the reply to COMMAND. What is no worker's connection is passed over."""
    names: dict[str, tuple[str, bool]] = {}
    for queue in queues:
        names.setdefault(f"{prefix}:{queue}", (queue, True))
        names[client_name(prefix, queue, "").removesuffix(":w:")] = (queue, False)
    found: dict[str, list[WorkerSeen]] = {}
    for line in text.splitlines():
        match = _NAME.search(line)
        base, _, name = match[1].partition(":w:") if match else ("", "", "")
        if base in names:
            queue, is_bare = names[base]
            found.setdefault(queue, []).append(_worker(queue, name, is_bare, line))
    return {queue: tuple(sorted(each, key=_order)) for queue, each in found.items()}


def _worker(queue: str, name: str, is_bare: bool, line: str) -> WorkerSeen:
    said = {match[1]: match[2] for match in _SAID.finditer(line)}
    library = said.get("lib-name", "")
    return WorkerSeen(
        queue=queue,
        name=name,
        side=_side(library, is_bare),
        address=said.get("addr", ""),
        library=" ".join(filter(None, (library, said.get("lib-ver")))),
        connected_s=_seconds(said.get("age")),
        idle_s=_seconds(said.get("idle")),
        is_waiting="b" in said.get("flags", ""),
    )


def _side(library: str, is_bare: bool) -> Side:
    if library == LIBRARY:
        return "fleet"
    if is_bare or library.startswith("redis-py"):  # stock Python workers don't encode the queue's name
        return "python"
    return "node" if library.lower().startswith(_NODE) else "unknown"


def _order(worker: WorkerSeen) -> tuple[str, str, str]:
    return worker.side, worker.name, worker.address


def _seconds(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 12 else 0
