"""Configuration as a tree that remembers where each value was written.

Trees are never changed: merging, overriding and interpolating each give a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from config.errors import ConfigIssue, dotted

KeyPath: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written."""

    kind: Literal["file", "env", "set"]
    source: str
    """The file's name, the variable's name, or `--set`."""
    line: int = 0
    """From 1 in a file, else 0."""
    column: int = 0
    """From 1 in a file, else 0."""
    key: str = ""
    """The key as typed behind `--set`."""

    def __str__(self) -> str:
        match self.kind:
            case "file":
                return f"{self.source}:{self.line}:{self.column}"
            case "env":
                return f"env {self.source}"
            case "set":
                return f"--set {self.key}"

    def issue(self, path: KeyPath, message: str) -> ConfigIssue:
        """An issue at this place."""
        return ConfigIssue(source=self.source, line=self.line, column=self.column, path=dotted(path), message=message)


@dataclass(frozen=True, slots=True)
class Filled:
    """What `${…}` in a text became."""

    template: str
    """The text as written."""
    shown: str
    """The result, with what came from a file or a secret's variable masked."""
    variables: tuple[str, ...]
    """The variables that gave a value, as `NAME` or `NAME_FILE`."""
    defaulted: tuple[str, ...]
    """The variables whose default was used."""
    secrets: tuple[str, ...]
    """The values that the variables gave. Never to be printed in an error."""
    hides: bool
    """Whether `shown` differs from the result."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its origin."""

    value: dict[str, Node] | list[Node] | Scalar
    origin: Origin
    filled: Filled | None = None
    """Set where the environment or a default took part in the value."""


Report: TypeAlias = Callable[[ConfigIssue], None]


def plain(node: Node) -> Any:
    """The bare value: dicts, lists and scalars."""
    match node.value:
        case dict() as entries:
            return {key: plain(child) for key, child in entries.items()}
        case list() as items:
            return [plain(child) for child in items]
        case scalar:
            return scalar


def child(node: Node, key: str | int) -> Node | None:
    """The value under one key, or None."""
    if isinstance(node.value, dict) and isinstance(key, str):
        return node.value.get(key)
    if isinstance(node.value, list) and isinstance(key, int) and 0 <= key < len(node.value):
        return node.value[key]
    return None


def find(node: Node, path: KeyPath) -> Node | None:
    """The value at a path, or None."""
    found: Node | None = node
    for key in path:
        found = child(found, key) if found is not None else None
    return found


def nearest(node: Node, path: KeyPath) -> Node:
    """The value at a path, or the deepest one above it that is there."""
    for key in path:
        below = child(node, key)
        if below is None:
            break
        node = below
    return node


def merge(base: Node, over: Node, path: KeyPath = ()) -> Node:
    """Lay one tree over another: mappings are merged key by key, all else is replaced.

    A `scale` with another `policy` is replaced as a whole, because each policy has its own keys.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    if path[-1:] == ("scale",) and _policy(over) not in (None, _policy(base)):
        return over
    merged = dict(base.value)
    for key, value in over.value.items():
        merged[key] = merge(merged[key], value, (*path, key)) if key in merged else value
    return replace(base, value=merged)


def _policy(node: Node) -> Any:
    found = child(node, "policy")
    return found.value if found is not None else None


def put(node: Node, path: KeyPath, value: Node) -> Node:
    """The tree with one value set; missing mappings on the way are made, a mapping there is merged into."""
    for key in reversed(path):
        value = Node({str(key): value}, value.origin)
    return merge(node, value)
