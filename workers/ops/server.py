"""The HTTP server of /livez, /readyz, /startupz, /metrics and /workers: GET and HEAD, JSON or Prometheus text, no more.

Answers don't say what software runs here, and a check or a metric that breaks is an answer of 503, never a crash.
/workers names jobs by their ids, so it answers to this machine alone.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from aiohttp import web

from workers.ops.health import Check, Probe, report

log = logging.getLogger(__name__)

#: Seconds after which a scrape is answered without the metrics, and an idle or slow connection is closed.
METRICS_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 15.0
_PROBES: dict[str, Probe] = {"/livez": "live", "/readyz": "ready", "/startupz": "startup"}
_METHODS = ("GET", "HEAD")
_HEADERS = {"Server": "fleet", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class OpsServerError(RuntimeError):
    """The server can't listen; the message names the address and the setting."""


class OpsServer:
    """A Service that answers probes and scrapes.

    Args:
        host: an address or a name of this machine; `0.0.0.0` for all.
        port: 0 takes a free one, told by `url`.
        checks: called on the loop for each probe; fast, no I/O.
        metrics: called in a thread for each scrape; returns the text and its content type.
        workers: called on the loop for /workers; fast, no I/O, JSON. Defaults to none: it is not found then.
        metrics_timeout_s: how long a scrape waits for it. Defaults to 5.
    """

    name = "ops-server"

    def __init__(
        self,
        host: str,
        port: int,
        checks: Callable[[], Sequence[Check]],
        metrics: Callable[[], tuple[bytes, str]],
        *,
        workers: Callable[[], Mapping[str, Any]] | None = None,
        metrics_timeout_s: float = METRICS_TIMEOUT_S,
    ) -> None:
        self._host = host
        self._port = port
        self._checks = checks
        self._metrics = metrics
        self._workers = workers
        self._metrics_timeout_s = metrics_timeout_s
        self._server: _Server | None = None
        self._runner: web.ServerRunner | None = None
        self._scrape: asyncio.Future[tuple[bytes, str]] | None = None
        self._cleanup: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self.url = ""
        """Where it listens, `http://127.0.0.1:9464`; empty until started."""

    async def start(self) -> None:
        """Listen.

        Raises:
            OpsServerError: the address is in use, not permitted, or not one of this machine.
            RuntimeError: it was started or stopped before.
        """
        if self._runner is not None or self._stopped.is_set():
            raise RuntimeError("the ops server was started or stopped already; make a new one")
        self._server = _Server(self._answer)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise OpsServerError(why_not(error, self._host, self._port, "http")) from error
        loopback = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared, not bound
        host = loopback.get(self._host, self._host)
        self.url = f"http://[{host}]:{site.port}" if ":" in host else f"http://{host}:{site.port}"
        log.info("health and metrics on %s", self.url)

    async def wait(self) -> None:
        """Return after `stop`."""
        await self._stopped.wait()

    async def stop(self, *, by: float) -> None:
        """Close the port, give answers under way a second or two, not beyond `by`, then cut the connections."""
        self._stopped.set()
        if self._runner is None or self._server is None:
            return
        if self._cleanup is None:
            self._cleanup = asyncio.create_task(self._runner.cleanup(), name="ops-server-stop")
        await asyncio.wait({self._cleanup}, timeout=max(0.0, by - time.monotonic()))
        if not self._cleanup.done():
            self._cleanup.cancel()
            await asyncio.wait({self._cleanup})
            for connection in self._server.connections:
                connection.force_close()
        elif not self._cleanup.cancelled() and (error := self._cleanup.exception()):
            log.warning("the ops server did not close cleanly", exc_info=error)

    def health(self) -> Check:
        """Whether it listens."""
        listening = bool(self.url) and not self._stopped.is_set()
        return Check(self.name, listening, self.url if listening else "not listening", frozenset())

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        paths = [*_PROBES, "/metrics", *(["/workers"] if self._workers is not None else [])]
        if request.path not in paths:
            return _json(404, {"error": "not found", "paths": paths})
        if request.method not in _METHODS:
            return _json(405, {"error": "method not allowed"}, {"Allow": ", ".join(_METHODS)})
        if request.path == "/metrics":
            return await self._exposition()
        if request.path == "/workers":
            return self._look(request)
        return self._probe(_PROBES[request.path])

    def _look(self, request: web.BaseRequest) -> web.Response:
        if not is_local(request.remote, request.host):
            return _json(403, {"error": "it names jobs, and answers to this machine alone: ask http://127.0.0.1 here"})
        try:
            return _json(200, self._workers() if self._workers is not None else {})
        except Exception as error:
            log.exception("what the processes do can't be told")
            return _json(503, {"error": type(error).__name__})

    def _probe(self, probe: Probe) -> web.Response:
        try:
            answer = report(self._checks(), probe)
        except Exception as error:
            log.exception("the checks of %s failed", probe)
            return _json(503, {"status": "failing", "error": type(error).__name__})
        return _json(answer.status, answer.body)

    async def _exposition(self) -> web.Response:
        # One at a time: scrapes that come while it hangs wait for the same one instead of piling up threads.
        if self._scrape is None or self._scrape.done():
            self._scrape = _in_thread(self._metrics)
        try:
            body, content_type = await asyncio.wait_for(asyncio.shield(self._scrape), self._metrics_timeout_s)
        except TimeoutError:
            return _json(503, {"error": f"the metrics took longer than {self._metrics_timeout_s:g} s"})
        except _MetricsFailed as failure:
            log.error("the metrics failed", exc_info=failure)
            return _json(503, {"error": str(failure)})
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})


