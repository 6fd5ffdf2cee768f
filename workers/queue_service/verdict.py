"""What an answer of Redis to an act means, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workers.broker.act_runner import Answer
from workers.queue_service.errors import QueueServiceError, QueueUnavailableError, RefusedError, UnknownJobError
from workers.queue_service.report import ActReport

#: Jobs that a report names.
NAMED = 100
#: Characters of a name from outside that a message shows.
SHOWN = 100

#: Which jobs an act is for, as an error says it.
_FOR: Mapping[str, str] = {
    "retry": "failed and completed jobs can be retried",
    "promote": "delayed jobs can be promoted",
    "cancel": "jobs that wait or run can be cancelled",
    "change-priority": "jobs that wait can be given another priority",
    "change-delay": "delayed jobs can be given another delay",
    "change-data": "jobs that wait or have ended can be given other data",
    "move": "jobs that wait or have failed can be moved",
    "replay": "jobs that have ended can be replayed",
}
#: Why an act was not done, by the answer's word, or by that and the act's name.
_WHY: Mapping[str, str] = {
    "gone": "there is no such job",
    "not": "it is {state} now: only {only}",
    "changed": "its data have been changed meanwhile",
    "schedule": "it is the next job of schedule {detail}: remove or change the schedule instead",
    "held": "it is running{held}: cancel it first",
    "held cancel": "it runs on a worker that is none of ours{held}, and can't be told to stop",
    "child held": "a child of it is running",
    "flow": "it belongs to a flow, and would be lost to it",
    "taken": "a job of that id is in the other queue already, and is {detail}",
    "taken replay": "it has been replayed too often: remove some of its replays first",
    "deduplicated": "job {detail} of the other queue has its deduplication id",
    "broken": "its row can't be used: {detail}",
    "refused": "Redis does not take it now: {detail}",
}


def shown(name: str) -> str:
    """A name from outside, safe in a message: on one line, and short."""
    cut = name if len(name) <= SHOWN else f"{name[: SHOWN - 1]}…"
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode("ascii")


def why_not(action: str, answer: Answer) -> str:
    """Why the act was not done, for one job among many; empty where it was."""
    words = _WHY.get(f"{answer.word} {action}") or _WHY.get(answer.word, "")
    held = f" ({shown(answer.detail)})" if answer.detail else ""
    only = _FOR.get(action, "others can be")
    return words.format(state=_in_words(answer.state), detail=shown(answer.detail), held=held, only=only)


def error_for(action: str, queue: str, answer: Answer) -> QueueServiceError | None:
    """What a request for this one job raises; None: it was done."""
    reason = why_not(action, answer)
    if not reason:
        return None
    text = f"job {shown(answer.job_id)} of queue {queue}: {reason}"
    if answer.word == "gone":
        return UnknownJobError(f"there is no job {shown(answer.job_id)} in queue {queue}", queue=queue)
    if answer.word == "refused":
        return QueueUnavailableError(text, queue=queue)
    return RefusedError(text, queue=queue)


def report_of(
    action: str, queue: str, answers: Sequence[Answer], *, matched: int | None = None, more: bool = False
) -> ActReport:
    """What came of an act on these jobs."""
    done = [
        answer.detail if action in ("move", "replay") else answer.job_id for answer in answers if answer.word == "ok"
    ]
    asked = {answer.job_id: answer.detail or "?" for answer in answers if answer.word == "asked"}
    reasons = {answer.job_id: reason for answer in answers if (reason := why_not(action, answer))}
    return ActReport(
        action=action,
        queue=queue,
        matched=len(answers) if matched is None else matched,
        done=len(done),
        requested=dict(list(asked.items())[:NAMED]),
        skipped=dict(list(reasons.items())[:NAMED]),
        job_ids=tuple(done[:NAMED]),
        more=more,
    )


def _in_words(state: str) -> str:
    return {"unknown": "in no list of its queue", "active": "running"}.get(state, state)
