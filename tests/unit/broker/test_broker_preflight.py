"""What must be true of a server before jobs are taken from it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from workers.broker.preflight import ServerFacts, ServerRefusedError, examine, judge


@pytest.mark.parametrize("version", ["6.0", "6.0.16", "6.2.14", "7.2.4", "8", "10.1", "255.255.255", "", "unknown"])
@pytest.mark.parametrize("eviction", ["noeviction", ""])
def test_fit_servers_pass(version: str, eviction: str) -> None:
    judge(ServerFacts(version, eviction), allow_eviction=False)


@pytest.mark.parametrize("version", ["5.0.14", "5", "4.0.9", "3.2"])
def test_old_servers_are_refused_whatever_is_allowed(version: str) -> None:
    with pytest.raises(ServerRefusedError, match=f"Redis {version} is too old: 6.0 or newer is needed"):
        judge(ServerFacts(version, "noeviction"), allow_eviction=True)


@pytest.mark.parametrize("eviction", ["allkeys-lru", "volatile-lru", "allkeys-random", "volatile-ttl", "something-new"])
def test_servers_that_may_evict_are_refused_unless_allowed(eviction: str) -> None:
    facts = ServerFacts("7.2.4", eviction)
    with pytest.raises(ServerRefusedError, match=f"maxmemory-policy is {eviction}.*redis.allow_eviction: true"):
        judge(facts, allow_eviction=False)
    judge(facts, allow_eviction=True)


class Server:
    """Answers PING and INFO."""

    def __init__(self, info: Any, ping: Exception | None = None) -> None:
        self._info = info
        self._ping = ping

    async def ping(self) -> None:
        if self._ping is not None:
            raise self._ping

    async def info(self) -> Any:
        if isinstance(self._info, Exception):
            raise self._info
        return self._info


def server(*args: Any) -> Redis:
    return cast(Redis, Server(*args))


async def test_server_is_judged_by_what_it_says() -> None:
    good = {"redis_version": "7.2.4", "maxmemory_policy": "noeviction"}
    assert await examine(server(good), allow_eviction=False) == ServerFacts("7.2.4", "noeviction")
    with pytest.raises(ServerRefusedError):
        await examine(server({**good, "maxmemory_policy": "allkeys-lru"}), allow_eviction=False)


@pytest.mark.parametrize("denied", [NoPermissionError("NOPERM"), ResponseError("unknown command 'info'")])
async def test_server_that_does_not_say_anything_is_trusted(denied: Exception) -> None:
    assert await examine(server(denied), allow_eviction=False) == ServerFacts()
    assert await examine(server({}), allow_eviction=False) == ServerFacts()


async def test_server_that_does_not_answer_is_for_trying_again() -> None:
    with pytest.raises(RedisConnectionError):
        await examine(server({}, RedisConnectionError("refused")), allow_eviction=False)
