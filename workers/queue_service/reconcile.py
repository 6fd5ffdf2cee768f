"""What is to be done so that the job schedulers of BullMQ are those that fleet.yaml declares. Pure.

A scheduler that is ours has a mark: the fingerprint of what was last written. By it are told apart what has changed in
fleet.yaml, what somebody has changed in Redis, and what is somebody else's altogether.

- An entry that has changed in fleet.yaml is written, whatever stands in Redis.
- One that has not is left alone where somebody has edited or removed its scheduler by hand: until the entry changes.
- One that is gone from fleet.yaml is removed, unless somebody has edited it: then it is theirs.
- What has no mark is never touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from workers.broker.schedulers import Found, NewSchedule
from workers.queue_service.schedule import Origin, has_ended, state_of

Action: TypeAlias = Literal["add", "update", "remove", "forget", "leave"]
"""Write a new one; write over it; remove it and its mark; remove the mark alone; nothing."""
Key: TypeAlias = tuple[str, str]
"""Queue and id."""

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """That a scheduler is ours."""

    fingerprint: str
    """Of what was last written."""

    def __str__(self) -> str:
        return json.dumps({"v": _VERSION, "fingerprint": self.fingerprint}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """None: there is none, or it is of a version that is not known here, which leaves the scheduler to others."""
        try:
            said: Any = json.loads(text) if text else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(said, dict) or said.get("v") != _VERSION or not isinstance(said.get("fingerprint"), str):
            return None
        return cls(said["fingerprint"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is to be done with one schedule, and why."""

    action: Action
    queue: str
    id: str
    reason: str
    found: Found
    new: NewSchedule | None = None
    done: int = 0
    """How many runs of its limit it has had already."""
    is_notable: bool = False
    """Somebody should know: it is not as fleet.yaml has it, or what somebody did is undone."""

    def __str__(self) -> str:
        return f"{self.action} {self.id} of queue {self.queue}: {self.reason}"


def origin_of(found: Found) -> Origin:
    """Whose a scheduler is."""
    mark = Mark.parse(found.mark)
    if mark is None or found.stored is None:
        return "other"
    return "declared" if found.stored.fingerprint == mark.fingerprint else "changed"


def plan(
    declared: Mapping[Key, NewSchedule], found: Mapping[Key, Found], now_ms: int, *, restore: bool = False
) -> list[Step]:
    """The steps, by queue and id.

    Args:
        declared: what fleet.yaml has.
        found: what there is under the ids that are declared or marked; what is not named is not there.
        restore: take back what was done by hand.
    """
    nothing = Found()
    steps = []
    for key in sorted(declared.keys() | found.keys()):
        here = found.get(key, nothing)
        new, mark = declared.get(key), Mark.parse(here.mark)
        if new is not None:
            steps.append(_declared(key, new, here, mark, now_ms, restore))
        elif mark is not None:
            steps.append(_undeclared(key, here, mark))
    return steps


def _declared(key: Key, new: NewSchedule, here: Found, mark: Mark | None, now_ms: int, restore: bool) -> Step:
    stored = here.stored
    if stored is not None and mark is None:
        theirs = "somebody else has made one of this name: rename the entry, or remove theirs"
        return _step("leave", key, here, theirs, is_notable=True)
    is_same = mark is not None and mark.fingerprint == new.fingerprint
    if stored is None:
        if is_same and not restore:
            gone = "it was removed by hand, and stays so until its entry changes"
            return _step("leave", key, here, gone, is_notable=True)
        if has_ended(new.repeat, 0, now_ms, now_ms):
            return _step("leave", key, here, "its end is over")
        return _step("add", key, here, "it was removed by hand" if is_same else "it is new", new=new)
    is_edited = mark is not None and stored.fingerprint != mark.fingerprint
    if is_edited and is_same and not restore:
        edited = "it was changed by hand, and stays so until its entry changes"
        return _step("leave", key, here, edited, is_notable=True)
    if not is_edited and is_same:
        return _unchanged(key, new, here, now_ms)
    return _changed(key, new, here, is_edited, now_ms)


def _unchanged(key: Key, new: NewSchedule, here: Found, now_ms: int) -> Step:
    """As it was written, by either side."""
    assert here.stored is not None  # noqa: S101 - looked at by the caller
    match state_of(here.stored, now_ms):
        case "stopped":
            lost = "its next run was lost, so that it had stopped"
            return _step("update", key, here, lost, new=new, done=here.stored.runs, is_notable=True)
        case "ended":
            return _step("leave", key, here, "it has ended")
    return _step("leave", key, here, "it is as declared")


def _changed(key: Key, new: NewSchedule, here: Found, is_edited: bool, now_ms: int) -> Step:
    """The entry, or what is to be restored. Runs count on where its times are what they were."""
    stored, done = here.stored, 0
    assert stored is not None  # noqa: S101 - looked at by the caller
    if stored.repeat == new.repeat:
        done = stored.runs - 1 if stored.next_run == "planned" else stored.runs
        done = max(0, done)
    if has_ended(new.repeat, done, stored.next_ms if done else now_ms, now_ms):
        return _step("leave", key, here, "it has ended")
    reason = "its entry has changed" + (", and a change by hand is undone" if is_edited else "")
    return _step("update", key, here, reason, new=new, done=done, is_notable=is_edited)


def _undeclared(key: Key, here: Found, mark: Mark) -> Step:
    if here.stored is None:
        return _step("forget", key, here, "it is declared no more, and was removed by hand")
    if here.stored.fingerprint != mark.fingerprint:
        theirs = "it is declared no more, but was changed by hand: it is left to whoever did so"
        return _step("forget", key, here, theirs, is_notable=True)
    return _step("remove", key, here, "it is declared no more")


def _step(
    action: Action,
    key: Key,
    found: Found,
    reason: str,
    *,
    new: NewSchedule | None = None,
    done: int = 0,
    is_notable: bool = False,
) -> Step:
    queue, schedule_id = key
    return Step(
        action=action,
        queue=queue,
        id=schedule_id,
        reason=reason,
        found=found,
        new=new,
        done=done,
        is_notable=is_notable,
    )
