"""The `timeout` and `ladder` of a task in fleet.yaml: what is done to a run that takes long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from config.quantities import format_duration, unexpected
from config.rung_times import WAIT_S, latest_starts
from config.section import Section
from config.units import WHOLE, Seconds

RungName: TypeAlias = Literal["warn", "checkpoint", "pause", "stop", "cancel", "kill"]
TierName: TypeAlias = Literal["free", "premium", "enterprise"]

#: What a duration may be, in words.
DURATION = "a duration like 30s, 5m or 1h30m"

_ORDER: tuple[RungName, ...] = get_args(RungName)
_TIERS: tuple[TierName, ...] = get_args(TierName)
_ASKING: tuple[RungName, ...] = ("checkpoint", "pause", "stop")
_FORCING: tuple[RungName, ...] = ("cancel", "kill")
#: Rungs after which only a later one makes sense.
_NARROWING: tuple[RungName, ...] = ("pause", "stop", "cancel", "kill")


def _listed(value: Any) -> Any:
    value = [value] if isinstance(value, str) else value
    if value == []:
        raise unexpected("one or more of free, premium and enterprise", value)
    return value


class RungConfig(Section):
    """One rung of a ladder."""

    model_config = ConfigDict(serialize_by_alias=True)

    at: Seconds | None = None
    """The time of the run at which it begins, which ends the one before. Defaults to when the one before has fallen: a
    warning at once, a request when it was declined or made in vain, a saved checkpoint at once."""
    whose: Annotated[
        tuple[TierName, ...],
        Field(alias="for"),
        BeforeValidator(_listed, json_schema_input_type=TierName | tuple[TierName, ...]),
    ] = _TIERS
    """Whose runs it is for, one or a list of free, premium and enterprise, by the task's `userData`; see `tiers`.
    Defaults to everyone's."""
    do: RungName
    """warn: a line in the log, and a count. checkpoint: asks the run to save its state. pause: asks it to set itself
    aside. stop: asks it to end; it has failed as timed out. cancel: cancels it. kill: ends it by force, where
    `isolation` has any."""
    tries: Annotated[int, Field(ge=1, le=1000), WHOLE] = 1
    """How often checkpoint, pause and stop are asked. Defaults to 1."""
    wait: Seconds | None = None
    """After each try, how long its answer may take; after cancel, how long the run may clean up. Defaults to 10s, after
    cancel to 5s."""

    @model_validator(mode="after")
    def _fits(self) -> RungConfig:
        found: list[tuple[tuple[str | int, ...], str]] = []
        if self.tries > 1 and self.do not in _ASKING:
            found.append((("tries",), f"expected tries for checkpoint, pause and stop alone, not for {self.do}"))
        if self.wait is not None and self.do in ("warn", "kill"):
            found.append((("wait",), f"expected no wait for {self.do}, which asks nothing"))
        refuse("RungConfig", self, found)
        return self

    @property
    def wait_s(self) -> float | None:
        """`wait` where it applies and something is known of it."""
        return WAIT_S if self.wait is None and self.do in _ASKING else self.wait


class TimeoutConfig(Section):
    """The short form of a ladder: a time for each rung, the same for everyone. They are asked once."""

    model_config = ConfigDict(json_schema_extra={"x-expected": DURATION, "minProperties": 1})

    warn: Seconds | None = None
    """When a line is logged and counted. Defaults to never."""
    checkpoint: Seconds | None = None
    """When the run is asked to save its state. Defaults to never."""
    pause: Seconds | None = None
    """When it is asked to set itself aside. Defaults to never."""
    stop: Seconds | None = None
    """When it is asked to end, as timed out. Defaults to never."""
    cancel: Seconds | None = None
    """When it is cancelled. Defaults to never."""
    kill: Seconds | None = None
    """When it is ended by force, where `isolation` has any. Defaults to 5s after cancel."""
    job_may_set: Seconds | None = None
    """The longest time that a job may set for itself, see `task.job_may_set`. Defaults to none: it may not."""

    @property
    def rungs(self) -> tuple[RungConfig, ...]:
        """As a ladder."""
        times = ((do, getattr(self, do)) for do in _ORDER)
        return tuple(RungConfig(do=do, at=at) for do, at in times if at is not None)

    @model_validator(mode="after")
    def _leads_somewhere(self) -> TimeoutConfig:
        rungs = self.rungs
        found = [(_key(issue, rungs), issue) for issue in issues(rungs, self.job_may_set)]
        refuse("TimeoutConfig", self, [((key,) if key else (), issue.message) for key, issue in found])
        return self


