"""Listeners and exporters: logs, traces and metrics. They read events and spans; nothing below knows them."""

from __future__ import annotations
