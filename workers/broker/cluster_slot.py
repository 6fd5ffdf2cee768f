"""The one node of a cluster that a fleet needs: all keys share the prefix's hash tag, so they share a slot.

The owner is looked up with CLUSTER SLOTS on every connect, and anew when a node answers MOVED.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from workers.broker.address import EndpointError
from workers.broker.connection import Ask, Node

_TAG = re.compile(r"[^{]*\{[^}]+\}")  # the first { with a } behind it, and something between them


def slot_of(prefix: str) -> int:
    """The slot of all keys with this prefix.

    Raises:
        EndpointError: the prefix has no hash tag (redis.io, "Cluster specification": Hash tags).
    """
    if not _TAG.match(prefix):
        raise EndpointError(
            "prefix",
            "on a cluster all keys of a queue must lie in one slot: put the prefix in braces, `{bull}` for `bull`, "
            "here and on the Node side",
        )
    return key_slot(f"{prefix}:".encode())


class SlotLocator:
    """Finds the owner of one slot.

    Args:
        slot: see `slot_of`.
        seeds: nodes of the cluster, at least one.
        ask: sends one command to one node.
    """

    def __init__(self, slot: int, seeds: Sequence[Node], ask: Ask) -> None:
        self._slot = slot
        self._seeds = tuple(seeds)
        self._known: tuple[Node, ...] = ()
        self._hint: Node | None = None
        self._doubted: Node | None = None
        self._ask = ask
        self.address: Node | None = None

    async def locate(self) -> Node:
        """The owner's address.

        Raises:
            redis.exceptions.ConnectionError: no node answers, or none knows an owner.
        """
        refusals = []
        for node in self._order():
            host, port = node
            try:
                reply = await self._ask(node, "CLUSTER", "SLOTS")
            except (RedisError, OSError) as error:
                refusals.append(f"{host}:{port}: {_meaning(error)}")
                continue
            owner = owner_of(self._slot, reply, host)
            if owner is not None:
                self._known = tuple(dict.fromkeys(_nodes(reply, host)))
                self._hint = self._doubted = None
                self.address = owner
                return owner
            refusals.append(f"{host}:{port} knows no owner of slot {self._slot}")
        raise RedisConnectionError(f"no node of the cluster helps (redis.url): {'; '.join(refusals)}")

    async def accept(self, connection: AbstractConnection) -> None:
        """Nothing to ask: a node that does not own the slot says MOVED."""

    def remind(self) -> None:
        """Nothing to do, for the same reason."""

    async def close(self) -> None:
        """Nothing to stop."""

    def doubt(self, node: Node, hint: Node | None) -> None:
        """No connection to this address is used again; the hint is asked first, the doubted node last."""
        if self.address in (node, None):
            self._hint, self._doubted, self.address = hint, node, None

    def _order(self) -> list[Node]:
        hinted = (self._hint,) if self._hint else ()
        nodes = list(dict.fromkeys((*hinted, *self._known, *self._seeds)))
        if self._doubted in nodes and self._doubted != self._hint:
            nodes.remove(self._doubted)
            nodes.append(self._doubted)
        return nodes


def owner_of(slot: int, reply: Any, asked: str) -> Node | None:
    """The slot's primary in a reply to CLUSTER SLOTS; None if there is none, or its address is unknown.

    Entries are [first slot, last slot, [address, port, id, …] of the primary, the same of each replica]. An address
    that is empty or null is that of the node that was asked (redis.io, CLUSTER SLOTS).
    """
    for first, last, primary, *_ in reply:
        if int(first) <= slot <= int(last):
            return _node(primary, asked)
    return None


def _nodes(reply: Any, asked: str) -> Iterator[Node]:
    for _, _, *nodes in reply:
        for entry in nodes:
            node = _node(entry, asked)
            if node is not None:
                yield node


def _node(entry: Any, asked: str) -> Node | None:
    address = entry[0] or asked
    return None if address == "?" else (str(address), int(entry[1]))


def _meaning(error: Exception) -> str:
    if "cluster support disabled" in str(error):
        return "it is no cluster; write redis:// or rediss://"
    return str(error)
