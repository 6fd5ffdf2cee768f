"""The same acts for a queue of another name, whose jobs run in child processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from tests.chaos import hostile_module
from tests.hostile.task import Hostile


class HostileChild(Hostile):
    """A queue and the type of its tasks have one name."""

    type: Literal["hostile-child"] = "hostile-child"  # type: ignore[assignment]


MODULE = replace(hostile_module.MODULE, task=HostileChild)
