"""Everything that knows Redis and BullMQ; nothing else imports either."""

from __future__ import annotations
