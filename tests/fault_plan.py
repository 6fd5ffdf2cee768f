"""What a proxy is to do to the connections that go through it: faults that stand, and breaks that happen once.

Directions are seen from the client: "up" to the server, "down" from it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal, TypeAlias

from tests.wire import Request

Direction: TypeAlias = Literal["up", "down"]
Match: TypeAlias = Callable[[Request], bool]
#: Where in an exchange the client's connection breaks: the server never sees the request; it sees the request and we
#: don't wait for it; it has answered; the client has the answer. "late": as before_write, but the request is still in
#: the network and reaches the server when the break is released.
Point: TypeAlias = Literal["before_write", "after_write", "before_read", "after_read", "late"]

POINTS: tuple[Point, ...] = ("before_write", "after_write", "before_read", "after_read")
KEPT = 50_000  # requests that are remembered


def named(name: str, *words: str) -> Match:
    """Requests of this name that carry these words among their arguments."""
    wanted = {word.encode() for word in words}
    return lambda request: request.name == name and wanted <= set(request.words)


class Break:
    """One planned break of one exchange."""

    def __init__(self, point: Point, match: Match, nth: int) -> None:
        self.point = point
        self.fired = asyncio.Event()
        """The connection was broken."""
        self.delivered = asyncio.Event()
        """Of a late request: the server has answered it, or closed its connection before it came."""
        self._match = match
        self._left = nth
        self._released = asyncio.Event()

    def takes(self, request: Request) -> bool:
        """Whether this request is the one."""
        if self._left and self._match(request):
            self._left -= 1
            return self._left == 0
        return False

    def release(self) -> None:
        """Let a late request go on to the server."""
        self._released.set()

    async def released(self) -> None:
        await self._released.wait()


class FaultPlan:
    """Standing faults hold for all connections until `heal`; each planned break happens once."""

    def __init__(self) -> None:
        self.delay_s: dict[Direction, float] = {"up": 0.0, "down": 0.0}
        """How long each piece that was read is held back, seconds."""
        self.requests: deque[Request] = deque(maxlen=KEPT)
        """What clients have asked for, passed on or not."""
        self.breaks: list[Break] = []
        self.refusing = False
        """New connections are reset as soon as they come."""
        self._swallowed: set[Direction] = set()
        self._thawed: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._left: dict[Direction, int] = {}
        self.heal()

    # ------------------------------------------------------------ planning

    def heal(self) -> None:
        """End the standing faults. A connection that has swallowed something stays dead, as behind a firewall that
        forgot it; one that was frozen delivers what it held.
        """
        self.delay_s["up"] = self.delay_s["down"] = 0.0
        self.refusing = False
        self._swallowed.clear()
        self._left.clear()
        for thawed in self._thawed.values():
            thawed.set()

    def black_hole(self) -> None:
        """Accept and swallow, in both directions."""
        self._swallowed = {"up", "down"}

    def half_open(self, direction: Direction) -> None:
        """Swallow in this direction alone."""
        self._swallowed.add(direction)

    def freeze(self, *directions: Direction) -> None:
        """Hold everything back until `heal`, as a network does that loses packets and sends them again. Defaults to
        both directions.
        """
        for direction in directions or ("up", "down"):
            self._thawed[direction].clear()

    def cut_after(self, count: int, direction: Direction) -> None:
        """Let `count` more bytes pass in this direction; the connection that carries the next one is reset instead."""
        self._left[direction] = count

    def break_at(self, point: Point, match: Match, nth: int = 1) -> Break:
        """Break the connection of the nth request that matches, at this point of its exchange."""
        self.breaks.append(Break(point, match, nth))
        return self.breaks[-1]

    def drop_reply(self, match: Match, nth: int = 1) -> Break:
        """The server does what the request asks for; the client never hears of it."""
        return self.break_at("before_read", match, nth)

    def passed(self, name: str, *words: str) -> int:
        """How many requests of this name, with these words, the server was given."""
        match = named(name, *words)
        return sum(request.passed and match(request) for request in tuple(self.requests))

    # --------------------------------------------- what a connection asks

    def note(self, request: Request) -> Break | None:
        """Remember a request; the break that is planned for it."""
        self.requests.append(request)
        planned = [each for each in self.breaks if each.takes(request)]  # each counts every request
        return planned[0] if planned else None

    def swallows(self, direction: Direction) -> bool:
        return direction in self._swallowed

    async def let_through(self, direction: Direction) -> None:
        """Return when what was read may go on."""
        if self.delay_s[direction]:
            await asyncio.sleep(self.delay_s[direction])
        await self._thawed[direction].wait()

    def allow(self, direction: Direction, count: int) -> int:
        """How many of so many bytes pass before the cut."""
        left = self._left.get(direction)
        if left is None:
            return count
        if left >= count:
            self._left[direction] = left - count
            return count
        del self._left[direction]
        return left
