"""Whether two versions of the schema go together: what a change breaks, for whom, in words.

Three readings of "it breaks":
- producers: what an existing producer writes is refused from now on, or means something else, or its TypeScript no
  longer compiles.
- waiting jobs: what was written before and is read after it is refused, or means something else.
- older workers: what producers write after it is refused by workers from before, as in a rolling update or after going
  back. Update workers first, and it breaks nothing.

And one that no schema can answer: unknown fields are let through, so a field that is new may already be sent under that
name, with another meaning. That is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from workers.wire_schema.forms import Forms, NotComparable, json_of, mapped
from workers.wire_schema.refusals import Reason, Refusal, Refusals

_REF = "#/$defs/"


class Effect(Enum):
    """Whom a change breaks."""

    PRODUCERS = "producers"
    WAITING = "waiting jobs"
    UNDECLARED = "jobs that carry a field undeclared"
    OLDER_WORKERS = "older workers"


_BREAKING = frozenset({Effect.PRODUCERS, Effect.WAITING})


@dataclass(frozen=True)
class Change:
    """One difference between two versions."""

    where: str
    """The definition and the field in it, as the wire has it: `RunInput.config`; or a task type."""
    what: str
    effects: frozenset[Effect] = frozenset()
    """Empty: it breaks nothing."""
    tasks: tuple[str, ...] = ()
    """The task types that it is about."""

    @property
    def warns(self) -> bool:
        """Whether it breaks something only if jobs hold what nobody has declared."""
        return self.effects == {Effect.UNDECLARED}

    def __str__(self) -> str:
        told = " and ".join(each.value for each in Effect if each in self.effects)
        label = f"breaks {told}" if self.effects & _BREAKING else "warning" if self.warns else told or "fine"
        about = f" ({', '.join(self.tasks)})" if self.tasks and self.tasks != (self.where,) else ""
        return f"{label}: {self.where}: {self.what}{about}"

    def as_json(self) -> dict[str, Any]:
        """The change for other programs."""
        breaks = [each.value for each in Effect if each in self.effects and not self.warns]
        return {
            "where": self.where,
            "what": self.what,
            "breaks": breaks,
            "warns": self.warns,
            "tasks": list(self.tasks),
        }


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Compare two schemas made by `wire_schema`; what breaks comes first, then what may.

    Raises:
        NotComparable: one of them isn't such a schema; the message says which.
    """
    try:
        before, after = _Version(old), _Version(new)
        found = [
            *_told(_refusals(before, after), _AHEAD),
            *_told(_refusals(after, before), _BACK),
            *_defaults(before, after),
            *_names(before, after),
        ]
    except (NotComparable, RecursionError) as error:
        raise NotComparable(_fault(old, "old") or _fault(new, "new") or str(error)) from None
    broken = {each.where for each in found if each.effects}
    found = [each for each in found if each.effects or each.where not in broken]
    return sorted(found, key=lambda each: (_rank(each.effects), each.where, each.what))


def _rank(effects: frozenset[Effect]) -> int:
    order = (Effect.WAITING, Effect.PRODUCERS, Effect.UNDECLARED, Effect.OLDER_WORKERS)
    return next((place for place, each in enumerate(order) if each in effects), len(order))


def _fault(schema: Mapping[str, Any], which: str) -> str | None:
    """Why this one can't be compared, found by comparing it with itself; None: it can be."""
    try:
        version = _Version(schema)
        _refusals(version, version)
        _ = [version.fields(name) for name in version.definitions]
    except NotComparable as error:
        return f"the {which} schema: {error}"
    except RecursionError:
        return f"the {which} schema: it is nested too deeply"
    return None


