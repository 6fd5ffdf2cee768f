"""The ladder of a task's time: what is done to a run that takes long, rung by rung. Pure; `deadline.py` drives it.

A rung with a time (`at`) begins then, which ends the one before. A rung without begins when the one before has fallen:
a warning at once, a request when it is declined or was made in vain, a cancellation when its clean-up time is over.
A checkpoint that was saved is done with, and the next rung follows in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from config.rung_times import WAIT_S, latest_starts
from tasks.tier import TIERS, Tier
from workers.broker.events import RungName
from workers.broker.numbers import is_number
from workers.runtime.hint import NO_HINT, Hint

#: Rungs that ask the run for something and wait for its answer.
ASKING = frozenset[RungName]({"checkpoint", "pause", "stop"})
#: Rungs that end the run, one way or the other; the first of them is moved by a job's own hint.
ENDING = frozenset[RungName]({"stop", "cancel", "kill"})
#: Rungs that no run can decline.
FORCING = frozenset[RungName]({"cancel", "kill"})

#: How long a cancelled run may clean up before it is killed, seconds.
CLEANUP_S = 5.0
#: How long after that its slot waits for the end, before it goes on without it, seconds.
KILL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung."""

    do: RungName
    at_s: float | None = None
    """Seconds that the run has taken when it begins. None: when the one before has fallen."""
    tiers: frozenset[Tier] | None = None
    """Whose runs it is for. None: everyone's."""
    tries: int = 1
    """How often a request is made."""
    wait_s: float | None = None
    """Seconds between two tries, and from the last one until the rung has fallen. None: WAIT_S for a request, CLEANUP_S
    for a cancellation, KILL_S for a kill; a warning has none."""

    @property
    def patience_s(self) -> float:
        """Seconds from its beginning until it has fallen, if nobody answers."""
        return self.tries * self.pause_s

    @property
    def pause_s(self) -> float:
        """`wait_s`, or what it defaults to."""
        if self.wait_s is not None:
            return self.wait_s
        return WAIT_S if self.do in ASKING else {"warn": 0.0, "cancel": CLEANUP_S, "kill": KILL_S}[self.do]


class LadderError(ValueError):
    """The rungs lead nowhere: a run of some tier would never begin them, or never end."""


@dataclass(frozen=True, slots=True)
class Climb:
    """The rungs of one run, ended by a kill."""

    rungs: tuple[Rung, ...]
    starts_s: tuple[float, ...] = field(init=False)
    """When each begins at the latest, seconds."""
    cut_s: float = field(init=False)
    """When the run is cancelled or killed at the latest."""
    end_s: float = field(init=False)
    """When it is over at the latest, and its slot free."""

    def __post_init__(self) -> None:
        if self.rungs[-1].do != "kill":
            object.__setattr__(self, "rungs", (*self.rungs, Rung(do="kill")))
        starts = latest_starts((rung.at_s, rung.patience_s) for rung in self.rungs)
        # A rung that would begin after a later one's time is passed over.
        for at in range(len(starts) - 2, -1, -1):
            starts[at] = min(starts[at], starts[at + 1])
        cut = min(start for start, rung in zip(starts, self.rungs, strict=True) if rung.do in FORCING)
        object.__setattr__(self, "starts_s", tuple(starts))
        object.__setattr__(self, "cut_s", cut)
        object.__setattr__(self, "end_s", starts[-1] + self.rungs[-1].patience_s)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs of a task type on one queue.

    Raises:
        LadderError: for some tier there is no rung, the first has no time, times don't ascend, or the last is neither
            cancel nor kill.
    """

    rungs: tuple[Rung, ...]
    job_may_set_s: float | None = None
    """The longest time that a job may set for the first rung of ENDING, seconds. None: what jobs say is ignored."""
    by_tier: bool = field(init=False, compare=False)
    """Whether it is not the same for all."""
    only: Climb | None = field(init=False, repr=False, compare=False)
    """The rungs of every run, where they depend neither on its tier nor on its job."""
    _climbs: dict[Tier, Climb] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_tier = any(rung.tiers is not None and rung.tiers != set(TIERS) for rung in self.rungs)
        object.__setattr__(self, "by_tier", by_tier)
        object.__setattr__(self, "_climbs", {tier: self._climb(tier) for tier in TIERS})
        only = None if by_tier or self.job_may_set_s is not None else self._climbs["free"]
        object.__setattr__(self, "only", only)

    @classmethod
    def timeout(cls, seconds: float) -> Ladder:
        """The ladder of one rung: cancel."""
        return cls((Rung(do="cancel", at_s=seconds),))

    @property
    def end_s(self) -> float:
        """When any run is over at the latest, seconds."""
        longest = Hint(own_s=self.job_may_set_s)
        return max(max(self.for_run(tier).end_s, self.for_run(tier, longest).end_s) for tier in TIERS)

    def for_run(self, tier: Tier = "free", hint: Hint = NO_HINT) -> Climb:
        """The rungs of one run: those of its tier, stretched or shrunk to what its job says, where it may.

        The first rung of ENDING moves to that time; those before are moved in proportion, those after keep their
        distance to it. Waits stay as they are.
        """
        climb = self._climbs[tier]
        if self.job_may_set_s is None or hint == NO_HINT:
            return climb
        first = next(at for at, rung in enumerate(climb.rungs) if rung.do in ENDING)
        old_s = climb.starts_s[first]
        if hint.own_s is not None:
            new_s = min(hint.own_s, self.job_may_set_s)
        else:
            new_s = max(old_s, min(hint.at_least_s or 0.0, self.job_may_set_s))
        return climb if new_s == old_s else _moved(climb, first, new_s)

    def _climb(self, tier: Tier) -> Climb:
        rungs = tuple(rung for rung in self.rungs if rung.tiers is None or tier in rung.tiers)
        if not rungs or rungs[0].at_s is None or rungs[-1].do not in FORCING:
            raise LadderError(f"for {tier}: the first rung needs a time, and the last must be cancel or kill")
        times = [rung.at_s for rung in rungs if rung.at_s is not None]
        if times != sorted(times) or not all(is_number(at_s) and at_s > 0 for at_s in times):
            raise LadderError(f"for {tier}: the times must be positive and ascend")
        return Climb(rungs)


def _moved(climb: Climb, first: int, new_s: float) -> Climb:
    old_s = climb.starts_s[first]

    def moved(at: int, rung: Rung) -> Rung:
        if at == first:
            return replace(rung, at_s=new_s)
        if rung.at_s is None:
            return rung
        if at > first:
            return replace(rung, at_s=rung.at_s + (new_s - old_s))
        return replace(rung, at_s=min(rung.at_s * (new_s / old_s), new_s))  # rounding must not turn their order round

    return Climb(tuple(moved(at, rung) for at, rung in enumerate(climb.rungs)))


# ----------------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands on its ladder."""

    rung: int = -1
    """Index of the present rung; -1 before the first."""
    tried: int = 0
    """How often that was tried."""
    since_s: float = 0.0
    """Seconds that the run had taken when it was last tried."""
    over: bool = False
    """It has fallen in vain or was answered; the next one's time has not come."""