def _key(issue: Issue, rungs: Sequence[RungConfig]) -> str | None:
    if issue.rung is None:
        return issue.field
    return rungs[issue.rung].do if issue.field == "at" else None


@dataclass(frozen=True, slots=True)
class Issue:
    """What is wrong with a ladder."""

    message: str
    rung: int | None = None
    """Which rung it is about; None: all of them."""
    field: str | None = None

    @property
    def path(self) -> tuple[str | int, ...]:
        """Where it is in a task with a list of rungs."""
        if self.rung is None:
            return (self.field or "ladder",)
        return ("ladder", self.rung, self.field) if self.field else ("ladder", self.rung)


def issues(rungs: Sequence[RungConfig], job_may_set: float | None) -> list[Issue]:
    """What is wrong with these rungs, for the runs of each tier, told once; empty where every run has a first rung and
    an end, and none is passed over.
    """
    tiers = _TIERS if any(rung.whose != _TIERS for rung in rungs) else _TIERS[:1]
    found: dict[tuple[int | None, str | None], Issue] = {}
    for tier in tiers:
        named = f" for {tier}" if len(tiers) > 1 else ""
        chosen = [at for at, rung in enumerate(rungs) if tier in rung.whose]
        for issue in _found(rungs, chosen, named, job_may_set):
            found.setdefault((issue.rung, issue.field), issue)
    return list(found.values())


def _found(
    rungs: Sequence[RungConfig], chosen: Sequence[int], named: str, job_may_set: float | None
) -> Iterator[Issue]:
    if not chosen:
        yield Issue(f"expected at least one rung{named}, the last of them cancel or kill")
        return
    yield from _order(rungs, chosen, named)
    if rungs[chosen[0]].at is None:
        yield Issue(f"expected a time, at: this is the first rung{named}", chosen[0], "at")
        return
    yield from _times(rungs, chosen, named)
    if job_may_set is not None:
        yield from _cap(rungs, chosen, named, job_may_set)


def _order(rungs: Sequence[RungConfig], chosen: Sequence[int], named: str) -> Iterator[Issue]:
    """warn and checkpoint where they like, the others in their order, and cancel or kill at the end."""
    grave = -1
    for at in chosen:
        do = rungs[at].do
        if do not in _NARROWING:
            if grave >= _NARROWING.index("cancel"):
                yield Issue(f"expected nothing but kill behind cancel{named}, found {do}", at, "do")
            continue
        rank = _NARROWING.index(do)
        if rank < grave:
            yield Issue(f"expected {do} before {_NARROWING[grave]}{named}", at, "do")
        elif rank == grave and do in _FORCING:
            yield Issue(f"expected {do} once{named}", at, "do")
        grave = max(rank, grave)
    last = rungs[chosen[-1]].do
    if last not in _FORCING:
        yield Issue(
            f"expected cancel or kill as the last rung{named}, since a run may go on after {last}", chosen[-1], "do"
        )


def _times(rungs: Sequence[RungConfig], chosen: Sequence[int], named: str) -> Iterator[Issue]:
    """None comes before those ahead of it have begun."""
    starts = _starts([rungs[at] for at in chosen])
    for before, start, former, at in zip(starts, starts[1:], chosen, chosen[1:], strict=False):
        if rungs[at].at is not None and start <= before:
            begun = format_duration(round(before, 3))
            yield Issue(f"expected a time after {begun}, when {rungs[former].do} begins{named} at the latest", at, "at")


def _cap(rungs: Sequence[RungConfig], chosen: Sequence[int], named: str, job_may_set: float) -> Iterator[Issue]:
    starts = _starts([rungs[at] for at in chosen])
    for start, at in zip(starts, chosen, strict=True):
        if rungs[at].do in ("stop", *_FORCING):
            if job_may_set < start:
                least, do = format_duration(round(start, 3)), rungs[at].do
                yield Issue(f"expected at least {least}, when {do} begins{named} anyway", None, "job_may_set")
            return


def _starts(rungs: Sequence[RungConfig]) -> list[float]:
    """When each begins at the latest, if nobody answers."""
    waits = ((rung.at, rung.tries * (rung.wait_s or 0.0) if rung.do in _ASKING else 0.0) for rung in rungs)
    return latest_starts(waits)


def refuse(model: str, value: Any, found: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
    """Raise what was found, each at its place below the model; nothing where nothing was.

    Raises:
        ValidationError: which pydantic takes over into that of the whole.
    """
    if found:
        raise ValidationError.from_exception_data(
            model,
            [
                InitErrorDetails(type=PydanticCustomError("ladder", "{said}", {"said": said}), loc=loc, input=value)
                for loc, said in found
            ],
        )
