"""The local set-up of `make run`: a bundled Valkey, an SMTP catcher, a job producer and a live board.

Nothing here is part of a production process; `workers/cli/dev.py` wires it to the fleet.
"""

from __future__ import annotations

from dataclasses import dataclass


class DevError(Exception):
    """A part of the local set-up can't work. The message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class PartHealth:
    """The present state of one part of the local set-up."""

    ok: bool
    detail: str
    """One line for a person; no secrets."""
