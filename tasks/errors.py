"""Why a job's data can't become a task.

WireError
├── DecodeError          the data is not what the type says; it never will be
└── TooNewError          nobody here can read it; a newer worker may
    ├── UnknownTaskType  by its type
    └── NewerSchema      by the version of its shape
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.problem import Problem, found

#: Most problems that one error lists.
MAX_PROBLEMS = 5


class WireError(ValueError):
    """The job's data can't become a task."""


class DecodeError(WireError):
    """The job's data is invalid: `data.to.0: expected a string, found 7 (integer)`.

    The text is bounded and quotes no long values, so it may be stored as the job's failedReason.

    Args:
        problems: at least one; where there are very many, the first ones.
        count: how many there are in all. None: these.
    """

    def __init__(self, problems: Iterable[Problem], count: int | None = None) -> None:
        self.problems = tuple(problems)
        self.count = len(self.problems) if count is None else count
        shown = [str(each) for each in self.problems[:MAX_PROBLEMS]]
        if self.count > len(shown):
            shown.append(f"and {self.count - len(shown)} more")
        super().__init__("; ".join(shown))

    @property
    def path(self) -> str:
        """Where the first problem is."""
        return self.problems[0].path

    @property
    def expected(self) -> str:
        """What the first problem expected."""
        return self.problems[0].expected

    @property
    def found(self) -> str:
        """What the first problem found."""
        return self.problems[0].found


class TooNewError(WireError):
    """Nobody here can read it. No failure yet: the job may be meant for a newer worker."""


class UnknownTaskType(TooNewError):
    """`data.type` names no type known here."""

    def __init__(self, name: str) -> None:
        self.name = name
        """The type as the job gave it: of any length, not safe to log."""
        super().__init__(str(Problem("data.type", "a task type known here", found(name))))


class NewerSchema(TooNewError):
    """`data.schemaVersion` is above what this worker's model of the type can read."""

    def __init__(self, name: str, version: int, known: int) -> None:
        self.name = name
        """The task type."""
        self.version = version
        """What the job says."""
        self.known = known
        """The newest that is known here."""
        super().__init__(str(Problem("data.schemaVersion", f"at most {known} for {name}", found(version))))
