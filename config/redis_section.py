"""The section `redis` of fleet.yaml: where the queues live, and how to get there."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from config.quantities import unexpected
from config.section import Section
from config.units import WHOLE, Seconds

#: What Node's queues need of a server's address; the rest of it is the client's to judge.
REDIS_URL_PATTERN = r"^(?:embedded$|rediss?(?:\+(?:sentinel|cluster))?://.|unix://.)"


def _redis_url(value: str) -> str:
    if not re.match(REDIS_URL_PATTERN, value):
        expected = "`embedded` or a redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// URL"
        raise unexpected(expected, value)
    return value


Text = Annotated[str | None, AfterValidator(lambda value: value or None)]
"""Empty means not given, so that `${VAR:-}` leaves it to the environment."""


class TlsConfig(Section):
    """TLS to Redis, for rediss://, rediss+sentinel:// and rediss+cluster://. Files are read again when they change."""

    ca_file: Text = None
    """PEM file of the authorities that may have signed the server's certificate. Defaults to the system's."""
    cert_file: Text = None
    """PEM file of our own certificate, for servers that ask for one. Defaults to none."""
    key_file: Text = None
    """PEM file of that certificate's key, not encrypted. Defaults to the key in cert_file."""
    verify: bool = True
    """false: believe whoever answers; for tests. Defaults to true."""
    server_name: Text = None
    """What the server's certificate must be for, where sentinels or a cluster answer with bare addresses or a tunnel
    is between. Defaults to the host that is connected to."""


class SentinelConfig(Section):
    """The account at the sentinels themselves, for redis+sentinel:// and rediss+sentinel://."""

    username: Text = None
    """A user of the sentinels. Defaults to none."""
    password: Annotated[Text, Field(repr=False)] = None
    """The sentinels' password. Defaults to none."""


class ReconnectConfig(Section):
    """The waits between tries while Redis is away: doubling, half of each at random so that a fleet spreads out."""

    first: Seconds = 0.1
    """The first wait. Defaults to 100ms."""
    max: Seconds = 3.0
    """The longest wait. Defaults to 3s."""

    @model_validator(mode="after")
    def _ordered(self) -> ReconnectConfig:
        if self.first > self.max:
            raise ValueError("first must not exceed max")
        return self


class RedisConfig(Section):
    """Where the queues live."""

    url: Annotated[
        str,
        AfterValidator(_redis_url),
        Field(json_schema_extra={"pattern": REDIS_URL_PATTERN}, repr=False),
    ] = "embedded"
    """The server that the Node stack uses, user and password percent-encoded: redis://host:6379/0, rediss:// with TLS,
    unix:///path, redis+sentinel://host:26379,host/mymaster/0, redis+cluster://host:7000,host (both with rediss too);
    or `embedded` for a bundled Valkey. Defaults to embedded."""
    username: Text = None
    """The user, instead of in the URL. Defaults to none."""
    password: Annotated[Text, Field(repr=False)] = None
    """The password, instead of in the URL and not percent-encoded. Defaults to none."""
    prefix: Annotated[str, Field(min_length=1)] = "bull"
    """BullMQ's key prefix; must equal the Node side's. On a cluster it needs a hash tag, `{bull}`. Defaults to
    bull."""
    data_dir: Annotated[str, Field(min_length=1)] = ".fleet"
    """Where the embedded server keeps its files. Defaults to .fleet in the working directory."""
    allow_eviction: bool = False
    """Start although the server may evict keys (maxmemory-policy is not noeviction). Jobs can vanish then.
    Defaults to false."""
    connect_timeout: Seconds = 5.0
    """How long one connection attempt may take. Defaults to 5s."""
    command_timeout: Seconds = 15.0
    """How long the reply to a non-blocking command may take before the connection counts as lost. Defaults to 15s."""
    keepalive: Seconds = 30.0
    """Silence after which TCP asks whether the server still lives; it is lost after three more sixths of that.
    Defaults to 30s."""
    max_connections: Annotated[int, Field(ge=1, le=1000), WHOLE] = 16
    """The most connections for commands in one process; beyond it commands wait their turn. Each queue has one more,
    and so has the renewal of locks. Defaults to 16."""
    reconnect: ReconnectConfig = ReconnectConfig()
    """How often an outage is probed."""
    tls: TlsConfig = TlsConfig()
    """Whom we believe, and who we are."""
    sentinel: SentinelConfig = SentinelConfig()
    """The account at the sentinels."""
