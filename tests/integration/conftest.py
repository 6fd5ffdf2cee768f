"""What a process of the fleet sets for all of Python, put back after a test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from workers.telemetry import logs


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """The test may call `logs.configure`."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    libraries = {name: logging.getLogger(name).level for name in ("asyncio", "aiohttp", "urllib3", "opentelemetry")}
    yield
    for handler in set(root.handlers) - set(handlers):
        if type(handler).__module__ == logs.__name__:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in libraries.items():
        logging.getLogger(name).setLevel(old)
    logging.captureWarnings(False)
    structlog.reset_defaults()
