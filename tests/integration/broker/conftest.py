"""A proxy before the run's server, for the tests that break connections."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Server
from tests.faults import FaultProxy
from workers.broker.endpoint import Endpoint


@pytest.fixture
async def proxy(valkey: Server) -> AsyncIterator[FaultProxy]:
    """Passes everything to the run's server until a test says otherwise. A planned break that never came fails the
    test: it would show nothing.
    """
    async with FaultProxy(valkey.port) as proxy:
        yield proxy
    assert not proxy.problems
    missed = [planned for planned in proxy.breaks if not planned.fired.is_set()]
    assert not missed, f"{len(missed)} planned breaks never came"


@pytest.fixture
def proxied(proxy: FaultProxy, prefix: str) -> Endpoint:
    """The run's server behind the proxy, with a short time-out for commands."""
    return Endpoint(url=proxy.url, prefix=prefix, command_timeout_s=1.0)
