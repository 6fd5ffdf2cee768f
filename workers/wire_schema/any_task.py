"""`AnyTask` for Python's type checkers, who find no modules as `tasks` does when it is imported: a stub, generated.

`tasks/any_task.pyi` is this, committed and shipped; `fleet schema python --check` says whether it is current.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tasks
from tasks.base import Task

#: The committed stub. It ships with the tasks, and has no module beside it: nothing imports it when it runs.
ANY_TASK_FILE = Path(tasks.__file__).with_name("any_task.pyi")

_HEAD = "# Generated from the models in tasks/ by `fleet schema python --write`; not edited by hand.\n"
_WIDTH = 120


def any_task_text(types: Mapping[str, type[Task]] | None = None) -> str:
    """The stub as it is committed: an import of each model, and the union of them.

    Args:
        types: the models by what `data.type` carries. None: those of `tasks`.
    """
    models = sorted(
        (tasks.TASKS if types is None else types).values(), key=lambda each: (each.__module__, each.__name__)
    )
    names: dict[type[Task], str] = {}
    for model in models:
        names[model] = _free(model.__name__, {"TypeAlias", "AnyTask", *names.values()})
    imports = [_imported(model, name) for model, name in names.items()]
    return "\n".join([_HEAD, "from typing import TypeAlias\n", *imports, "", _union(list(names.values()))]) + "\n"


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number where another model has it."""
    wanted, number = name, 2
    while wanted in taken:
        wanted, number = f"{name}_{number}", number + 1
    return wanted


def _imported(model: type[Task], name: str) -> str:
    renamed = "" if name == model.__name__ else f" as {name}"
    return f"from {model.__module__} import {model.__name__}{renamed}"


def _union(names: list[str]) -> str:
    line = f"AnyTask: TypeAlias = {' | '.join(names)}"
    if len(line) <= _WIDTH:
        return line
    return "AnyTask: TypeAlias = (\n    " + "\n    | ".join(names) + "\n)"
