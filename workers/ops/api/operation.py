"""One operation of the API: all that the server, its document and its tests need to know of it is said once, here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from workers.ops.api.caller import Caller
from workers.ops.api.problem import ApiError
from workers.queue_service.actor import Actor, Role
from workers.queue_service.service import QueueService

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
ModelT = TypeVar("ModelT", bound=BaseModel)


class Message(BaseModel):
    """What crosses the wire: camelCase there, snake_case here. A field that is unknown is an error, since a misspelt
    `dryRun` would be none.
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class NoQuery(Message):
    """A request without a query."""


class NoBody(Message):
    """A request without a body."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that has been let in and read."""

    service: QueueService
    caller: Caller
    path: Mapping[str, str]
    query: Any
    """Of the operation's `query` model."""
    body: Any
    """Of the operation's `body` model."""

    @property
    def actor(self) -> Actor:
        """For the audit."""
        return Actor(self.caller.name, via="http")


Handle: TypeAlias = Callable[[Asked], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What may be asked, by whom, and what comes of it."""

    method: Method
    path: str
    """With `{names}`, below the API's root."""
    id: str
    """For generated clients."""
    summary: str
    role: Role | None
    """Who may; None: everybody who reaches it."""
    handle: Handle
    """Answers with what JSON can hold."""
    query: type[Message] = NoQuery
    body: type[Message] = NoBody
    answer: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of the answer."""
    problems: tuple[int, ...] = ()
    """Further answers that are a no, beside those that every operation has."""
    tag: str = "look"
    status: int = 200


def read(model: type[ModelT], value: Any, where: str) -> ModelT:
    """A part of a request by its model.

    Raises:
        ApiError: 422, naming the field, what was expected there, and no more of what was sent.
    """
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join([where, *(str(part) for part in first["loc"])])[:200]
        raise ApiError(422, "invalid", f"{place}: {first['msg'][:300]}", field=place) from None
