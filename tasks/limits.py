"""How deep and how large a job's parsed data may be. Measured before anything else looks at them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tasks.problem import Problem, path

_HOLDERS = frozenset((dict, list))


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of `decode`."""

    max_depth: int = 100
    """Levels of objects and lists, the data themselves being the first. Defaults to 100; Node's tasks have about 15,
    and what walks them by recursion (JSON encoders, pydantic's dump) fails between 250 and 1,000. 50 ns a value."""

    max_chars: int | None = None
    """Characters of all strings together, names of fields included. Defaults to no bound: who parses the JSON has to
    bound its length, since a long text costs before anything here sees it; a Fleet worker parses none that is longer
    than its queue's `max_data`. 100 ns a value."""

    def exceeded(self, data: dict[str, Any]) -> Problem | None:
        """The bound that parsed JSON breaks. A loop, not recursion."""
        level: list[Any] = [data]
        chars = depth = 0
        while level:
            depth += 1
            if depth > self.max_depth:
                return Problem(path(_descent(data, self.max_depth)), f"at most {self.max_depth:,} levels", "more")
            if self.max_chars is not None:
                chars += sum(map(_chars, level))
                if chars > self.max_chars:
                    return Problem("data", f"at most {self.max_chars:,} characters in all", "more")
            level = [
                v for each in level for v in (each.values() if type(each) is dict else each) if type(v) in _HOLDERS
            ]
        return None


def _chars(holder: Any) -> int:
    values: Iterable[Any] = (*holder, *holder.values()) if type(holder) is dict else holder
    return sum([len(each) for each in values if type(each) is str])


def _descent(data: Any, levels: int) -> tuple[str | int, ...]:
    """A way down that many levels, in data that have more."""
    todo: list[tuple[Any, tuple[str | int, ...]]] = [(data, ())]
    while True:
        holder, way = todo.pop()
        if len(way) == levels:
            return way
        members = holder.items() if type(holder) is dict else enumerate(holder)
        todo.extend((value, (*way, name)) for name, value in members if type(value) in _HOLDERS)
