"""What data of an older shape say, and where the newest shape says it: written by hand from node-stack, section 1.7."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from tasks.allocation import Allocation
from tasks.base import Envelope
from tasks.run_start import RunStart
from tasks.swarm_execution import SwarmExecution
from tasks.swarm_request import SwarmInput
from tests.unit.tasks.wire_data import same

Way: TypeAlias = tuple[Any, ...]

MISSING = object()
ENVELOPE = {field.alias for field in Envelope.model_fields.values()}
#: The places of flat shapes that are others in the newest; what stands beneath them goes along.
SWARM: dict[Way, tuple[Way, ...]] = {
    ("swarmId",): (("context", "swarmId"),),
    ("userData",): (("context", "userData"), ("input", "userData")),
    ("organizationId",): (("input", "organizationId"),),
    ("config", "name"): (("input", "name"),),
    ("config", "description"): (("input", "description"),),
    ("config", "goal"): (("input", "goal"),),
    ("config", "config"): (("input", "executionConfig"),),
    ("config", "resources", "maxCredits"): (("allocation", "maxCredits"),),
    ("config", "resources", "maxTokens"): (("allocation", "maxTokens"),),
    ("config", "resources", "maxTime"): (("allocation", "maxDurationMs"),),
    ("config", "resources", "tools"): (("input", "availableTools"),),
}
RUN: dict[Way, tuple[Way, ...]] = {
    ("userData",): (("context", "userData"),),
    ("runId",): (("input", "runId"),),
    ("resourceVersionId",): (("input", "resourceVersionId"),),
    ("isNewRun",): (("input", "isNewRun"),),
    ("config",): (("input", "config"),),
    ("formValues",): (("input", "formValues"),),
    ("runFrom",): (("input", "runFrom"),),
    ("startedById",): (("input", "startedById"),),
}
#: The objects of a flat swarm that become others, and what these declare: the deepest first.
OBJECTS: tuple[tuple[Way, Way, Any], ...] = (
    (("config", "resources"), ("allocation",), Allocation),
    (("config",), ("input",), SwarmInput),
    ((), (), SwarmExecution),
)


def leaves(value: Any, way: Way = ()) -> Iterator[tuple[Way, Any]]:
    """Every value that holds no others, with its place."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not (found := [*members]):
        yield way, value
    for name, each in found:
        yield from leaves(each, (*way, name))


def unsaid(flat: dict[str, Any], newest: dict[str, Any]) -> list[tuple[Way, Any]]:
    """The leaves of flat data that the newest shape's don't have where they should."""
    return [
        (way, leaf)
        for way, leaf in leaves(flat)
        if not _says_nothing(way, leaf, flat)
        and not all(same(at(newest, place), _as_newest(way, leaf)) for place in places(way, flat))
    ]


def places(way: Way, flat: dict[str, Any]) -> Iterable[Way]:
    """Where the newest shape says what a flat one says there."""
    table = _table(flat)
    for length in (3, 2, 1):
        if way[:length] in table:
            return [(*new, *way[length:]) for new in table[way[:length]]]
    if table is RUN:
        return [(_free(way[0], (), flat, RunStart), *way[1:])]
    old, new, model = next(each for each in OBJECTS if way[: len(each[0])] == each[0])
    return [(*new, _free(way[len(old)], old, flat, model), *way[len(old) + 1 :])]


def at(data: Any, way: Way) -> Any:
    """What stands at a place."""
    for name in way:
        try:
            data = data[name]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return data


def _table(flat: dict[str, Any]) -> dict[Way, tuple[Way, ...]]:
    return SWARM if flat["type"] == "swarm-execution" else RUN


def _known(flat: dict[str, Any]) -> set[Way]:
    """The places that the flat shape declares."""
    table = _table(flat)
    return {*table, *((name,) for name in ENVELOPE), *((old for old, *_ in OBJECTS if table is SWARM))}


def _free(name: str, within: Way, flat: dict[str, Any], model: Any) -> str:
    """What an unknown field is called where the newest shape may declare one of its name."""
    declared = {field.alias for field in model.model_fields.values()}
    if name not in declared or (name in ENVELOPE and not within):
        return name
    unknown = {each for each in at(flat, within) if (*within, each) not in _known(flat)}
    name += "_"
    while name in declared or name in unknown:
        name += "_"
    return name


def _says_nothing(way: Way, leaf: Any, flat: dict[str, Any]) -> bool:
    """null of a declared field, an empty object that becomes another."""
    return way in _known(flat) and (leaf is None or (leaf == {} and way == ("config", "resources")))


def _as_newest(way: Way, leaf: Any) -> Any:
    return str(leaf) if way == ("config", "resources", "maxCredits") else leaf
