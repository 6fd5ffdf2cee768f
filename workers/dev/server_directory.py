"""The directory of an embedded server: its lock, what it remembers of the server, and the server's log.

The lock's open file is inherited by the server, so it is held exactly as long as the server lives, whatever
happens to the process that started it. Two servers can never write one append-only file.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.dev import DevError

LOG_TAIL = 4096  # bytes of the log in which a reason is looked for
LONGEST_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What the directory remembers of its server. The process ids are true only while the lock is held."""

    pid: int
    port: int
    owner: int
    """The process that stops the server when it ends."""


class ServerDirectory:
    """`path`, made on demand for this user alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "valkey.log"

    def make(self) -> None:
        """Make it if it is not there.

        Raises:
            DevError: it can't be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DevError(f"can't make the data directory {self.path}: {error.strerror}") from error

    def take_lock(self) -> int | None:
        """The lock's open file, to be handed to the server and closed here; None while a server holds it.

        Raises:
            DevError: the directory is not writable, or its file system has no locks.
        """
        if sys.platform == "win32":
            raise DevError("there is no embedded Valkey for Windows; set REDIS_URL to a server of your own")
        import fcntl

        try:
            lock = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DevError(f"can't write in the data directory {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise DevError(f"can't lock the data directory {self.path}: {error.strerror}") from error
        return lock

    def read(self) -> ServerRecord | None:
        """The record, or None if there is none or it makes no sense."""
        try:
            record = json.loads((self.path / "server.json").read_text())
            return ServerRecord(pid=int(record["pid"]), port=int(record["port"]), owner=int(record["owner"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, record: ServerRecord) -> None:
        """Replace the record in one step.

        Raises:
            DevError: the disk refuses.
        """
        draft = self.path / f".server.json.{os.getpid()}"
        try:
            draft.write_text(json.dumps(asdict(record)))
            draft.replace(self.path / "server.json")
        except OSError as error:
            raise DevError(f"can't write in the data directory {self.path}: {error.strerror}") from error

    def last_words(self) -> str:
        """Why the server ended, as its log has it, on one line."""
        try:
            lines = self.log.read_bytes()[-LOG_TAIL:].decode(errors="replace").splitlines()
        except OSError:
            lines = []
        # `PID:ROLE DAY MONTH YEAR TIME LEVEL text`: level `#` says why a server ends; WARNING is advice at its start.
        warnings = [line.split(" # ", 1)[1] for line in lines if " # " in line and " # WARNING" not in line]
        words = warnings[-1] if warnings else (lines[-1] if lines else "it said nothing")
        return f"{words[:LONGEST_REASON]} (log: {self.log})"
