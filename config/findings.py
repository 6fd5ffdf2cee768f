"""Pydantic's errors in our words, each at the place that wrote the value: "expected …, found …"."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from config.errors import ConfigIssue
from config.overrides import suggestion
from config.quantities import describe
from config.redaction import is_secret, mask_url, scrub, url_passwords
from config.shape import Shape
from config.tree import KeyPath, Node, child, find, nearest

# Errors that say no more than what the shape says: a kind, a bound, a choice.
_OF_SHAPE = (
    "_type",
    "_parsing",
    "_parsing_size",
    "int_from_float",
    "literal_error",
    "enum",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "finite_number",
)

# All other kinds come from validators, whose messages are whole sentences already.
_BUILT_IN = frozenset(get_args(ErrorType))


def findings(error: ValidationError, tree: Node, shape: Shape, prefix: KeyPath = ()) -> list[ConfigIssue]:
    """Turn a model's errors into issues.

    Args:
        error: what the model raised when it was given the value at `prefix`.
        tree: the whole configuration, filled.
        shape: the model's shape.
        prefix: where in the tree the model's value stands.
    """
    issues: dict[ConfigIssue, None] = {}
    for details in error.errors(include_url=False):
        path = prefix + _path(details, find(tree, prefix))
        place = shape.at(path[len(prefix) :])
        issues[_finding(details, path, place, tree, shape.at(path[len(prefix) : -1]))] = None
    return list(issues)


def _path(details: ErrorDetails, node: Node | None) -> KeyPath:
    """The error's location without pydantic's marks for the member of a union."""
    path: KeyPath = ()
    for at, key in enumerate(details["loc"]):
        below = child(node, key) if node is not None else None
        last = at == len(details["loc"]) - 1
        if below is not None or (last and details["type"] == "missing"):
            path = (*path, key)
            node = below
    if details["type"].startswith("union_tag") and isinstance(node and node.value, dict):
        path = (*path, details["ctx"]["discriminator"].strip("'"))
    return path


def _finding(details: ErrorDetails, path: KeyPath, place: Shape, tree: Node, parent: Shape) -> ConfigIssue:
    at = nearest(tree, path)
    return at.origin.issue(path, _message(details, path, place, parent, tree))


def _message(details: ErrorDetails, path: KeyPath, place: Shape, parent: Shape, tree: Node) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return "this key is required" + (f": {place.expected}" if place.expected else "")
    if kind == "extra_forbidden":
        policy = find(tree, (*path[:-1], "policy"))
        known = parent.tagged("policy", policy.value if policy else None).names
        return f"unknown key{suggestion(str(path[-1]), known)}"
    if kind == "union_tag_not_found":
        return f"this key is required: {_choices(place)}"
    found = found_value(find(tree, path), path, place.secret)
    if kind == "union_tag_invalid":
        return f"expected {_choices(place)}, found {found}"
    if kind == "expected":
        return f"expected {context['expected']}, found {found}"
    if place.expected and kind.endswith(_OF_SHAPE):
        return f"expected {place.expected}, found {found}"
    # Written by a validator that may quote what it was given.
    text = scrub(str(context.get("error", details["msg"])), _secrets(nearest(tree, path), path))
    if kind in ("value_error", "assertion_error") or kind not in _BUILT_IN:
        return text
    if text.startswith("Input should be "):
        return f"expected {text.removeprefix('Input should be ')}, found {found}"
    text = text if text[1:2].isupper() else text[:1].lower() + text[1:]
    return f"{text}; found {found}"


def _choices(place: Shape) -> str:
    return place.expected or "one of the known names"


def found_value(node: Node | None, path: KeyPath, secret: bool = False) -> str:
    """Name a value for "found …", or where it came from if it may be a secret."""
    if node is None:
        return "nothing"
    if node.filled is not None and node.filled.variables:
        names = " and ".join(f"${{{name}}}" for name in node.filled.variables)
        return f"nothing: {names} is empty" if node.value == "" else f"a value from {names}"
    if node.value == "" and node.filled is not None:
        return f"nothing: {node.filled.template} is empty"
    if not isinstance(node.value, dict | list) and (secret or is_secret(path, node.value)):
        return "a value that is not shown"
    return describe(mask_url(node.value) if isinstance(node.value, str) else _container(node.value))


def _container(value: Any) -> Any:
    return type(value)() if isinstance(value, dict | list) else value


def _secrets(node: Node, path: KeyPath) -> dict[str, str]:
    """All that a message about this node must not hold, and what it says instead."""
    if isinstance(node.value, dict):
        below = [(key, child) for key, child in node.value.items()]
        return {k: v for key, child in below for k, v in _secrets(child, (*path, key)).items()}
    if isinstance(node.value, list):
        return {k: v for at, child in enumerate(node.value) for k, v in _secrets(child, (*path, at)).items()}
    if not isinstance(node.value, str):
        return {}
    secrets = {password: "***" for password in url_passwords(node.value)}
    if is_secret(path, node.value):
        secrets[node.value] = "***"
    if node.filled is not None and node.filled.variables:
        name = f"${{{node.filled.variables[0]}}}"
        given = [*node.filled.secrets, node.value]
        secrets |= {text: name for secret in given for text in (secret, *url_passwords(secret))}
    return secrets