START = Position()


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from a look at the ladder."""

    position: Position
    do: RungName | Literal["leave"] | None = None
    """What to do now; leave: the run outlives its last rung, and its slot goes on without it. None: nothing."""
    look_s: float = 0.0
    """Seconds that the run will have taken when something is due next, if nobody answers before. Where something is to
    be done now, look again right after it.
    """


def step(climb: Climb, position: Position, elapsed_s: float, *, answered: bool = False) -> Step:
    """Look at the ladder.

    Args:
        position: from the step before; START at first.
        elapsed_s: seconds that the run has taken so far.
        answered: it has declined the present request or, if that is a checkpoint, has saved one.
    """
    due = _due(climb, position, elapsed_s)
    if due is not None:
        return _begun(climb, due, elapsed_s)
    if position.rung < 0 or position.over:
        return Step(position, look_s=_next_time(climb, position.rung))
    rung = climb.rungs[position.rung]
    answered = answered and rung.do in ASKING
    if not answered and elapsed_s < position.since_s + rung.pause_s:
        look_s = min(position.since_s + rung.pause_s, _next_time(climb, position.rung))
        return Step(position, look_s=look_s)
    if not answered and position.tried < rung.tries:
        return Step(replace(position, tried=position.tried + 1, since_s=elapsed_s), rung.do)
    return _fallen(climb, replace(position, over=True), elapsed_s)


def until_s(climb: Climb, position: Position) -> float:
    """Seconds that the run will have taken when the present rung ends, if nobody answers."""
    following = climb.rungs[position.rung + 1 :]
    next_s = _next_time(climb, position.rung)
    if position.over or (following and following[0].at_s is not None):
        return next_s
    rung = climb.rungs[position.rung]
    return min(next_s, position.since_s + (rung.tries - position.tried + 1) * rung.pause_s)


def _fallen(climb: Climb, position: Position, elapsed_s: float) -> Step:
    """The present rung is over: the next begins, unless it has a time of its own."""
    following = position.rung + 1
    if following == len(climb.rungs):
        return Step(position, "leave", math.inf)
    if climb.rungs[following].at_s is None:
        return _begun(climb, following, elapsed_s)
    return Step(position, look_s=_next_time(climb, position.rung))


def _due(climb: Climb, position: Position, elapsed_s: float) -> int | None:
    """The last of the coming rungs whose time has come; what lies between is passed over."""
    for at in range(len(climb.rungs) - 1, position.rung, -1):
        at_s = climb.rungs[at].at_s
        if at_s is not None and at_s <= elapsed_s:
            return at
    return None


def _begun(climb: Climb, at: int, elapsed_s: float) -> Step:
    return Step(Position(at, tried=1, since_s=elapsed_s), climb.rungs[at].do)


def _next_time(climb: Climb, present: int) -> float:
    """The next time that a coming rung has."""
    return next((rung.at_s for rung in climb.rungs[present + 1 :] if rung.at_s is not None), math.inf)
