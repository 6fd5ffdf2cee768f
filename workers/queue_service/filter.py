"""Which jobs of a queue are meant: by state, age, name, error, and what is in them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

from config.quantities import format_duration, parse_duration
from workers.broker.job_view import JobView
from workers.queue_service.condition import MAX_CHARS, Condition, parse_condition, quoted
from workers.queue_service.errors import InvalidRequestError

#: The states that jobs are listed by, in the order in which they are. `paused`: see JobView.state.
STATES = ("active", "waiting", "paused", "prioritized", "delayed", "waiting-children", "completed", "failed")
#: Conditions of one filter, at most.
MAX_CONDITIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """All that is given must hold. Ages are seconds since JobView.since_ms."""

    states: tuple[str, ...] = ()
    """Of STATES; none: all of them."""
    older_s: float | None = None
    newer_s: float | None = None
    name: str | None = None
    """The job's name; `*` stands for any characters."""
    error: str | None = None
    """A part of the failure's reason, in whatever case."""
    where: tuple[Condition, ...] = ()

    def matches(self, view: JobView, now_ms: int) -> bool:
        """Whether this job is meant."""
        return (
            (not self.states or view.state in self.states)
            and (self.name is None or _like(self.name, view.name))
            and (self.error is None or self.error.casefold() in (view.failed_reason or "").casefold())
            and self._is_of_age(view, now_ms)
            and all(each.matches(view) for each in self.where)
        )

    @property
    def is_narrow(self) -> bool:
        """Whether it asks for more than a state, so that jobs must be looked through."""
        asked = (self.older_s, self.newer_s, self.name, self.error)
        return bool(self.where) or any(each is not None for each in asked)

    def _is_of_age(self, view: JobView, now_ms: int) -> bool:
        if self.older_s is None and self.newer_s is None:
            return True
        since = view.since_ms
        if since is None:
            return False
        age_s = (now_ms - since) / 1000
        return (self.older_s is None or age_s >= self.older_s) and (self.newer_s is None or age_s <= self.newer_s)

    def __str__(self) -> str:
        words = [" or ".join(self.states) or "all", "jobs"]
        if self.older_s is not None:
            words.append(f"older than {format_duration(self.older_s)}")
        if self.newer_s is not None:
            words.append(f"newer than {format_duration(self.newer_s)}")
        if self.name is not None:
            words.append(f"named {json.dumps(self.name, ensure_ascii=False)}")
        if self.error is not None:
            words.append(f"whose error says {json.dumps(self.error, ensure_ascii=False)}")
        if self.where:
            words.append(f"where {' and '.join(map(str, self.where))}")
        return " ".join(words)


#: Every job of every state.
ALL = JobFilter()


def parse(
    *,
    state: str | Sequence[str] | None = None,
    older: str | float | None = None,
    newer: str | float | None = None,
    name: str | None = None,
    error: str | None = None,
    where: Sequence[str] = (),
) -> JobFilter:
    """A filter as the command line and the API write it; an empty text is as none.

    Args:
        state: one, several, or several with commas between; `wait` is `waiting`. None or `all`: every state.
        older, newer: a duration like `1h30m`, or seconds.
        where: see Condition.

    Raises:
        InvalidRequestError: names which of them is wrong, and how.
    """
    if len(where) > MAX_CONDITIONS:
        raise InvalidRequestError("where", f"at most {MAX_CONDITIONS} conditions, found {len(where)}")
    return JobFilter(
        states=parse_states(state),
        older_s=_seconds("older", older),
        newer_s=_seconds("newer", newer),
        name=_text("name", name),
        error=_text("error", error),
        where=tuple(parse_condition(each) for each in where),
    )


def parse_states(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """See `parse`."""
    texts = [given] if isinstance(given, str) else list(given or ())
    names = [name.strip().lower() for text in texts for name in text.split(",")]
    found = {"waiting" if name == "wait" else name for name in names if name and name != "all"}
    for name in sorted(found):
        if name not in STATES:
            raise InvalidRequestError("state", f"expected {', '.join(STATES)} or all, found {quoted(name)}")
    return () if "all" in names else tuple(name for name in STATES if name in found)


def _seconds(name: str, given: str | float | None) -> float | None:
    if given is None or given == "":
        return None
    try:
        return parse_duration(given)
    except PydanticCustomError as error:
        raise InvalidRequestError(name, error.message()) from None


def _text(name: str, given: str | None) -> str | None:
    if given and len(given) > MAX_CHARS:
        raise InvalidRequestError(name, f"at most {MAX_CHARS:,} characters, found {len(given):,}")
    return given or None


def _like(pattern: str, name: str) -> bool:
    """One look from left to right, however many stars: a regular expression of them could take for ever."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    last = rest.pop()
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in rest:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
