"""The queue modules, found by folder: `email_send/` serves queue `email-send` by what it exports as MODULE.

Adding a queue edits nothing here. A folder that starts with an underscore is not a queue. A module of someone else's is
named by its queue's `module` in fleet.yaml.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Collection, Mapping
from typing import Any

from workers.contract import QueueModule

__all__ = ["QueueModuleError", "available", "discover", "load"]


class QueueModuleError(Exception):
    """A folder under workers/queues/ is no usable queue module."""


def available() -> frozenset[str]:
    """The names of the queues that have a folder. Imports none of them."""
    found = pkgutil.iter_modules(__path__)
    return frozenset(_queue(each.name) for each in found if each.ispkg and not each.name.startswith("_"))


def discover(names: Collection[str] | None = None) -> Mapping[str, QueueModule[Any, Any]]:
    """Import queue modules, so that a process carries only what its queues need.

    Args:
        names: the queues wanted. None: all. A name without a folder is left out; compare with `available()`.

    Raises:
        QueueModuleError: a folder can't be imported, exports no MODULE, or its MODULE is for another queue.
    """
    folders = available()
    wanted = folders if names is None else folders & set(names)
    return {name: load(name) for name in sorted(wanted)}


def load(queue: str, module: str | None = None) -> QueueModule[Any, Any]:
    """Import what serves one queue, or one of the task types of a queue that carries several.

    Args:
        queue: its name, or the task type.
        module: the importable module whose MODULE it is. None: the folder of the queue's name.

    Raises:
        QueueModuleError: it can't be imported, exports no MODULE, or its MODULE is for another queue.
    """
    if module is not None:
        return _module(queue, module, f"module '{module}' of queue {queue}")
    folder = queue.replace("-", "_")
    return _module(queue, f"{__name__}.{folder}", f"workers/queues/{folder}")


def _queue(folder: str) -> str:
    return folder.replace("_", "-")


def _module(queue: str, name: str, where: str) -> QueueModule[Any, Any]:
    try:
        # The colon makes it import and nothing else: without it, a failed import becomes an AttributeError.
        package = pkgutil.resolve_name(f"{name}:")
    except Exception as error:
        raise QueueModuleError(f"{where}: importing it failed: {type(error).__name__}: {error}") from error
    module = getattr(package, "MODULE", None)
    if not isinstance(module, QueueModule):
        found = "nothing" if module is None else f"a {type(module).__name__}"
        raise QueueModuleError(f"{where}: expected `MODULE = QueueModule(…)`, found {found}")
    if module.task.type_name() != queue:
        other = module.task.type_name()
        raise QueueModuleError(
            f"{where}: its MODULE is for task type '{other}', not '{queue}': name its queue '{other}', or give it a "
            f"task model whose type is '{queue}'"
        )
    return module
