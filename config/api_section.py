"""The section `api` of fleet.yaml: the HTTP API by which people and programs look at queues and act on them."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from config.quantities import unexpected
from config.section import Section
from config.units import WHOLE, Bytes, Rate, Seconds

#: How a token's hash is written: what `fleet token` prints.
HASH_PATTERN = r"^sha256:[0-9a-f]{64}$"


def _moment(value: str) -> str:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise unexpected("a date or a time of ISO 8601, `2027-06-30` or `2027-06-30T12:00:00Z`", value) from None
    return value


class TokenConfig(Section):
    """Somebody who may use the API. To rotate a token, add a second one of the same name, give it out, and remove the
    first: `kill -HUP` makes both effective without a restart."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
    """Whose it is: what the audit says. Several tokens may have the same."""
    role: Literal["viewer", "operator", "admin"] = "viewer"
    """viewer: looks. operator: acts on jobs, and pauses and resumes queues. admin: drains, cleans, and edits
    schedules as well. Defaults to viewer."""
    hash: Annotated[str, Field(pattern=HASH_PATTERN, repr=False)]
    """`sha256:` and the token's digest, as `fleet token` prints it. The token itself is nowhere in a file."""
    expires: Annotated[str, AfterValidator(_moment)] | None = None
    """From when on it is refused: `2027-06-30`, midnight UTC where it says no zone. Defaults to never."""

    @property
    def expires_at(self) -> float | None:
        """Seconds since the epoch."""
        if self.expires is None:
            return None
        moment = datetime.fromisoformat(self.expires)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


class ApiConfig(Section):
    """Queues over HTTP. Without a token it answers to this machine alone, and lets it look, not act."""

    enabled: bool = False
    """true: serve it. Defaults to false: nothing listens that nobody asked for."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address it listens on; one beyond this machine needs `tokens`. Defaults to 127.0.0.1."""
    port: Annotated[int, Field(ge=0, le=65535), WHOLE] = 9465
    """The TCP port it listens on; 0 takes any free one and logs it. Defaults to 9465."""
    tokens: tuple[TokenConfig, ...] = ()
    """Who may use it. Defaults to nobody: then this machine may look."""
    origins: tuple[str, ...] = ()
    """Addresses of pages that may use it with a session's cookie, `https://fleet.example.com`, beside its own. Defaults
    to none."""
    secure_cookie: bool = False
    """Whether a session's cookie goes over HTTPS alone: set it behind a proxy that speaks HTTPS. Defaults to false."""
    session: Seconds = 28_800.0
    """How long a session lasts. Defaults to 8h."""
    rate: Rate = Rate(count=600, per_s=60.0)
    """Requests that one token, or one address without a token, may make. Defaults to 600/1m."""
    max_body: Bytes = 4_194_304
    """The largest request. Defaults to 4MB."""
    max_streams: Annotated[int, Field(ge=1, le=10_000), WHOLE] = 100
    """Clients that may listen to events at once; more are asked to come back later. Defaults to 100."""

    @model_validator(mode="after")
    def _guarded(self) -> ApiConfig:
        if self.enabled and not self.tokens and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r:.60} is open beyond this machine: add tokens (`fleet token NAME`), or listen on"
                " 127.0.0.1"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
