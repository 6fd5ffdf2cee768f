"""A flow: a job that waits for others, which may wait for others in turn. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from workers.broker.flow_producer import Node
from workers.broker.new_job import NewJob
from workers.queue_service.add_options import DEFAULT, AddOptions
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.new_jobs import AnyTask

#: The most of one flow, which Redis adds in one step: levels, jobs, characters of their data.
MAX_LEVELS, MAX_NODES, MAX_CHARS = 20, 1_000, 16_000_000

OnFailure: TypeAlias = Literal["fail", "ignore", "continue", "remove"]

#: BullMQ's options, as they are written.
FLAGS: Mapping[OnFailure, str] = {"fail": "fpof", "ignore": "idof", "continue": "cpof", "remove": "rdof"}


@dataclass(frozen=True, kw_only=True)
class FlowNode:
    """A task of a flow, and those that it waits for."""

    task: AnyTask
    options: AddOptions = DEFAULT
    children: Sequence[FlowNode] = ()
    on_failure: OnFailure = "fail"
    """What becomes of its parent when it has failed for good. fail: it fails too. ignore: it waits for the others, and
    is told (`children_failures`). continue: it starts at once. remove: it waits for the others, and is not told."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and where it is."""

    node: FlowNode
    where: str
    """As an error names it: `children[0].children[2].`; empty for the root."""
    above: int
    """The place of its parent in the walk, -1 for the root."""


def walk(root: FlowNode) -> list[Place]:
    """All nodes, each parent before its children, as they are listed.

    Raises:
        InvalidRequestError: something in it is no FlowNode, it is too large or too deep, or contains itself.
    """
    found: list[Place] = []
    todo: list[tuple[Any, str, int, tuple[int, ...]]] = [(root, "", -1, ())]
    while todo:
        node, where, above, way = todo.pop()
        field = where.rstrip(".") or "flow"
        if not isinstance(node, FlowNode):
            raise InvalidRequestError(field, f"expected a FlowNode, found a {type(node).__name__[:60]}")
        if id(node) in way:
            raise InvalidRequestError(field, "expected a tree: this node contains itself")
        if len(way) == MAX_LEVELS:
            raise InvalidRequestError(field, f"expected at most {MAX_LEVELS} levels")
        if len(found) == MAX_NODES:
            raise InvalidRequestError("flow", f"expected at most {MAX_NODES:,} jobs")
        if not isinstance(node.children, list | tuple):
            raise InvalidRequestError(f"{where}children", "expected a list of FlowNodes")
        if node.on_failure not in get_args(OnFailure):
            raise InvalidRequestError(f"{where}on_failure", f"expected {', '.join(get_args(OnFailure))}")
        found.append(Place(node, where, above))
        here = len(found) - 1
        if len(node.children) > MAX_NODES:
            raise InvalidRequestError("flow", f"expected at most {MAX_NODES:,} jobs")
        below = [(child, f"{where}children[{at}].", here, (*way, id(node))) for at, child in enumerate(node.children)]
        todo += reversed(below)
    return found


def tree(places: Sequence[Place], jobs: Sequence[NewJob]) -> Node:
    """The jobs as a tree; those without an id get one, since children name their parents by it.

    Raises:
        InvalidRequestError: two of them have one id, their data are too large together, or one can't be deduplicated.
    """
    named: dict[tuple[str, str], str] = {}
    if (chars := sum(len(job.data) for job in jobs)) > MAX_CHARS:
        raise InvalidRequestError("flow", f"{chars:,} characters of data, more than {MAX_CHARS:,} together")
    finished: list[NewJob] = []
    for place, job in zip(places, jobs, strict=True):
        _check_deduplication(place, job)
        job = replace(job, id=job.id or uuid.uuid4().hex)
        if place.above >= 0:
            job = replace(job, opts={**job.opts, FLAGS[place.node.on_failure]: True})
        if (other := named.setdefault((job.queue, job.id), place.where)) != place.where:
            text = f"job {job.id} of queue {job.queue} is in the flow twice, as {other.rstrip('.') or 'its root'} too"
            raise InvalidRequestError(f"{place.where}job_id", text)
        finished.append(job)
    below: dict[int, list[Node]] = {}
    for at in reversed(range(len(places))):
        node = Node(finished[at], tuple(reversed(below.get(at, ()))))
        below.setdefault(places[at].above, []).append(node)
    return below[-1][0]


def _check_deduplication(place: Place, job: NewJob) -> None:
    chosen = job.opts.get("de")
    if chosen is None:
        return
    field = f"{place.where}deduplication"
    if place.above >= 0:
        raise InvalidRequestError(field, "expected none: BullMQ has none for the child of a flow")
    if place.node.children and (chosen.get("replace") or chosen.get("keepLastIfActive")):
        raise InvalidRequestError(field, "expected simple or throttle: BullMQ has no others for a job with children")


def order(root: Node) -> Iterator[Node]:
    """The nodes as `place_flow` takes them."""
    yield root
    for child in root.children:
        yield from order(child)
