"""What the tests found, as a table in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["passed", "failed", "skipped"]

#: The groups as BullMQ's documentation orders them; those that are not named here come last.
GROUPS = (
    "Jobs", "Delays", "Priorities", "Retries", "Deduplication", "Auto-removal", "Flows", "Job schedulers",
    "Rate limit", "Global concurrency", "Progress", "Logs", "Events", "Stalled jobs", "Workers", "Queue", "Getters",
    "Metrics", "Telemetry", "Connections", "Python producer",
)  # fmt: skip
CELLS: Mapping[str, str] = {"passed": "yes", "failed": "**NO**", "skipped": "–", "": "not run"}


@dataclass(frozen=True)
class Column:
    """One library on one server."""

    bullmq: str
    server: str

    def __str__(self) -> str:
        return f"bullmq {self.bullmq}, {self.server}"


@dataclass(frozen=True)
class Result:
    """What one test found."""

    group: str
    feature: str
    column: Column
    outcome: Outcome


def verdict(outcomes: Iterable[Outcome]) -> str:
    """Of several tests of one feature: one that failed counts, then one that passed."""
    found = set(outcomes)
    return next((outcome for outcome in ("failed", "passed", "skipped") if outcome in found), "")


def render(results: Sequence[Result], columns: Sequence[Column]) -> str:
    """The document. A column without results is left out by the caller."""
    found: dict[tuple[str, str], dict[Column, list[Outcome]]] = {}
    for result in results:
        row = found.setdefault((result.group, result.feature), {})
        row.setdefault(result.column, []).append(result.outcome)
    lines = [*_head(columns), f"| | feature | {' | '.join(map(str, columns))} |", "|" + " --- |" * (len(columns) + 2)]
    before = ""
    for group, feature in sorted(found, key=lambda row: _rank(row[0])):
        cells = [CELLS[verdict(found[group, feature].get(column, ()))] for column in columns]
        lines.append(f"| {group if group != before else ''} | {_escaped(feature)} | {' | '.join(cells)} |")
        before = group
    return "\n".join([*lines, "", *_sums(found, columns), ""])


def _head(columns: Sequence[Column]) -> list[str]:
    return [
        "# Conformance",
        "",
        "Features of BullMQ in the groups of its documentation, each tried by tests of `tests/interop`: Node adds jobs "
        "and looks at them, our worker runs them; in the last group Python adds them and Node's worker runs them.",
        "",
        "yes: as between two Nodes · **NO**: not so · –: the feature is not in that version of npm bullmq. "
        "Written by `make conform`.",
        "",
    ]


def _sums(found: Mapping[tuple[str, str], Mapping[Column, Sequence[Outcome]]], columns: Sequence[Column]) -> list[str]:
    sums = []
    for column in columns:
        verdicts = [verdict(row.get(column, ())) for row in found.values()]
        tried = len(verdicts) - verdicts.count("skipped") - verdicts.count("")
        sums.append(f"- {column}: {verdicts.count('passed')} of {tried}")
    return sums


def _rank(group: str) -> int:
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
