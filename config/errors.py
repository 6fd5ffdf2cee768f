"""What can be wrong with a configuration, told all at once.

ConfigError: one or more ConfigIssues, each with its place, its key and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_$-]+")


def dotted(path: Sequence[str | int]) -> str:
    """Write a key path as people say it: `queues.email-send.over_job[0]`; an odd key is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        key = part if _PLAIN_KEY.fullmatch(part) else repr(part)
        text += f".{key}" if text else key
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigIssue:
    """One thing to correct. As text: `fleet.yaml:12:5: queues.email-send.concurrency: expected …`."""

    source: str
    """A file, an environment variable, or `--set`."""
    line: int = 0
    """From 1; 0 where the source has no lines."""
    column: int = 0
    """From 1; 0 where the source has no lines."""
    path: str = ""
    """The key in dotted form; empty when the whole source is meant."""
    message: str

    @property
    def where(self) -> str:
        """`fleet.yaml:12:5`, or just the source."""
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.where, self.path, self.message) if part)
        # One line, whatever a file's name or a module's message holds.
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ConfigError(Exception):
    """The configuration can't be used. `issues` holds every reason, in the order of the sources."""

    def __init__(self, issues: Iterable[ConfigIssue]) -> None:
        self.issues = tuple(issues)
        super().__init__(self.issues)

    def __str__(self) -> str:
        return "\n".join(str(issue) for issue in self.issues)
