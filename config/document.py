"""One YAML file as a tree with positions. YAML 1.2: `no` is a text, not false.

The file is hostile until read: bounded in size, depth and number of values, so that aliases can't multiply it;
only plain data is made of it, whatever its tags say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from config.errors import ConfigIssue
from config.redaction import is_secret
from config.tree import KeyPath, Node, Origin, Scalar

#: The largest file read, in bytes.
MAX_FILE_BYTES = 1 << 20
#: The most values a file may hold with its aliases written out.
MAX_VALUES = 20_000
#: The deepest nesting.
MAX_DEPTH = 30

_TAG = "tag:yaml.org,2002:"
# Dates stay texts: no key of fleet.yaml holds one, and JSON has none.
_TEXT_TAGS = {_TAG + "str", _TAG + "timestamp"}
_MERGE_TAG = _TAG + "merge"


def read_document(path: Path, source: str) -> tuple[Node | None, list[ConfigIssue]]:
    """Read a file. Returns the tree, None if there is none to speak of, and all that is wrong with it.

    Args:
        path: a regular file in UTF-8 of at most 1 MB.
        source: how issues and origins call it.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return None, [ConfigIssue(source=source, message=f"can't read {str(path)!r}: {reason}")]
    if len(data) > MAX_FILE_BYTES:
        return None, [ConfigIssue(source=source, message="expected a file of at most 1 MB, found a larger one")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        return None, [ConfigIssue(source=source, line=line, column=column, message="expected UTF-8 text")]
    return parse_document(text, source)


def parse_document(text: str, source: str) -> tuple[Node | None, list[ConfigIssue]]:
    """Parse YAML text. Returns the tree, None if there is none to speak of, and all that is wrong with it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # YAML allows it: an alias means the latest
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        return None, [_syntax(error, source)]
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        message = "a control character can't stand in YAML; write it as an escape in double quotes"
        return None, [ConfigIssue(source=source, line=line, column=column, message=message)]
    except (YAMLError, ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        message = f"nested more than {MAX_DEPTH} levels deep" if deep else f"not YAML: {error}"
        return None, [ConfigIssue(source=source, message=message)]
    if root is None:
        return None, [ConfigIssue(source=source, message="expected a mapping of settings, found an empty file")]
    reader = _Reader(source, yaml.constructor)
    tree = reader.node(root, (), Origin("file", source, 1, 1))
    return (None if reader.overflow else tree), reader.issues


def _syntax(error: MarkedYAMLError, source: str) -> ConfigIssue:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "not YAML"
    if "'\\t'" in problem:
        problem = "a tab can't indent YAML; use spaces"
    elif "found another document" in problem:
        problem = "expected one document, found another one"
    elif error.context:
        problem = f"{error.context}: {problem}"
    return ConfigIssue(
        source=source,
        line=mark.line + 1 if mark else 0,
        column=mark.column + 1 if mark else 0,
        message=f"not YAML: {problem}",
    )


@dataclass
class _Reader:
    """Turns ruamel's nodes into ours, collecting what is wrong on the way."""

    source: str
    constructor: Any
    issues: list[ConfigIssue] = field(default_factory=list)
    values: int = 0
    overflow: bool = False
    open_nodes: set[int] = field(default_factory=set)
    """Ids of the nodes being read: one met again contains itself."""

    def node(self, raw: Any, path: KeyPath, origin: Origin) -> Node:
        self.values += 1
        if self.values > MAX_VALUES or self.overflow:
            self._overflow(path, origin, f"more than {MAX_VALUES} values, aliases written out")
        elif len(path) > MAX_DEPTH:
            self._overflow(path, origin, f"nested more than {MAX_DEPTH} levels deep")
        elif id(raw) in self.open_nodes:
            self._overflow(path, origin, "an alias that contains itself")
        elif isinstance(raw, ScalarNode):
            return Node(self._scalar(raw, path, origin), origin)
        else:
            self.open_nodes.add(id(raw))
            value = self._mapping(raw, path) if isinstance(raw, MappingNode) else self._list(raw, path)
            self.open_nodes.discard(id(raw))
            return Node(value, origin)
        return Node(None, origin)

    def _overflow(self, path: KeyPath, origin: Origin, message: str) -> None:
        if not self.overflow:
            self.issues.append(origin.issue(path, message))
        self.overflow = True

    def _origin(self, raw: Any) -> Origin:
        return Origin("file", self.source, raw.start_mark.line + 1, raw.start_mark.column + 1)

    def _list(self, raw: SequenceNode, path: KeyPath) -> list[Node]:
        return [self.node(item, (*path, index), self._origin(item)) for index, item in enumerate(raw.value)]

    def _mapping(self, raw: MappingNode, path: KeyPath) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merged: list[Any] = []
        for key_node, value_node in raw.value:
            origin = self._origin(key_node)
            if key_node.tag == _MERGE_TAG:
                merged.append(value_node)
                continue
            key = self._key(key_node, path, origin)
            if key is None:
                continue
            if key in entries:
                first = entries[key].origin.line
                self.issues.append(origin.issue((*path, key), f"duplicate key; first written at line {first}"))
                continue
            entries[key] = self.node(value_node, (*path, key), origin)
        for value_node in merged:
            entries = self._merged(value_node, path) | entries
        return entries

    def _merged(self, raw: Any, path: KeyPath) -> dict[str, Node]:
        """The entries that `<<` brings in; of several mappings the first wins."""
        origin = self._origin(raw)
        sources = raw.value if isinstance(raw, SequenceNode) else [raw]
        entries: dict[str, Node] = {}
        for item in sources:
            if not isinstance(item, MappingNode):
                self.issues.append(origin.issue((*path, "<<"), "expected an alias of a mapping"))
                continue
            value = self.node(item, path, origin).value
            entries = (value if isinstance(value, dict) else {}) | entries
        return entries

    def _key(self, raw: Any, path: KeyPath, origin: Origin) -> str | None:
        if isinstance(raw, ScalarNode) and raw.tag in _TEXT_TAGS:
            return str(self._text(raw.value, path, origin))
        found = f"; write it in quotes: '{raw.value}'" if isinstance(raw, ScalarNode) and raw.value else ""
        self.issues.append(origin.issue(path, f"expected a text as key{found}"))
        return None

    def _text(self, text: str, path: KeyPath, origin: Origin) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self.issues.append(origin.issue(path, "expected text, found half a surrogate pair"))
            return ""
        return text

    def _scalar(self, raw: ScalarNode, path: KeyPath, origin: Origin) -> Scalar:
        if raw.tag in _TEXT_TAGS:
            return self._text(raw.value, path, origin)
        reading = {
            _TAG + "null": lambda _: None,
            _TAG + "bool": self.constructor.construct_yaml_bool,
            _TAG + "int": self.constructor.construct_yaml_int,
            _TAG + "float": self.constructor.construct_yaml_float,
        }.get(str(raw.tag))
        if reading is None:
            self.issues.append(origin.issue(path, f"the tag {str(raw.tag)!r} is not known; plain values only"))
            return None
        try:
            value: Scalar = reading(raw)
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
                raise ValueError
        except (ValueError, KeyError, ArithmeticError):
            value = math.nan
        if isinstance(value, float) and not math.isfinite(value):
            found = "a value that is not shown" if is_secret(path) else repr(raw.value[:60])
            self.issues.append(origin.issue(path, f"expected a number below 2^63, found {found}"))
            return None
        return value
