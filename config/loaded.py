"""A configuration that passed, with the memory of where everything in it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config.errors import ConfigError, ConfigIssue, dotted
from config.findings import findings
from config.overrides import UnknownKeyError, resolve
from config.redaction import redact
from config.schema import FleetConfig
from config.shape import Shape
from config.tree import KeyPath, Node, child, find, nearest, plain
from config.units import HUMAN

# Says where a secret is, not what it is. With a default in it, it may say that too.
_BARE_REFERENCE = re.compile(r"\$\{\w+(?::-)?\}")
Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of the configuration in force, as `fleet config explain` shows it."""

    path: str
    value: str
    """As JSON, except that a text of one word stands without quotes. Secrets are masked."""
    origin: str


@dataclass(frozen=True, slots=True, repr=False)
class LoadedConfig:
    """The configuration in force and its origins. Made by `config.loader.load`."""

    config: FleetConfig
    written: Node
    """Files, overlays, environment and command line merged; `${…}` as written."""
    values: Node
    """The same, `${…}` filled. Holds secrets."""

    def __repr__(self) -> str:
        return f"<LoadedConfig: {self.values.origin.source}, {len(self.config.queues)} queues>"

    def issue(self, path: Sequence[str | int], message: str) -> ConfigIssue:
        """Something wrong at a key, placed where the key, or what holds it, was written."""
        return nearest(self.values, tuple(path)).origin.issue(tuple(path), message)

    def origin(self, path: Sequence[str | int]) -> str:
        """Where a value comes from: `fleet.yaml:12:5`, `env FLEET__…`, `--set …`, `default`.

        Behind it the variables that took part: `fleet.yaml:3:3 from ${REDIS_URL}`, or `… default of
        ${REDIS_URL}` where none was set.
        """
        node = self.values
        for key in path:
            below = child(node, key)
            if below is None and isinstance(node.value, dict | list):
                return "default"
            if below is None:
                break
            node = below
        text = str(node.origin)
        if node.filled is None:
            return text
        if node.filled.variables:
            return f"{text} from {', '.join(f'${{{name}}}' for name in node.filled.variables)}"
        return text + "".join(f" default of ${{{name}}}" for name in node.filled.defaulted[:1])

    def options(self, queue: str, model: type[Options]) -> Options:
        """Read a queue's `task.options` into its module's model.

        Raises:
            ConfigError: with each option's place, as `queues.email-send.task.options.smtp_url`.
        """
        return self.options_at(("queues", queue, "task", "options"), self.config.queues[queue].task.options, model)

    def options_at(self, path: KeyPath, options: Mapping[str, Any], model: type[Options]) -> Options:
        """The same for options that are written elsewhere.

        Raises:
            ConfigError: with each option's place.
        """
        try:
            return model.model_validate(options)
        except ValidationError as error:
            raise ConfigError(findings(error, self.values, Shape.of(model), path)) from None

    def resolved(self, *, redact: bool = True) -> dict[str, Any]:
        """Everything in force, defaults included, in human form (`30s`, `4MB`).

        Args:
            redact: mask secrets: by key, in URLs, and what came from a file or a secret's variable.
        """
        dump = self.config.model_dump(mode="json", context=HUMAN)
        return _masked(dump, self.values, ()) if redact else dump

    def merged(self, *, redact: bool = True) -> dict[str, Any]:
        """What files, overlays, environment and command line say together, `${…}` as written.

        Args:
            redact: mask secrets: by key and in URLs. A `${…}` is no secret.
        """
        tree: dict[str, Any] = plain(self.written)
        return _masked_written(tree, ()) if redact else tree

    def find(self, name: str) -> KeyPath:
        """The key that a dotted name means, however its letters and hyphens are written.

        Raises:
            LookupError: nothing in force is called so; the message suggests what is.
        """
        path = resolve(name.split("."), ".", self.values, Shape.of(FleetConfig))
        value: Any = self.resolved()
        for at, key in enumerate(path):
            if not isinstance(value, dict) or key not in value:
                raise UnknownKeyError("not in force here", path[: at + 1])
            value = value[key]
        return path

    def explain(self, path: KeyPath = ()) -> list[Leaf]:
        """Every value in force at or under a path, with its origin. Secrets are masked."""
        value: Any = self.resolved()
        for key in path:
            value = value[key]
        return [Leaf(dotted(at), _text(leaf), self.origin(at)) for at, leaf in _leaves(value, path)]


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """The values that hold no others; a list of single values counts as one."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, (*path, key))
    elif isinstance(value, list) and any(isinstance(below, dict | list) for below in value):
        for at, below in enumerate(value):
            yield from _leaves(below, (*path, at))
    else:
        yield path, value


def _text(value: Any) -> str:
    if isinstance(value, str) and value.isprintable() and value and not value.isspace():
        return value
    return json.dumps(value, ensure_ascii=False)


def _masked(value: Any, tree: Node, path: KeyPath) -> Any:
    if isinstance(value, dict):
        return {key: _masked(below, tree, (*path, key)) for key, below in value.items()}
    if isinstance(value, list):
        return [_masked(below, tree, (*path, at)) for at, below in enumerate(value)]
    node = find(tree, path)
    if node is not None and node.filled is not None and node.filled.hides:
        value = node.filled.shown
    return redact(value, path)


def _masked_written(value: Any, path: KeyPath) -> Any:
    if isinstance(value, dict):
        return {key: _masked_written(below, (*path, key)) for key, below in value.items()}
    if isinstance(value, list):
        return [_masked_written(below, (*path, at)) for at, below in enumerate(value)]
    if isinstance(value, str) and _BARE_REFERENCE.fullmatch(value):
        return value
    return redact(value, path)
