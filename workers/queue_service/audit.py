"""Who did what: every act is told to a sink, refused ones too. The sink is outside, and never felt."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from workers.broker.backend import now_ms
from workers.queue_service.actor import Actor
from workers.queue_service.errors import QueueUnavailableError
from workers.queue_service.report import Act, ActReport
from workers.queue_service.verdict import shown

Audit: TypeAlias = Callable[[Act], None]

#: Where `log_act` writes.
log = logging.getLogger("fleet.audit")

#: Arguments of an act that are told, characters of each and of its detail.
MAX_ARGUMENTS, MAX_ARGUMENT, MAX_DETAIL = 20, 100, 500


def log_act(act: Act) -> None:
    """One line for each act, refusals as warnings. Bounded, and without job data; the process's own log settings take
    out what looks like a secret (telemetry/redaction.py).
    """
    fields: dict[str, Any] = {
        "action": act.action,
        "actor": shown(act.actor.name),
        "via": act.actor.via,
        "queue": shown(act.queue),
        "target": shown(act.target),
        "outcome": act.outcome,
        "done": act.done,
    }
    if act.actor.user_id is not None:
        fields["user_id"] = shown(act.actor.user_id)
    if act.detail:
        fields["detail"] = act.detail[:MAX_DETAIL]
    fields |= {f"with_{name}": value for name, value in act.arguments.items()}
    level = logging.INFO if act.outcome in ("done", "requested", "dry-run") else logging.WARNING
    log.log(level, "act on a queue", extra=fields)


class Auditor:
    """Tells a sink what was done.

    Args:
        sink: must not block. What it raises is logged.
        clock: ms since the epoch.
    """

    def __init__(self, sink: Audit = log_act, clock: Callable[[], int] = now_ms) -> None:
        self._sink = sink
        self._clock = clock

    async def told(
        self,
        action: str,
        queue: str,
        target: str,
        actor: Actor,
        work: Callable[[], Awaitable[ActReport]],
        **arguments: Any,
    ) -> ActReport:
        """Do it and tell what came of it, whatever did."""
        said: dict[str, Any] = {"outcome": "failed", "detail": "it was given up"}
        try:
            report = await work()
            said = {"outcome": _outcome(report), "done": report.done, "detail": _detail(report)}
            return report
        except Exception as error:
            outcome = "failed" if isinstance(error, QueueUnavailableError) else "refused"
            said = {"outcome": outcome, "detail": str(error)[:MAX_DETAIL]}
            raise
        finally:
            self._tell(
                Act(
                    at_ms=self._clock(),
                    actor=actor,
                    action=action,
                    queue=queue,
                    target=target,
                    arguments=_bounded(arguments),
                    **said,
                )
            )

    def _tell(self, act: Act) -> None:
        try:
            self._sink(act)
        except Exception:
            log.exception("an act could not be told to the audit: %s of %s", act.action, shown(act.queue))


def _outcome(report: ActReport) -> str:
    if report.dry_run:
        return "dry-run"
    return "requested" if report.requested and not report.done else "done"


def _detail(report: ActReport) -> str:
    parts = {"matched": report.matched, "asked to stop": len(report.requested), "skipped": len(report.skipped)}
    if report.matched <= 1:
        parts.pop("matched")
    said = [f"{name} {count:,}" for name, count in parts.items() if count]
    return ", ".join([*said, *(["more are left"] if report.more else [])])


def _bounded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars and short texts; what is None was not given."""
    given = [(name, value) for name, value in arguments.items() if value is not None][:MAX_ARGUMENTS]
    plain = (bool, int, float)
    return {name: value if isinstance(value, plain) else str(value)[:MAX_ARGUMENT] for name, value in given}
