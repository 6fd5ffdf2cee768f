"""Values from the environment and the command line, laid over the files.

`FLEET__QUEUES__EMAIL_SEND__CONCURRENCY=9` and `--set queues.email-send.concurrency=9` mean the same. Each part
of a name is compared with the keys there are, upper and lower case alike and `-` equal to `_`. Such values are
texts, taken as they are, without `${…}`; `null` unsets; where a list or mapping belongs, `[…]` and `{…}` are YAML.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from config.document import parse_document
from config.errors import ConfigIssue
from config.quantities import describe
from config.shape import Shape
from config.tree import KeyPath, Node, Origin, Report, child, find, put

#: Variables with this prefix set keys; two underscores stand for the dot.
PREFIX = "FLEET__"


class UnknownKeyError(LookupError):
    """No key is called so. `path` leads to the part that is unknown."""

    def __init__(self, message: str, path: KeyPath) -> None:
        super().__init__(message)
        self.path = path


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'concurrency'?`, or the keys there are when none is near, or nothing."""
    names = {key.casefold(): key for key in known}
    close = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {names[close[0]]!r}?"
    return f"; known here: {', '.join(list(names.values())[:20])}" if names else ""


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_")


def resolve(parts: Sequence[str], joiner: str, tree: Node, shape: Shape) -> KeyPath:
    """Find the key that a name means, among those of the model and those written so far.

    Args:
        parts: the name, split at every joiner; a key that itself holds the joiner is found too.
        joiner: `.` or `__`.

    Raises:
        UnknownKeyError: no such key, or two that differ in `-` and `_` or case alone.
    """
    path: KeyPath = ()
    rest = list(parts)
    node: Node | None = tree
    while rest:
        if node is not None and isinstance(node.value, list):
            raise UnknownKeyError("this is a list; set it as a whole", path)
        key, used = _key(rest, joiner, path, node, shape)
        path, rest = (*path, key), rest[used:]
        node = child(node, key) if node is not None else None
        shape = shape.below(key)
    return path


def _key(rest: list[str], joiner: str, path: KeyPath, node: Node | None, shape: Shape) -> tuple[str, int]:
    """The next key, and how many parts of the name it takes."""
    written = list(node.value) if node is not None and isinstance(node.value, dict) else []
    known = list(dict.fromkeys([*shape.names, *written]))
    for used in range(len(rest), 0, -1):
        wanted = joiner.join(rest[:used])
        hits = [key for key in known if _fold(key) == _fold(wanted)]
        if wanted in hits or len(hits) == 1:
            return wanted if wanted in hits else hits[0], used
        if hits:
            raise UnknownKeyError(f"{wanted!r} may be {' or '.join(map(repr, hits))}", path)
    if shape.open and rest[0]:
        return rest[0].lower() if joiner == "__" else rest[0], 1
    if not known and not shape.container:
        raise UnknownKeyError("this is a single value; it has no keys", path)
    raise UnknownKeyError(f"unknown key{suggestion(_fold(rest[0]), known)}", (*path, rest[0].lower()))


def _order(name: str) -> tuple[int, bool, str]:
    # Another policy replaces the whole scale, so its keys come after it.
    return name.count("__"), not name.upper().endswith("__POLICY"), name


def apply_environment(tree: Node, env: Mapping[str, str], shape: Shape, report: Report) -> Node:
    """Lay the `FLEET__…` variables over the tree: the upper keys first, and a `policy` before its companions."""
    seen: dict[KeyPath, str] = {}
    for name in sorted((name for name in env if name.startswith(PREFIX)), key=_order):
        origin = Origin("env", name)
        try:
            path = resolve(name.removeprefix(PREFIX).split("__"), "__", tree, shape)
        except UnknownKeyError as error:
            report(origin.issue(error.path, str(error)))
            continue
        if path in seen:
            report(origin.issue(path, f"is set by {seen[path]} too; keep one"))
        seen[path] = name
        tree = _set(tree, path, env[name], origin, shape, report)
    return tree


def apply_settings(tree: Node, settings: Mapping[str, Any] | Sequence[str], shape: Shape, report: Report) -> Node:
    """Lay `key=value` settings over the tree, in their order; from code also a mapping of dotted keys."""
    for item in settings.items() if isinstance(settings, Mapping) else settings:
        key, equals, value = item.partition("=") if isinstance(item, str) else (item[0], "=", item[1])
        key = key.strip()
        origin = Origin("set", "--set", key=key)
        if not equals or not key:
            report(ConfigIssue(source="--set", message=f"expected key=value, found {describe(key)}"))
            continue
        try:
            path = resolve(key.split("."), ".", tree, shape)
        except UnknownKeyError as error:
            report(origin.issue(error.path, str(error)))
            continue
        tree = _set(tree, path, value, origin, shape, report)
    return tree


def _set(tree: Node, path: KeyPath, value: Any, origin: Origin, shape: Shape, report: Report) -> Node:
    try:
        node = _node(value, find(tree, path), origin, shape.at(path))
    except ValueError as error:
        report(origin.issue(path, str(error)))
        return tree
    return put(tree, path, node)


def _node(value: Any, current: Node | None, origin: Origin, shape: Shape) -> Node:
    """A given value as a tree. Raises ValueError for what can't be configuration."""
    if not isinstance(value, str):
        return _from_python(value, origin)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("expected UTF-8 text") from None
    if value == "null" and shape.nullable:
        return Node(None, origin)
    holds_many = current is not None and isinstance(current.value, dict | list)
    if value.lstrip()[:1] in ("{", "[") and (holds_many or shape.container):
        parsed, issues = parse_document(value, origin.source)
        if parsed is None or issues:
            raise ValueError("; ".join(issue.message for issue in issues))
        return _placed(parsed, origin)
    return Node(value, origin)


def _placed(node: Node, origin: Origin) -> Node:
    if isinstance(node.value, dict):
        return Node({key: _placed(below, origin) for key, below in node.value.items()}, origin)
    if isinstance(node.value, list):
        return Node([_placed(below, origin) for below in node.value], origin)
    return Node(node.value, origin)


def _from_python(value: Any, origin: Origin) -> Node:
    match value:
        case None | bool() | int() | float() | str():
            return Node(value, origin)
        case os.PathLike():
            return Node(os.fspath(value), origin)
        case Mapping():
            return Node({str(key): _from_python(below, origin) for key, below in value.items()}, origin)
        case list() | tuple():
            return Node([_from_python(below, origin) for below in value], origin)
        case _:
            raise ValueError(f"expected a text, number, list or mapping, found {describe(value)}")
