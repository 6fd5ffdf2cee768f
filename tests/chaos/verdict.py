"""What a run came to: every job that was added, held against the mail server, Redis and the fleets' own words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.chaos.latency import share_of
from tests.chaos.ledger import Ledger
from tests.queue_view import QueueView

#: Addresses and ports.
_VARYING = re.compile(r"[\w-]+@[\w.]+|(?<=:)\d{4,5}\b")


@dataclass
class Verdict:
    """The counts, and what must not be."""

    added: int = 0
    delivered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Reason, without what differs from job to job → jobs."""
    extra: int = 0
    """Deliveries beyond each job's first; each belongs to a start of the job that was interrupted."""
    restarted: int = 0
    """Starts that neither the job nor a put-off of its mail called for: the one before was interrupted, or its process
    lacked something."""
    stalled: int = 0
    """Times that a job was put back because its lock had expired."""
    untold: int = 0
    """Completed jobs that no process told of: it was killed in between."""
    late_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Every job lost, completed twice or in a wrong state; empty, or the run has failed."""

    def late(self, share: float) -> float:
        """The lateness that this share of the deliveries keeps, seconds."""
        return share_of(self.late_s, share)


def judge(
    ledger: Ledger,
    view: QueueView,
    reasons: Mapping[str, str],
    events: Mapping[str, Mapping[str, int]],
    told: Mapping[str, int],
) -> Verdict:
    """Pure.

    Args:
        reasons: job id → `failedReason`.
        events: job id → event of BullMQ's stream → times.
        told: job id → how often a fleet has logged its completion.
    """
    added = ledger.added
    verdict = Verdict(added=len(added), wrong=view.problems(added))
    verdict.wrong += [f"a mail to {job}, which was never added" for job in ledger.unknown]
    for job in added:
        entry, happened = ledger.entries[job], events.get(job, {})
        (state,) = view.places.get(job, [])[:1] or ("nowhere",)
        starts = happened.get("active", 0)
        deliveries = len(entry.deliveries)
        verdict.delivered += bool(deliveries)
        verdict.extra += max(0, deliveries - 1)
        verdict.restarted += max(0, starts - 1 - entry.put_off)
        verdict.stalled += happened.get("stalled", 0)
        verdict.untold += state == "completed" and not told.get(job)
        if entry.late_s is not None:
            verdict.late_s.append(entry.late_s)
        if state == "failed":
            verdict.failed[_VARYING.sub("…", reasons.get(job, ""))] += 1
        verdict.wrong += [
            f"{job}: {said}"
            for said, is_so in {
                "completed, but its mail was never delivered": state == "completed" and not deliveries,
                "failed although its mail can be delivered: " + reasons.get(job, ""): state == "failed"
                and not entry.bounces,
                "failed without a reason": state == "failed" and not reasons.get(job),
                f"completed {happened.get('completed', 0)} times": happened.get("completed", 0) > 1,
                f"told of as completed {told.get(job, 0)} times": told.get(job, 0) > 1,
                f"started {starts} times, put off {entry.put_off} times and delivered {deliveries} times": deliveries
                > starts - entry.put_off,
                "delivered under several Message-IDs": len(entry.message_ids) > 1,
            }.items()
            if is_so
        ]
    return verdict
