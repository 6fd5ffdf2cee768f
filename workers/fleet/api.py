"""The HTTP API of a fleet, if its configuration asks for one."""

from __future__ import annotations

from typing import cast

from config.api_section import ApiConfig
from config.schema import FleetConfig
from workers.broker.client import FleetRedis
from workers.broker.endpoint import Endpoint
from workers.ops.api.act_table import ACT
from workers.ops.api.gate import Gate
from workers.ops.api.look_operations import LOOK
from workers.ops.api.rate import RateLimiter
from workers.ops.api.server import ApiServer
from workers.ops.api.sessions import Sessions
from workers.ops.api.streams import Streams
from workers.ops.api.tokens import KnownToken, TokenBook
from workers.queue_service.service import queue_service


def api_server(config: FleetConfig, endpoint: Endpoint) -> ApiServer | None:
    """The server, with a connection of its own; None: `api.enabled` is false."""
    api = config.api
    if not api.enabled:
        return None
    client = cast(FleetRedis, endpoint.commands())
    service = queue_service(config, endpoint, client)
    gate = Gate(token_book(api), Sessions(api.session), RateLimiter(api.rate.count, api.rate.per_s), api.origins)

    async def close() -> None:
        await service.close()
        await client.aclose()

    return ApiServer(
        service,
        (*LOOK, *ACT),
        gate,
        Streams(api.max_streams),
        host=api.host,
        port=api.port,
        max_body=api.max_body,
        secure_cookie=api.secure_cookie,
        close=close,
    )


def token_book(api: ApiConfig) -> TokenBook:
    """The tokens of this configuration."""
    return TokenBook(KnownToken(each.name, each.role, each.hash, each.expires_at) for each in api.tokens)
