"""What became of the hostile jobs: each must have ended once, as its act may."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tests.chaos.hostility import ACTS, CHILDREN, DEATHS, EXCUSES, QUEUES
from tests.chaos.ledger import Ledger
from tests.queue_view import QueueView

COMPLETED, QUARANTINED = "completed", "quarantined"
_POISON = re.compile(r"^poison: its process died (\d+) times while it ran")
#: Times, numbers, and what else differs from job to job.
_VARYING = re.compile(r"\d+(\.\d+)? s\b|'[^']*'|:\s*\"[^\"]*\"")


@dataclass
class HostileVerdict:
    """The counts, and what must not be."""

    ends: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Act → how its jobs ended → jobs."""
    interrupted: int = 0
    """Starts beyond each job's first: its process was killed, stopped for too long, or drained."""
    wrong: list[str] = field(default_factory=list)
    """Every job that was lost or is stuck, ended twice, or ended as it must not."""

    @property
    def added(self) -> int:
        return sum(ends.total() for ends in self.ends.values())

    @property
    def quarantined(self) -> int:
        """Jobs that failed because their process had died too often."""
        return sum(ends[QUARANTINED] for ends in self.ends.values())


def judge_hostile(
    ledger: Ledger,
    views: Mapping[str, QueueView],
    reasons: Mapping[str, str],
    events: Mapping[str, Mapping[str, int]],
    faults: Collection[str],
) -> HostileVerdict:
    """Pure. `views` by queue, `faults` by name; the rest as for `judge`."""
    verdict = HostileVerdict()
    happenings = {*faults, *(entry.act for entry in ledger.hostile.values())}
    excuses = tuple(pattern for cause, pattern in EXCUSES.items() if cause in happenings)
    for queue in QUEUES:
        added = ledger.hostile_added(queue)
        verdict.wrong += [f"{queue}: {problem}" for problem in views[queue].problems(added)]
        for job in added:
            name, happened = ledger.hostile[job].act, events.get(job, {})
            (state,) = views[queue].places.get(job, [])[:1] or ("nowhere",)
            reason = reasons.get(job, "")
            verdict.ends[name][_ending(state, reason)] += 1
            verdict.interrupted += max(0, happened.get("active", 0) - 1)
            fails = (*ACTS[name].fails, *(excuses if queue == CHILDREN else ()))
            objections = _objections(state, reason, happened, completes=ACTS[name].completes, fails=fails)
            verdict.wrong += [f"{job} ({name}): {said}" for said in objections]
    return verdict


def _ending(state: str, reason: str) -> str:
    if state != "failed":
        return state
    return QUARANTINED if _POISON.match(reason) else _VARYING.sub("…", reason)


def _objections(
    state: str, reason: str, happened: Mapping[str, int], *, completes: bool, fails: Collection[str]
) -> list[str]:
    poison = _POISON.match(reason)
    ends = happened.get("completed", 0) + happened.get("failed", 0)
    deaths = happened.get("stalled", 0)  # each is told by such an event, as are stalls
    return [
        said
        for said, is_so in {
            "completed, which it can't": state == "completed" and not completes,
            "failed without a reason": state == "failed" and not reason,
            f"failed with {reason}": state == "failed"
            and bool(reason)
            and not poison
            and not any(re.search(pattern, reason) for pattern in fails),
            f"quarantined after {deaths} deaths": poison is not None and deaths < max(int(poison[1]), DEATHS),
            f"ended {ends} times": ends > 1,
        }.items()
        if is_so
    ]
