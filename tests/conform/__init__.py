"""The conformance table: features of BullMQ, tried with both majors of npm bullmq on each server. `make conform`."""

from __future__ import annotations
