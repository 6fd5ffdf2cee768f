"""Queues over HTTP: look and act, for operators, programs and the dashboard."""

from __future__ import annotations
