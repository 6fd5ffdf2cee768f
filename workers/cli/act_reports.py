"""What came of acts, in words and as a document; and the exit code that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.cli.output import complain, say, say_json
from workers.cli.queue_session import EXIT_DONE, EXIT_REFUSED
from workers.cli.queue_source import Document
from workers.queue_service.errors import QueueServiceError

#: What each act does, and has done.
_VERBS: Mapping[str, tuple[str, str]] = {
    "retry": ("retry", "retried"),
    "promote": ("promote", "promoted"),
    "cancel": ("cancel", "cancelled"),
    "remove": ("remove", "removed"),
    "move": ("move", "moved"),
    "replay": ("replay", "replayed"),
    "drain": ("remove", "removed"),
    "clean": ("remove", "removed"),
}
#: Ids that a line names.
MAX_NAMED = 20


@dataclass
class Outcome:
    """What came of one command."""

    reports: list[Document] = field(default_factory=list)
    refused: list[Document] = field(default_factory=list)
    """`id`, or `queue`, and `error`."""

    def refuse(self, error: QueueServiceError, **what: str) -> None:
        """Take note of an act that was not done at all."""
        self.refused.append({**what, "error": str(error)})

    def tell(self, as_json: bool) -> int:
        """Print it, and return the exit code: 0 only if all that was meant is done, or would be."""
        if as_json:
            say_json({"reports": self.reports, "refused": self.refused})
        else:
            for report in self.reports:
                for line in lines(report):
                    say(line)
            for each in self.refused:
                complain(each["error"])
        return EXIT_DONE if self.is_done else EXIT_REFUSED

    @property
    def is_done(self) -> bool:
        """Whether all of it was done, or would be."""
        is_skipped = any(report["skipped"] for report in self.reports)
        return bool(self.reports) and not self.refused and not is_skipped and all(map(is_matched, self.reports))


def is_matched(report: Document) -> bool:
    """Whether it meant anything. An empty queue is drained, and a clean one is clean."""
    return bool(report["matched"]) or report["action"] in ("drain", "clean")


def lines(report: Document) -> list[str]:
    """A report in words."""
    action, queue = report["action"], report["queue"]
    if action in ("pause", "resume"):
        state = "paused for everyone" if action == "pause" else "open again"
        return [f"{queue}: {state}" if report["done"] else f"{queue}: it was so already, nothing was changed"]
    do, did = _VERBS.get(action, (action, f"done ({action})"))
    found = []
    if report["dryRun"]:
        found.append(f"{queue}: would {do} {_jobs(report['matched'])}{_ids(report, report['matched'])}")
    elif not is_matched(report):
        found.append(f"{queue}: nothing matched")
    elif report["done"] or not (report["requested"] or report["skipped"]):
        found.append(f"{queue}: {did} {_jobs(report['done'])}{_ids(report, report['done'])}")
    found += [f"{queue}: {job_id} was asked to stop ({worker})" for job_id, worker in report["requested"].items()]
    found += [f"{queue}: {job_id} was left alone: {why}" for job_id, why in report["skipped"].items()]
    if report["more"]:
        found.append(f"{queue}: more match than one request acts on; ask again, or raise --limit")
    if report["dryRun"] and report["matched"]:
        found.append("nothing was changed: say --yes to do it")
    return found


def _ids(report: Mapping[str, Any], number: int) -> str:
    named = report["jobIds"][:MAX_NAMED]
    left = number - len(named)
    return f": {', '.join(named)}{f' and {left:,} more' if left > 0 else ''}" if named else ""


def _jobs(number: int) -> str:
    return f"{number:,} {'job' if number == 1 else 'jobs'}"
