"""From fleet.yaml to a checked configuration: defaults < file < overlays < `FLEET__…` variables < `--set`.

Everything that is wrong is collected and told at once; nothing is repaired silently.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.document import read_document
from config.errors import ConfigError, ConfigIssue
from config.findings import findings, found_value
from config.interpolation import interpolate
from config.loaded import LoadedConfig
from config.overrides import apply_environment, apply_settings, suggestion
from config.schedule_section import NAME_PATTERN
from config.schema import FleetConfig
from config.shape import Shape
from config.tree import KeyPath, Node, child, find, merge, nearest, plain

__all__ = ["DEFAULT_FILE", "LoadedConfig", "load"]

#: The configuration that ships with the package.
DEFAULT_FILE = Path(__file__).with_name("fleet.yaml")


def load(
    path: Path,
    *,
    overlays: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
) -> LoadedConfig:
    """Read, merge, fill and check the configuration.

    Args:
        path: fleet.yaml.
        overlays: files laid over it in this order. Mappings are merged, all else is replaced.
        env: for `${VAR}` and `FLEET__…`. None: the process's environment.
        overrides: `key=value` texts, or values by dotted key. They win over everything.

    Raises:
        ConfigError: with everything that is wrong.
    """
    env = os.environ if env is None else env
    issues: list[ConfigIssue] = []
    files = [path, *overlays]
    names = _names(files)
    layers = []
    for file, name in zip(files, names, strict=True):
        tree, found = read_document(file, name)
        issues += found
        layers.append(tree)
    written = [tree for tree in layers if tree is not None]
    if len(written) < len(layers):
        raise ConfigError(_ordered(issues, names))
    shape = Shape.of(FleetConfig)
    merged = reduce(merge, written)
    merged = apply_environment(merged, env, shape, issues.append)
    merged = apply_settings(merged, overrides, shape, issues.append)
    values = interpolate(merged, env, issues.append)
    config = _validated(values, shape, issues)
    issues += _crossed(values)
    if issues or config is None:
        raise ConfigError(_ordered(issues, names))
    return LoadedConfig(config=config, written=merged, values=values)


def _names(files: Sequence[Path]) -> list[str]:
    """How issues call the files: by their names, or as given where two are named alike."""
    names = [file.name for file in files]
    return [name if names.count(name) == 1 else str(file) for name, file in zip(names, files, strict=True)]


def _ordered(issues: list[ConfigIssue], names: list[str]) -> list[ConfigIssue]:
    """By file and line, then the environment, then the command line; each once."""
    rank = {name: at for at, name in enumerate(names)} | {"--set": len(names) + 1}
    return sorted(
        dict.fromkeys(issues), key=lambda issue: (rank.get(issue.source, len(names)), issue.line, issue.column)
    )


def _validated(values: Node, shape: Shape, issues: list[ConfigIssue]) -> FleetConfig | None:
    try:
        return FleetConfig.model_validate(plain(values))
    except ValidationError as error:
        # A value that couldn't even be read has its issue; what the model makes of the gap adds nothing.
        known = {(issue.path, issue.where) for issue in issues}
        issues += [issue for issue in findings(error, values, shape) if (issue.path, issue.where) not in known]
        return None


def _crossed(values: Node) -> list[ConfigIssue]:
    """What one key says about another, checked on the tree, so that it is told together with the rest."""
    issues: list[ConfigIssue] = []
    pools, queues = _entries(values, ("pools",)), _entries(values, ("queues",))
    for name, entries in (("pools", pools), ("queues", queues)):
        if entries is not None and not entries:
            issues.append(nearest(values, (name,)).origin.issue((name,), "expected at least one entry"))
    for name, entry in (queues or {}).items():
        if not name or ":" in name:
            message = "expected a queue's name without colons, as BullMQ has it"
            issues.append(entry.origin.issue(("queues", name), message))
        pool = child(entry, "pool")
        if pools and pool is not None and isinstance(pool.value, str) and pool.value not in pools:
            path = ("queues", name, "pool")
            message = f"expected the name of a pool, found {found_value(pool, path)}"
            issues.append(pool.origin.issue(path, message + suggestion(pool.value, pools)))
        module, accepts = child(entry, "module"), child(entry, "accepts")
        if module is not None and module.value and name not in _types(name, accepts):
            path = ("queues", name, "module")
            message = f"expected it where its type is: queues.{name}.accepts does not name {name}"
            issues.append(module.origin.issue(path, message))
    return [*issues, *_crossed_routes(values, queues or {}), *_crossed_schedules(values, queues or {})]


def _crossed_routes(values: Node, queues: dict[str, Node]) -> list[ConfigIssue]:
    issues: list[ConfigIssue] = []
    for kind, node in (_entries(values, ("routes",)) or {}).items():
        if not isinstance(node.value, str):
            continue  # the model says so
        path = ("routes", kind)
        if node.value not in queues:
            message = f"expected the name of a queue, found {found_value(node, path)}{suggestion(node.value, queues)}"
        elif kind not in _types(node.value, child(queues[node.value], "accepts")):
            message = f"expected a queue that carries {kind}: set queues.{node.value}.accepts.{kind}"
        else:
            continue
        issues.append(node.origin.issue(path, message))
    return issues


def _crossed_schedules(values: Node, queues: dict[str, Node]) -> list[ConfigIssue]:
    issues: list[ConfigIssue] = []
    for name, entry in (_entries(values, ("schedules",)) or {}).items():
        if not re.fullmatch(NAME_PATTERN, name):
            message = "expected a schedule's name of letters, digits, dots, dashes and underscores, 128 at most"
            issues.append(entry.origin.issue(("schedules", name), message))
        queue = child(entry, "queue")
        if queue is not None and isinstance(queue.value, str) and queue.value not in queues:
            path = ("schedules", name, "queue")
            message = f"expected the name of a queue, found {found_value(queue, path)}"
            issues.append(queue.origin.issue(path, message + suggestion(queue.value, queues)))
    return issues


def _types(queue: str, accepts: Node | None) -> Collection[str]:
    """The task types that a queue carries, as far as what is written can be read."""
    return accepts.value if accepts is not None and isinstance(accepts.value, dict) else (queue,)


def _entries(values: Node, path: KeyPath) -> dict[str, Node] | None:
    node = find(values, path)
    return node.value if node is not None and isinstance(node.value, dict) else None
