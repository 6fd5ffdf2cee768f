"""`${VAR}` in parsed values: never in keys, never in the text of the file, so a value can't break the YAML.

    ${VAR}            the variable; an error if it is not set
    ${VAR:-default}   the default if it is unset or empty; may itself hold ${…}
    $${               a plain ${

Where VAR is unset or empty and VAR_FILE is set, the value is that file's content without its last line end.
What a variable holds is taken as it is: it is neither YAML nor interpolated again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from config.redaction import MASK, is_secret_name
from config.tree import Filled, KeyPath, Node, Report

#: The largest file behind a VAR_FILE, in bytes.
MAX_SECRET_BYTES = 65_536
#: How deep ${A:-${B:-…}} may go.
MAX_NESTING = 8

_OPENING = re.compile(r"\$\$\{|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Piece: TypeAlias = "str | Reference"


class InterpolationError(ValueError):
    """A `${…}` that can't be read or filled. The message holds no value."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One `${NAME}` or `${NAME:-default}`."""

    name: str
    default: tuple[Piece, ...] | None = None


def parse_template(text: str) -> tuple[Piece, ...]:
    """Split a text into plain pieces and references.

    Raises:
        InterpolationError: an unclosed or malformed `${`.
    """
    return _pieces(text, 0, 0)[0]


def _pieces(text: str, start: int, depth: int) -> tuple[tuple[Piece, ...], int]:
    """The pieces from `start` to the end, or within a default (depth above 0) to its closing brace."""
    if depth > MAX_NESTING:
        raise InterpolationError(f"${{…}} nested more than {MAX_NESTING} deep")
    pieces: list[Piece] = []
    while start < len(text):
        opening = _OPENING.search(text, start)
        until = opening.start() if opening else len(text)
        closing = text.find("}", start, until) if depth else -1
        if closing >= 0:
            return (*pieces, text[start:closing]), closing
        pieces.append(text[start:until])
        if opening is None:
            break
        if opening[0] == "$${":
            pieces.append("${")
            start = opening.end()
        else:
            reference, start = _reference(text, opening.end(), depth)
            pieces.append(reference)
    if depth:
        raise InterpolationError("expected } to close ${; write $${ for a plain ${")
    return tuple(pieces), len(text)


def _reference(text: str, start: int, depth: int) -> tuple[Reference, int]:
    name = _NAME.match(text, start)
    if name is None:
        raise InterpolationError("expected a variable's name after ${; write $${ for a plain ${")
    end = name.end()
    default = None
    if text.startswith(":-", end):
        default, end = _pieces(text, end + 2, depth + 1)
    if not text.startswith("}", end):
        raise InterpolationError(f"expected ${{{name[0]}}} or ${{{name[0]}:-default}}; write $${{ for a plain ${{")
    return Reference(name[0], default), end + 1


@dataclass
class _Filling:
    env: Mapping[str, str]
    variables: list[str] = field(default_factory=list)
    defaulted: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    def fill(self, pieces: tuple[Piece, ...]) -> tuple[str, str]:
        """The text, and the text as it may be shown."""
        parts = [(piece, piece) if isinstance(piece, str) else self._value(piece) for piece in pieces]
        return "".join(text for text, _ in parts), "".join(shown for _, shown in parts)

    def _value(self, reference: Reference) -> tuple[str, str]:
        name = reference.name
        value = self.env.get(name)
        if not value and self.env.get(f"{name}_FILE"):
            value = _read_secret(f"{name}_FILE", self.env[f"{name}_FILE"])
            return self._given(f"{name}_FILE", value, secret=True)
        if reference.default is not None and not value:
            self.defaulted.append(name)
            return self.fill(reference.default)
        if value is None:
            raise InterpolationError(
                f"${{{name}}} is not set; set {name} or {name}_FILE, or give a default: ${{{name}:-…}}"
            )
        return self._given(name, value, secret=is_secret_name(name))

    def _given(self, variable: str, value: str, *, secret: bool) -> tuple[str, str]:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InterpolationError(f"{variable} does not hold UTF-8 text") from None
        self.variables.append(variable)
        if value:
            self.secrets.append(value)
        return value, MASK if secret and value else value


def _read_secret(variable: str, name: str) -> str:
    path = Path(name)
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        if len(data) > MAX_SECRET_BYTES:
            raise OSError(f"larger than {MAX_SECRET_BYTES} bytes")
        text = data.decode()
    except UnicodeDecodeError:
        reason: object = "not UTF-8 text"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
    else:
        return re.sub(r"\r?\n\Z", "", text)
    raise InterpolationError(f"{variable} names {name!r}, which can't be read: {reason}")


def fill(template: str, env: Mapping[str, str]) -> tuple[str, Filled]:
    """Fill one text from the environment.

    Raises:
        InterpolationError: malformed, a variable without value or default, or an unreadable VAR_FILE.
    """
    filling = _Filling(env)
    text, shown = filling.fill(parse_template(template))
    return text, Filled(
        template=template,
        shown=shown,
        variables=tuple(dict.fromkeys(filling.variables)),
        defaulted=tuple(dict.fromkeys(filling.defaulted)),
        secrets=tuple(filling.secrets),
        hides=shown != text,
    )


def interpolate(node: Node, env: Mapping[str, str], report: Report, path: KeyPath = ()) -> Node:
    """Fill every text that a file wrote. Errors go to `report`, and the text stays as it was."""
    match node.value:
        case dict() as entries:
            filled = {key: interpolate(child, env, report, (*path, key)) for key, child in entries.items()}
            return replace(node, value=filled)
        case list() as items:
            return replace(node, value=[interpolate(child, env, report, (*path, at)) for at, child in enumerate(items)])
        case str() as text if node.origin.kind == "file" and "${" in text:
            try:
                value, how = fill(text, env)
            except InterpolationError as error:
                report(node.origin.issue(path, str(error)))
                return node
            return replace(node, value=value, filled=how)
        case _:
            return node
