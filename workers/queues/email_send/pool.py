"""The connections of one process to the mail server: at most one a slot, each with one user at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from workers.queues.email_send.connection import SmtpConnection

#: Seconds that all farewells together may take when the pool closes.
CLOSING_S = 2.0


class ConnectionPool:
    """Lends connections and takes back those that are fit for another mail.

    Args:
        make: makes an unconnected one; it connects when it has a mail to deliver.
        size: how many may be lent at once; more borrowers wait.
    """

    def __init__(self, make: Callable[[], SmtpConnection], size: int) -> None:
        self._make = make
        self._free = asyncio.Semaphore(size)
        self._idle: list[SmtpConnection] = []
        self._closed = False

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[SmtpConnection]:
        """Lend the connection used last, since the server is least likely to have closed that one."""
        async with self._free:
            connection = self._idle.pop() if self._idle else self._make()
            try:
                yield connection
            finally:
                if connection.reusable and not self._closed:
                    self._idle.append(connection)
                else:
                    connection.discard()

    async def close(self) -> None:
        """Take leave on all idle connections; one that is lent out is dropped when it comes back."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.quit(CLOSING_S) for connection in idle))
