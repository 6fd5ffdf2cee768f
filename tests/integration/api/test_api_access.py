"""Who may do what: every operation with every role, with no token, and with wrong ones."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import pytest

from config.api_section import ApiConfig, TokenConfig
from tests.integration.api.conftest import Api, configured
from workers.fleet.api import api_server, token_book
from workers.ops.api.act_table import ACT
from workers.ops.api.caller import ROLES
from workers.ops.api.look_operations import LOOK
from workers.ops.api.operation import Operation
from workers.ops.api.tokens import hash_of, new_token
from workers.runtime import settings

OPERATIONS = (*LOOK, *ACT)


def path_of(operation: Operation) -> str:
    known = {"{queue}": "email-send", "{job}": "no-such-job", "{task}": "no-such-task"}
    path = operation.path
    for name, value in known.items():
        path = path.replace(name, value)
    return path


@pytest.mark.parametrize("role", [None, *ROLES], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.id)
async def test_operation_needs_its_role(api: Api, operation: Operation, role: str | None) -> None:
    """401 without a token, 403 with too little; with enough, whatever the request itself comes to."""
    if operation.tag == "events" and role is not None:
        pytest.skip("a stream does not end; see test_api_streams")
    status, answer, _ = await api.ask(operation.method, path_of(operation), role=role, body={})
    needed = operation.role
    assert needed is not None
    if role is None:
        assert (status, answer["code"]) == (401, "unauthorized")
    elif ROLES.index(role) < ROLES.index(needed):  # type: ignore[arg-type]
        assert (status, answer["code"]) == (403, "forbidden")
    else:
        assert status not in (401, 403)


@pytest.mark.parametrize(
    "shown", ["Bearer fleet_wrong", "Bearer ", "Basic YTpi", "Bearer " + "x" * 5000, "bearer fleet_wrong", "nonsense"]
)
async def test_wrong_token_is_refused_and_not_repeated(api: Api, shown: str) -> None:
    status, answer, headers = await api.ask("GET", "/queues", role=None, headers={"Authorization": shown})
    assert status == 401
    assert headers["WWW-Authenticate"] == "Bearer"
    assert "fleet_wrong" not in str(answer)


async def test_many_wrong_tokens_are_slowed_down(api: Api) -> None:
    seen = [(await api.ask("GET", "/queues", role=None, headers={"Authorization": "Bearer no"}))[0] for _ in range(30)]
    assert seen[:20] == [401] * 20
    assert seen[-1] == 429


async def test_expired_and_dropped_tokens_are_refused(api: Api) -> None:
    soon, late = new_token(), new_token()
    hour = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    api.server.gate.tokens = token_book(
        ApiConfig.model_validate(
            {
                "enabled": True,
                "tokens": [
                    {"name": "old", "hash": hash_of(soon), "expires": hour},
                    {"name": "new", "hash": hash_of(late), "expires": "2999-01-01"},
                ],
            }
        )
    )
    for token, expected in ((soon, 401), (late, 200), (api.tokens["admin"], 401)):
        status, _, _ = await api.ask("GET", "/queues", role=None, headers={"Authorization": f"Bearer {token}"})
        assert status == expected


# ----------------------------------------------------------------- without tokens


async def test_without_tokens_this_machine_may_look_and_not_act(redis_url: str, prefix: str) -> None:
    config = configured(redis_url, prefix)
    server = api_server(config, settings.endpoint(config))
    assert server is not None
    await server.start()
    async with aiohttp.ClientSession() as client:
        for method, path, headers, expected in [
            ("GET", "/queues", {}, 200),
            ("POST", "/queues/email-send/pause", {}, 403),
            ("GET", "/queues", {"Host": "evil.example.com"}, 401),
            ("GET", "/queues", {"Origin": "http://evil.example.com"}, 401),
        ]:
            async with client.request(method, server.url + path, headers=headers) as answer:
                assert answer.status == expected, (method, headers)
    await server.stop(by=0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fleet.example.com"])
def test_beyond_this_machine_it_needs_tokens(host: str) -> None:
    with pytest.raises(ValueError, match="open beyond this machine: add tokens"):
        ApiConfig.model_validate({"enabled": True, "host": host})
    token = {"name": "a", "hash": hash_of(new_token())}
    assert ApiConfig.model_validate({"enabled": True, "host": host, "tokens": [token]}).tokens[0].role == "viewer"


def test_token_itself_in_the_configuration_is_refused_without_being_shown() -> None:
    token = new_token()
    with pytest.raises(ValueError) as refused:
        TokenConfig.model_validate({"name": "a", "hash": token})
    assert token not in str(refused.value)
    assert "hash" in str(refused.value)


# ----------------------------------------------------------------------- sessions


class Browser:
    """A client with cookies."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.client = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.csrf = ""

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> int:
        async with self.client.request(method, self.api.server.url + path, headers=headers, **options) as answer:
            if path == "/session" and method == "POST" and answer.status == 200:
                self.csrf = (await answer.json())["csrfToken"]
                self.cookie = answer.headers["Set-Cookie"]
            return answer.status


