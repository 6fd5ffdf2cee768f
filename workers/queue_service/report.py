"""What came of an act, on one job or on many; and what the audit is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.queue_service.actor import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class ActReport:
    """An act's result. Of many jobs, those that had moved on meanwhile are skipped with the reason, not failed."""

    action: str
    """retry, promote, cancel, remove, change-priority, change-delay, change-data, change-status, move, replay, pause,
    resume, drain, clean, schedule, unschedule."""
    queue: str
    matched: int
    """Jobs that the request meant; of pause and resume: 1, the queue."""
    done: int
    """Jobs that were changed; 0 in a dry run."""
    dry_run: bool = False
    requested: Mapping[str, str] = field(default_factory=dict)
    """Of cancel: running jobs that were asked to stop, and the worker that has each; at most the first 100. They end
    within seconds, and are not among `done`."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Why not, by job id; at most the first 100."""
    job_ids: tuple[str, ...] = ()
    """The jobs that were changed, or would be; at most the first 100. Of move and replay: the new ones."""
    more: bool = False
    """More match than one request acts on; ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act, as the audit is told of it: what was asked, by whom, and what came of it. Without job data."""

    at_ms: int
    actor: Actor
    action: str
    queue: str
    target: str
    """A job's id, a schedule's, a filter in words, or empty for the whole queue."""
    outcome: str
    """done, requested, dry-run, refused, failed."""
    done: int = 0
    detail: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