class _MetricsFailed(Exception):
    """The name of the exception that the metrics raised."""


class _Server(web.Server):
    """aiohttp's server with our connections."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # documented as "no access log"
            keepalive_timeout=IDLE_TIMEOUT_S,
            lingering_time=0.0,  # no request here has a body worth reading
            logger=log,
        )


class _Connection(web.RequestHandler):
    """Answers requests that can't be parsed like all others: JSON, no version, no stack in the log."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("a request could not be answered", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = _json(status, {"error": "bad request" if status < 500 else "internal error"})
        response.force_close()
        return response


def is_local(peer: str | None, host: str) -> bool:
    """Whether a request comes from this machine and is meant for it. Pure.

    Args:
        peer: the address of the other end.
        host: the header; a page in a browser of this machine could otherwise ask here under a name of its own.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return _is_loopback(peer or "") and (name.lower() == "localhost" or _is_loopback(name.strip("[]")))


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1, where one socket serves both families
    return (mapped or address).is_loopback


def _json(status: int, body: Mapping[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        text=json.dumps(body) + "\n",
        content_type="application/json",
        headers={**_HEADERS, **(headers or {})},
    )


def _in_thread(function: Callable[[], tuple[bytes, str]]) -> asyncio.Future[tuple[bytes, str]]:
    """Run in a daemon thread: one that hangs keeps neither the pool of `asyncio.to_thread` nor the exit waiting."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[bytes, str]] = loop.create_future()

    def settle(result: tuple[bytes, str] | None, failure: BaseException | None) -> None:
        if result is not None:
            future.set_result(result)
            return
        error = _MetricsFailed(type(failure).__name__)
        error.__cause__ = failure
        future.set_exception(error)
        future.exception()  # read here: the scrapes that wanted it may have given up

    def run() -> None:
        outcome: tuple[tuple[bytes, str] | None, BaseException | None]
        try:
            outcome = (function(), None)
        except BaseException as error:
            outcome = (None, error)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="metrics", daemon=True).start()
    return future


def why_not(error: OSError, host: str, port: int, section: str) -> str:
    """Why the address can't be listened on, and which setting of this section to change."""
    where = f"can't listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: the port is in use; set {section}.port to another (0 takes a free one)"
    if error.errno == errno.EACCES:
        return f"{where}: not permitted; set {section}.port to 1024 or higher"
    return f"{where}: {error.strerror or error}; set {section}.host to an address of this machine"
