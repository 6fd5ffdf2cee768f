"""What `redis.url` says, read once and strictly: what can't be meant is refused, and no refusal quotes the URL.

redis://user:password@host:6379/0                    rediss:// with TLS
unix://user:password@/path/to/socket?db=0
redis+sentinel://user:password@host1:26379,host2/mymaster/0    rediss+sentinel:// with TLS to both kinds of server
redis+cluster://user:password@host1:7000,host2:7001  rediss+cluster:// with TLS
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

Kind = Literal["single", "unix", "sentinel", "cluster"]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Za-z:.%_-]+)\]|(?P<name>[^\s:@/\[\],?#]*))(?::(?P<port>[0-9]{1,5}))?")
_DB = re.compile(r"[0-9]{1,4}")
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")  # what Sentinel itself takes as the name of a primary
#: Parameters of the Node client that mean nothing here: all addresses of a host are tried, IPv4 and IPv6.
_FOR_NODE = frozenset({"family", "allowUsernameInURI"})


class EndpointError(ValueError):
    """A setting of `redis` can't be used. The message names the field and the fix and quotes no value of it: a
    password with a raw `/`, `#` or `?` shows up in any part of a URL.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"redis.{field}: {problem}")
        self.path = ("redis", *field.split("."))
        """The field in the configuration."""
        self.problem = problem


def _unreadable(why: str = "") -> EndpointError:
    return EndpointError(
        "url",
        f"can't be read{why}: write redis://user:password@host:6379/0, rediss:// for TLS, unix:///path, "
        "redis+sentinel://host:26379,host/name/0 or redis+cluster://host:7000,host, "
        "with user and password percent-encoded",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL's parts, decoded."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...] = ()
    """The server, the sentinels or the seeds of the cluster; empty for a Unix socket."""
    path: str = ""
    """Of the Unix socket."""
    service: str = ""
    """The name by which the sentinels know the primary."""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    display: str
    """The URL without user, password and query: safe to show."""


def parse(url: str) -> Address:
    """Read a URL.

    Raises:
        EndpointError: it can't be read, or says something that can't be meant.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unreadable() from None
    kind, tls = _SCHEMES.get(parts.scheme, (None, False))
    # An @ behind the hosts, or a fragment, is a piece of a password that is not encoded.
    if kind is None or "@" in parts.path or parts.fragment or (kind != "unix" and "@" in parts.query):
        raise _unreadable()
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, _, password = (unquote(part) for part in userinfo.partition(":"))
    query = _query(parts.query)
    known = dict(
        kind=kind,
        tls=tls,
        username=query.get("username", username) or None,
        password=query.get("password", password) or None,
    )
    shown = f"{parts.scheme}://{hosts}{parts.path}"
    if kind == "unix":
        if hosts or not parts.path.strip("/"):
            raise _unreadable(" (a Unix socket has a path and no host)")
        return Address(**known, path=unquote(parts.path), db=_db("", query), display=shown)  # type: ignore[arg-type]
    service, path = _service(parts.path) if kind == "sentinel" else ("", parts.path)
    db = _db(path.removeprefix("/"), query)
    if kind == "cluster" and db:
        raise EndpointError("url", "a cluster has database 0 alone: leave the number out")
    return Address(**known, hosts=_hosts(hosts, kind), service=service, db=db, display=shown)  # type: ignore[arg-type]


def _hosts(text: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    default = 26379 if kind == "sentinel" else 6379
    found = []
    for item in text.split(","):
        match = _HOST.fullmatch(item)
        port = int(match["port"] or default) if match else 0
        if match is None or not 0 < port < 65536:
            raise _unreadable()
        found.append((unquote(match["v6"] or match["name"]) or "localhost", port))
    if kind == "single" and len(found) > 1:
        raise EndpointError("url", "several hosts need redis+sentinel://…/name or redis+cluster://")
    return tuple(found)


def _service(path: str) -> tuple[str, str]:
    service, _, rest = path.removeprefix("/").partition("/")
    if not _SERVICE.fullmatch(unquote(service)):
        raise EndpointError(
            "url", "the name by which the sentinels know the primary is missing: redis+sentinel://host:26379/mymaster/0"
        )
    return unquote(service), rest


def _db(path: str, query: dict[str, str]) -> int:
    written = path or query.get("db", "0")
    if not _DB.fullmatch(written) or (path and query.get("db", path) != path):
        raise EndpointError("url", "the database must be one whole number, as in redis://host:6379/0")
    return int(written)


def _query(text: str) -> dict[str, str]:
    found = dict(parse_qsl(text, keep_blank_values=True))
    if not found.keys() <= {"db", "username", "password"} | _FOR_NODE:
        raise EndpointError(
            "url",
            "after the ? only db, username and password are understood; time-outs, TLS and the rest are fields of "
            "`redis` (connect_timeout, command_timeout, keepalive, tls)",
        )
    return found