async def test_session_needs_its_csrf_token_and_its_own_page(api: Api) -> None:
    browser = Browser(api)
    try:
        assert await browser.ask("POST", "/session", json={"token": "fleet_no"}) == 401
        assert await browser.ask("POST", "/session", json={"token": api.tokens["operator"]}) == 200
        assert "HttpOnly" in browser.cookie and "SameSite=Strict" in browser.cookie
        assert api.tokens["operator"] not in browser.cookie
        assert await browser.ask("GET", "/queues") == 200
        assert await browser.ask("GET", "/session") == 200
        pause = "/queues/email-send/pause"
        assert await browser.ask("POST", pause) == 403
        assert await browser.ask("POST", pause, {"X-CSRF-Token": "wrong"}) == 403
        foreign = {"X-CSRF-Token": browser.csrf, "Origin": "https://evil.example.com"}
        assert await browser.ask("POST", pause, foreign) == 403
        assert await browser.ask("POST", pause, {"X-CSRF-Token": browser.csrf}) in (200, 404)
        jar = {"Cookie": browser.cookie.partition(";")[0]}
        assert await browser.ask("DELETE", "/session", {"X-CSRF-Token": browser.csrf}) == 204
        browser.client.cookie_jar.clear()
        assert await browser.ask("GET", "/queues", jar) == 401  # what was copied is worth nothing
    finally:
        await browser.client.close()


async def test_session_ends_with_its_token(api: Api) -> None:
    browser = Browser(api)
    try:
        assert await browser.ask("POST", "/session", json={"token": api.tokens["viewer"]}) == 200
        api.server.gate.tokens = token_book(ApiConfig())
        jar = {"Cookie": browser.cookie.partition(";")[0], "Host": "elsewhere.example.com"}
        assert await browser.ask("GET", "/queues", jar) == 401
    finally:
        await browser.client.close()


async def test_rate_is_limited_by_caller(redis_url: str, prefix: str) -> None:
    token = new_token()
    known = TokenConfig.model_validate({"name": "a", "hash": hash_of(token)})
    config = configured(redis_url, prefix, tokens=(known,), rate="5/1m")
    server = api_server(config, settings.endpoint(config))
    assert server is not None
    await server.start()
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as client:
        seen = []
        for _ in range(7):
            async with client.get(server.url + "/health", headers=headers) as answer:
                seen.append(answer.status)
                after = answer.headers.get("Retry-After")
    await server.stop(by=0)
    assert seen == [200] * 5 + [429] * 2
    assert after is not None and 1 <= int(after) <= 12


async def test_large_and_strange_bodies_are_refused(api: Api) -> None:
    path = "/tasks/statuses"
    status, answer, _ = await api.ask("POST", path, body={"ids": ["x" * 70_000]})
    assert (status, answer["code"]) == (413, "too-large")
    for body, code in ((b"{", 422), (b'{"ids": [NaN]}', 422), (b"[" * 50_000, 422), (b"\xff\xfe", 422)):
        status, answer, _ = await api.ask("POST", path, data=body, headers={"Content-Type": "application/json"})
        assert status == code, body[:10]
    status, _, _ = await api.ask("POST", path, data=b"a=b", headers={"Content-Type": "text/plain"})
    assert status == 415
    status, answer, _ = await api.ask("POST", path, body={"ids": ["a"], "quueue": "x"})
    assert (status, answer["field"]) == (422, "body.quueue")
