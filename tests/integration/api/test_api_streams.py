"""Events as they happen, and what becomes of more listeners than may be."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from bullmq import Queue

from tests.integration.api.conftest import MAIL, QUEUE, Api


async def frames(answer: aiohttp.ClientResponse, count: int) -> list[dict[str, str]]:
    """The next frames, comments left out."""
    found: list[dict[str, str]] = []
    frame: dict[str, str] = {}
    async with asyncio.timeout(15):
        while len(found) < count:
            line = (await answer.content.readline()).decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                frame[name] = value
            elif frame:
                if "data" in frame:
                    found.append(frame)
                frame = {}
    return found


def stream(api: Api, path: str = f"/events?queue={QUEUE}", **headers: str) -> Any:
    token = {"Authorization": f"Bearer {api.tokens['viewer']}"}
    return api.client.get(api.server.url + path, headers={**token, **headers})


async def begun(answer: aiohttp.ClientResponse) -> None:
    """The stream listens: it has said when to come again, and then that it is there."""
    assert (await answer.content.readline()).startswith(b"retry: ")


async def test_events_are_told_and_resumed_where_they_broke_off(api: Api, queue: Queue) -> None:
    async with stream(api) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        await begun(answer)
        await queue.add(QUEUE, MAIL, {"jobId": "first"})
        told = await frames(answer, 2)
        assert [json.loads(each["data"])["jobId"] for each in told] == ["first", "first"]
        assert {each["event"] for each in told} == {"added", "waiting"}
        last = told[-1]["id"]
    await queue.add(QUEUE, MAIL, {"jobId": "meanwhile"})
    async with stream(api, **{"Last-Event-ID": last}) as answer:
        again = await frames(answer, 2)
    assert {json.loads(each["data"])["jobId"] for each in again} == {"meanwhile"}


async def test_hostile_job_name_can_not_begin_a_frame(api: Api, queue: Queue) -> None:
    async with stream(api) as answer:
        await begun(answer)
        await queue.add("x\n\nevent: forged\ndata: {}\n\n", MAIL, {"jobId": "a\r\nb"})
        told = await frames(answer, 2)
    assert {each["event"] for each in told} <= {"added", "waiting"}


async def test_too_many_listeners_are_asked_to_come_back(api: Api) -> None:
    """3 may; of 200 more, all get an answer, and the 3 go on."""
    first = [await stream(api) for _ in range(3)]
    for answer in first:
        await begun(answer)
    limit = asyncio.Semaphore(50)

    async def late() -> tuple[int, str | None]:
        async with limit, stream(api) as answer:
            return answer.status, answer.headers.get("Retry-After")

    assert set(await asyncio.gather(*(late() for _ in range(200)))) == {(503, "10")}
    first[0].close()
    async with asyncio.timeout(10):
        while True:
            async with stream(api) as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.05)
    for answer in first[1:]:
        answer.close()


async def test_bad_last_event_id_is_passed_over(api: Api, queue: Queue) -> None:
    for place in ('{"email-send": "x"}', "[", "[" * 1000, '{"email-send": 7}'):
        async with stream(api, **{"Last-Event-ID": place}) as answer:
            assert answer.status == 200
            await begun(answer)


async def test_stop_ends_the_streams(api: Api) -> None:
    async with stream(api) as answer:
        await begun(answer)
        async with asyncio.timeout(5):
            await api.server.stop(by=asyncio.get_running_loop().time() + 3)
            await answer.content.read()
