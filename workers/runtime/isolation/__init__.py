"""Where a processor runs: on the event loop, in a thread, in a child process."""

from __future__ import annotations
