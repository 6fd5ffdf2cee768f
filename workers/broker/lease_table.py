"""The leases of one process in memory that its supervisor shares: a file, mapped by both.

The process writes, the supervisor reads. Each record carries a sequence number that is odd while it is written, so a
reader takes no half-written one (a seqlock). The heartbeat says that the process can still renew its locks itself.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

#: How long after its end a lease's lock is still renewed where a supervisor reads along, seconds: longer than the
#: supervisor takes to kill who holds it then (silence.py). Were it gone by then, the job would run elsewhere meanwhile.
KEPT_S = 20.0
_MAGIC = b"FLEASE02"
_HEADER = struct.Struct("<8sdI")  # magic, heartbeat (monotonic seconds), records
_RECORD = struct.Struct("<IBIdQHHH")  # sequence, used, lock_ms, until, fence, bytes of queue, job id, token
_HEADER_BYTES, _RECORD_BYTES = 64, 1024
_BEAT_AT = 8
_TEXT_BYTES = _RECORD_BYTES - _RECORD.size


@dataclass(frozen=True, slots=True)
class Lease:
    """One held job."""

    queue: str
    job_id: str
    token: str
    """Of its lock."""
    lock_ms: int
    until: float = float("inf")
    """Monotonic seconds after which it is not renewed, or KEPT_S later: its task's last rung has passed."""
    fence: int = 0
    """BullMQ's `ats` when it was taken; 0: not known."""


class LeaseTable:
    """A fixed number of records. The monotonic clock is the machine's, so both sides read it alike.

    Args:
        path: the file; `create` makes it anew, `open` maps an existing one for reading.
    """

    def __init__(self, path: Path, memory: mmap.mmap, records: int) -> None:
        self.path = path
        self.records = records
        self._memory = memory

    @classmethod
    def create(cls, path: Path, records: int) -> LeaseTable:
        """An empty table for the process that writes it."""
        size = _HEADER_BYTES + records * _RECORD_BYTES
        with path.open("w+b") as file:
            file.truncate(size)
            memory = mmap.mmap(file.fileno(), size)
        _HEADER.pack_into(memory, 0, _MAGIC, time.monotonic(), records)
        return cls(path, memory, records)

    @classmethod
    def open(cls, path: Path) -> LeaseTable | None:
        """The table for a reader; None where there is none (yet)."""
        try:
            with path.open("r+b") as file:
                memory = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError):
            return None
        if len(memory) < _HEADER_BYTES or memory[:8] != _MAGIC:
            memory.close()
            return None
        _, _, records = _HEADER.unpack_from(memory, 0)
        return cls(path, memory, min(records, (len(memory) - _HEADER_BYTES) // _RECORD_BYTES))

    def beat(self) -> None:
        """The writer lives and renews."""
        struct.pack_into("<d", self._memory, _BEAT_AT, time.monotonic())

    def silence_s(self) -> float:
        """Seconds since the last beat."""
        (at,) = struct.unpack_from("<d", self._memory, _BEAT_AT)
        return float(time.monotonic() - at)

    def put(self, index: int, lease: Lease | None) -> bool:
        """Write a record, or with None clear it. False: the names are too long for one; it was cleared."""
        at = _HEADER_BYTES + index * _RECORD_BYTES
        texts = [t.encode() for t in (lease.queue, lease.job_id, lease.token)] if lease is not None else []
        fits = sum(map(len, texts)) <= _TEXT_BYTES
        (sequence,) = struct.unpack_from("<I", self._memory, at)
        odd = (sequence + 1) | 1
        struct.pack_into("<I", self._memory, at, odd & 0xFFFFFFFF)
        if lease is not None and fits:
            body = b"".join(texts)
            start = at + _RECORD.size
            self._memory[start : start + len(body)] = body
            numbers = (lease.lock_ms, lease.until, lease.fence)
            _RECORD.pack_into(self._memory, at, odd & 0xFFFFFFFF, 1, *numbers, *map(len, texts))
        else:
            _RECORD.pack_into(self._memory, at, odd & 0xFFFFFFFF, 0, 0, 0.0, 0, 0, 0, 0)
        struct.pack_into("<I", self._memory, at, (odd + 1) & 0xFFFFFFFF)
        return fits

    def leases(self) -> list[Lease]:
        """All that are held. A record that is being written is left out this time."""
        found = (self._read(_HEADER_BYTES + index * _RECORD_BYTES) for index in range(self.records))
        return [lease for lease in found if lease is not None]

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()

    def _read(self, at: int) -> Lease | None:
        record = bytes(self._memory[at : at + _RECORD_BYTES])
        sequence, used, lock_ms, until, fence, *lengths = _RECORD.unpack_from(record, 0)
        (again,) = struct.unpack_from("<I", self._memory, at)
        if sequence & 1 or again != sequence or not used:
            return None
        ends = [_RECORD.size]
        for length in lengths:
            ends.append(ends[-1] + length)
        try:
            queue, job_id, token = (record[a:b].decode() for a, b in pairwise(ends))
        except UnicodeDecodeError:
            return None
        return Lease(queue, job_id, token, lock_ms, until, fence)
