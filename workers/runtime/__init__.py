"""How a job is run: decoded, timed, retried. Decisions are pure; nothing here touches Redis."""

from __future__ import annotations
