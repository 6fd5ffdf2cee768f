"""What happened, written down outside Redis: jobs that were added, mails that were delivered.

Kept in memory and, line by line, in a file that outlives the run.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any


@dataclass
class Entry:
    """One job."""

    delay_s: float
    bounces: bool
    """The mail server refuses its recipient for good."""
    sent_at: float
    """When the producer was told to add it, seconds since the epoch."""
    added_at: float | None = None
    """When the producer said that Redis has it."""
    deliveries: list[float] = field(default_factory=list)
    """When the mail server accepted its mail."""
    server_s: float = 0.0
    """How long the mail server took for the first one, of its own will."""
    put_off: int = 0
    """How often the mail server has answered `try again later`."""
    message_ids: set[str] = field(default_factory=set)

    @property
    def due_at(self) -> float | None:
        """When it could be delivered; None: it was not added."""
        return None if self.added_at is None else self.added_at + self.delay_s

    @property
    def late_s(self) -> float | None:
        """From being due to the first delivery; None without one."""
        if not self.deliveries or self.due_at is None:
            return None
        return max(0.0, self.deliveries[0] - self.due_at)


@dataclass
class HostileEntry:
    """One job of a hostile queue."""

    act: str
    queue: str
    added_at: float | None = None
    """When the producer said that Redis has it."""


class Ledger:
    """The entries by job id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        """The mails."""
        self.hostile: dict[str, HostileEntry] = {}
        self.unknown: list[str] = []
        """Recipients of mails that no job was added for."""
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def added(self) -> list[str]:
        """Ids of the mails that Redis has taken."""
        return [job for job, entry in self.entries.items() if entry.added_at is not None]

    def hostile_added(self, queue: str) -> list[str]:
        """Ids of this queue's hostile jobs that Redis has taken."""
        return [job for job, entry in self.hostile.items() if entry.queue == queue and entry.added_at is not None]

    def sent(self, job: str, *, delay_s: float, bounces: bool) -> None:
        """The producer was told to add a job."""
        self.entries[job] = Entry(delay_s, bounces, time.time())
        self._write("sent", job=job, delay_s=delay_s)

    def sent_hostile(self, job: str, *, act: str, queue: str) -> None:
        """The same for a hostile job."""
        self.hostile[job] = HostileEntry(act, queue)
        self._write("sent", job=job, act=act)

    def acknowledged(self, job: str) -> None:
        """The producer has added it."""
        entry = self.hostile[job] if job in self.hostile else self.entries[job]
        entry.added_at = entry.added_at or time.time()
        self._write("added", job=job)

    def delivered(self, job: str, message_id: str, server_s: float = 0.0) -> None:
        """The mail server has accepted its mail, for which it took so long."""
        self._write("delivered", job=job, message_id=message_id)
        entry = self.entries.get(job)
        if entry is None:
            self.unknown.append(job)
            return
        if not entry.deliveries:
            entry.server_s = server_s
        entry.deliveries.append(time.time())
        entry.message_ids.add(message_id)

    def put_off(self, job: str) -> None:
        """The mail server wants the mail later."""
        self._write("put off", job=job)
        if job in self.entries:
            self.entries[job].put_off += 1

    def _write(self, what: str, **fields: Any) -> None:
        self._file.write(json.dumps({"at": round(time.time(), 3), "what": what, **fields}) + "\n")
        self._file.flush()
