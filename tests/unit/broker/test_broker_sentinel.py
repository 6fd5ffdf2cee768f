"""Finding the primary: whom the sentinels name, whichever of them answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.conftest import wait_until
from workers.broker import sentinel as module
from workers.broker.connection import Node
from workers.broker.sentinel import SentinelLocator

A, B, C = ("a", 1), ("b", 2), ("c", 3)


class Sentinels:
    """What each sentinel answers; errors are raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask(self, node: Node, *words: str) -> Any:
        assert words == ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        self.asked.append(node[0])
        answer = self.answers[node[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_first_sentinel_that_knows_is_believed_and_asked_first_from_then_on() -> None:
    sentinels = Sentinels(a=RedisTimeoutError("slow"), b=None, c=["10.0.0.7", "6380"])
    locator = SentinelLocator("main", [A, B, C], sentinels.ask)
    assert await locator.locate() == ("10.0.0.7", 6380)
    assert locator.address == ("10.0.0.7", 6380)
    assert sentinels.asked == ["a", "b", "c"]
    await locator.locate()
    assert sentinels.asked == ["a", "b", "c", "c"]
    sentinels.answers |= {"c": OSError("gone"), "a": ["10.0.0.8", "6380"]}
    assert await locator.locate() == ("10.0.0.8", 6380)


async def test_all_refusals_are_told() -> None:
    sentinels = Sentinels(a=RedisConnectionError("refused"), b=None, c=AuthenticationError("no password"))
    locator = SentinelLocator("main", [A, B, C], sentinels.ask)
    with pytest.raises(RedisConnectionError) as failure:
        await locator.locate()
    assert str(failure.value) == (
        "no sentinel says where 'main' is (redis.url): "
        "a:1: refused; b:2 knows no primary of that name; c:3: no password"
    )


async def test_doubt_concerns_one_address_only() -> None:
    locator = SentinelLocator("main", [A], Sentinels(a=["new", "1"]).ask)
    await locator.locate()
    locator.doubt(("old", 1), None)
    assert locator.address == ("new", 1)
    locator.doubt(("new", 1), None)
    assert locator.address is None


async def test_primary_is_asked_for_again_while_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinels = Sentinels(a=["old", "1"])
    locator = SentinelLocator("main", [A], sentinels.ask)
    await locator.locate()
    for _ in range(100):
        locator.remind()
    await asyncio.sleep(0)
    assert sentinels.asked == ["a"]  # it was asked just now

    monkeypatch.setattr(module, "LOOK_S", 0.0)
    await locator.locate()
    sentinels.answers["a"] = ["new", "1"]
    locator.remind()
    assert locator.address == ("old", 1)
    await wait_until(lambda: locator.address == ("new", 1))
    sentinels.answers["a"] = OSError("gone")
    locator.remind()
    await wait_until(lambda: len(sentinels.asked) == 4)
    assert locator.address == ("new", 1)
    await locator.close()


async def test_question_that_hangs_is_not_asked_twice_and_ends_with_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def hang(node: Node, *words: str) -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "LOOK_S", 0.0)
    locator = SentinelLocator("main", [A], hang)
    for _ in range(5):
        locator.remind()
        await asyncio.sleep(0)
    assert asked == 1
    await locator.close()
    await locator.close()
    await SentinelLocator("main", [A], hang).close()