class _Version:
    """The parts of one file."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.definitions = mapped(schema, "$defs")
        self.tasks = mapped(mapped(schema, "discriminator"), "mapping")
        if not self.tasks or not all(isinstance(each, str) for each in self.tasks.values()):
            raise NotComparable("not made by `fleet schema json`: it tells no task types apart by `type`")

    def fields(self, name: str) -> dict[str, Any]:
        """Those that a definition declares."""
        definition = self.definitions.get(name)
        return mapped(definition, "properties") if isinstance(definition, dict) else {}


def _refusals(writer: _Version, reader: _Version) -> dict[str, list[Refusal]]:
    """By task type."""
    compared = Refusals(Forms(writer.definitions), Forms(reader.definitions))
    found = {}
    for name, reference in writer.tasks.items():
        if name in reader.tasks:
            found[name] = compared.of({"$ref": reference}, {"$ref": reader.tasks[name]}, name)
        else:
            found[name] = [Refusal(name, Reason.TASK)]
    return found


#: What is written before and read after a change.
_AHEAD = {
    Reason.TASK: "the task type is gone",
    Reason.SHAPE: "the shape is gone",
    Reason.REQUIRED: "is required now",
    Reason.ABSENT: "must be absent now",
    Reason.VALUE: "no longer takes {writer}",
    Reason.TYPE: "no longer takes {writer}, but {reader}",
    Reason.LIMIT: "{reader} now, before {writer}",
    Reason.UNKNOWN: "no longer takes unknown fields",
    Reason.UNREAD: "is gone: workers don't read it any more, TypeScript that sets it doesn't compile",
    Reason.UNDECLARED: "is new, and {reader}: jobs of producers who already send it undeclared, otherwise, are refused",
}
#: What is written after a change and read by workers from before. What is undeclared after it was told as gone.
_BACK = {
    Reason.TASK: "a new task type; older workers delay it as `on_unknown` says",
    Reason.SHAPE: "a new shape; older workers refuse it",
    Reason.REQUIRED: "may be absent now; older workers refuse that",
    Reason.ABSENT: "may be there now; older workers refuse that",
    Reason.VALUE: "takes {writer} now; older workers refuse that",
    Reason.TYPE: "takes {writer} now; older workers refuse that",
    Reason.LIMIT: "{writer} now, before {reader}; older workers refuse what is beyond",
    Reason.UNKNOWN: "takes unknown fields now; older workers refuse those",
    Reason.UNREAD: "is new; older workers keep it and don't read it",
}
_NEWER_VERSION = "{writer} now, before {reader}; older workers delay newer ones as `on_unknown` says"


def _told(refusals: Mapping[str, list[Refusal]], words: Mapping[Reason, str]) -> Iterator[Change]:
    """One change for each place and what happens there, with all task types that have it."""
    ahead = words is _AHEAD
    tasks: dict[tuple[str, str, Reason], dict[str, None]] = {}
    for task, found in refusals.items():
        for each in found:
            text = words.get(each.reason)
            if text is None:
                continue
            if not ahead and each.reason is Reason.LIMIT and each.where.endswith(".schemaVersion"):
                text = _NEWER_VERSION
            what = text.format(writer=each.writer, reader=each.reader)
            tasks.setdefault((each.where, what, each.reason), {})[task] = None
    for (where, what, reason), names in tasks.items():
        behind = frozenset({Effect.OLDER_WORKERS} if reason.refused else ())
        before = frozenset({Effect.UNDECLARED}) if reason is Reason.UNDECLARED else _BREAKING
        yield Change(where, what, before if ahead else behind, tuple(names))


def _defaults(before: _Version, after: _Version) -> Iterator[Change]:
    """What an absent field means; null where nothing else is said."""
    for name in before.definitions.keys() & after.definitions.keys():
        old, new = before.fields(name), after.fields(name)
        for key in old.keys() & new.keys():
            was, now = (each.get("default") if isinstance(each, dict) else None for each in (old[key], new[key]))
            if json_of(was) != json_of(now):
                what = f"absent it means {json_of(now)} now, before {json_of(was)}"
                yield Change(f"{name}.{key}", what, _BREAKING | {Effect.OLDER_WORKERS})


def _names(before: _Version, after: _Version) -> Iterator[Change]:
    """Of what TypeScript imports."""
    for name in before.definitions.keys() - after.definitions.keys():
        what = "the name is gone; TypeScript that imports it doesn't compile"
        yield Change(name, what, frozenset({Effect.PRODUCERS}))
