"""The API as a fleet serves it, on a real server, with a token for each role."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from bullmq import Queue
from redis.asyncio import Redis

from config.api_section import ApiConfig, TokenConfig
from config.loader import load
from config.schema import FleetConfig
from workers.cli.options import shipped_config
from workers.fleet.api import api_server
from workers.ops.api.server import ApiServer
from workers.ops.api.tokens import hash_of, new_token
from workers.runtime import settings

ROLES = ("viewer", "operator", "admin")
QUEUE = "email-send"


@dataclass
class Api:
    """A server under test."""

    server: ApiServer
    tokens: dict[str, str]
    client: aiohttp.ClientSession
    prefix: str

    async def ask(
        self, method: str, path: str, *, role: str | None = "admin", body: Any = None, **options: Any
    ) -> tuple[int, Any, Any]:
        """Status, parsed answer, headers."""
        headers = dict(options.pop("headers", {}))
        if role is not None:
            headers["Authorization"] = f"Bearer {self.tokens[role]}"
        if body is not None:
            options["json"] = body
        async with self.client.request(method, self.server.url + path, headers=headers, **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None, answer.headers


def configured(url: str, prefix: str, **api: Any) -> FleetConfig:
    """The shipped configuration with an API."""
    config = load(shipped_config(), overrides=[f"redis.url={url}"]).config
    redis = config.redis.model_copy(update={"prefix": prefix})
    return config.model_copy(update={"redis": redis, "api": ApiConfig(enabled=True, port=0, **api)})


@pytest.fixture
def tokens() -> dict[str, str]:
    return {role: new_token() for role in ROLES}


@pytest.fixture
async def api(redis_url: str, prefix: str, tokens: dict[str, str]) -> AsyncIterator[Api]:
    known = tuple(
        TokenConfig.model_validate({"name": f"{role}-1", "role": role, "hash": hash_of(token)})
        for role, token in tokens.items()
    )
    config = configured(redis_url, prefix, tokens=known, rate="100000/1m", max_streams=3, max_body="64KB")
    server = api_server(config, settings.endpoint(config))
    assert server is not None
    await server.start()
    async with aiohttp.ClientSession() as client:
        yield Api(server, tokens, client, prefix)
    await server.stop(by=0)


@pytest.fixture
async def queue(redis: Redis, prefix: str) -> Queue:
    return Queue(QUEUE, {"connection": redis, "prefix": prefix})


MAIL = {"type": "email-send", "id": "m1", "to": ["a@example.com"], "subject": "s", "text": "t"}
