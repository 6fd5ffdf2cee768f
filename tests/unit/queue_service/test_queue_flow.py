"""Trees of tasks: how they are walked, what they are bounded by, which jobs they become."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.new_job import NewJob
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.flow import MAX_CHARS, MAX_LEVELS, MAX_NODES, FlowNode, order, tree, walk

TASK = {"type": "wave"}


def node(*children: Any, **fields: Any) -> FlowNode:
    return FlowNode(task=TASK, children=children, **fields)


def job(job_id: str = "", **fields: Any) -> NewJob:
    return NewJob(**{"queue": "q", "name": "q", "data": "{}", "id": job_id, **fields})


def test_walk_goes_to_parents_before_children_in_their_order() -> None:
    root = node(node(node(), node()), node())
    assert [(place.where, place.above) for place in walk(root)] == [
        ("", -1),
        ("children[0].", 0),
        ("children[0].children[0].", 1),
        ("children[0].children[1].", 1),
        ("children[1].", 0),
    ]


def chain(levels: int) -> FlowNode:
    found = node()
    for _ in range(levels - 1):
        found = node(found)
    return found


def cyclic() -> FlowNode:
    children: list[FlowNode] = []
    root = FlowNode(task=TASK, children=children)
    children.append(node(root))
    return root


def doubling() -> FlowNode:
    """Of 2^19 nodes, though it is made of twenty objects."""
    found = node()
    for _ in range(MAX_LEVELS - 1):
        found = node(found, found)
    return found


@pytest.mark.parametrize(
    ("root", "field", "said"),
    [
        (TASK, "flow", "expected a FlowNode, found a dict"),
        (node(None), "children[0]", "expected a FlowNode, found a NoneType"),
        (FlowNode(task=TASK, children="ab"), "children", "expected a list"),  # type: ignore[arg-type]
        (FlowNode(task=TASK, children=iter(())), "children", "expected a list"),  # type: ignore[arg-type]
        (node(node(on_failure="explode")), "children[0].on_failure", "expected fail, ignore, continue, remove"),
        (chain(MAX_LEVELS + 1), ".".join(["children[0]"] * MAX_LEVELS), "at most 20 levels"),
        (node(*(node() for _ in range(MAX_NODES))), "flow", "at most 1,000 jobs"),
        (node(*(node() for _ in range(MAX_NODES * 10))), "flow", "at most 1,000 jobs"),
        (doubling(), "flow", "at most 1,000 jobs"),
        (cyclic(), "children[0].children[0]", "contains itself"),
    ],
    ids=["root", "child", "text", "iterator", "mode", "deep", "wide", "very wide", "doubling", "cyclic"],
)
def test_what_is_no_tree_or_too_large_is_refused_with_its_place(root: Any, field: str, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as refused:
        walk(root)
    assert refused.value.field == field


def test_largest_flow_is_walked() -> None:
    assert len(walk(chain(MAX_LEVELS))) == MAX_LEVELS
    assert len(walk(node(*(node() for _ in range(MAX_NODES - 1))))) == MAX_NODES


def test_jobs_get_their_place_their_mode_and_an_id() -> None:
    places = walk(node(node(node(), on_failure="ignore"), node(on_failure="remove"), node(on_failure="continue")))
    root = tree(places, [job("r"), job("a"), job(), job("c"), job("d")])
    found = list(order(root))
    assert [each.job.id for each in found][::2] == ["r", found[2].job.id, "d"]
    assert len(found[2].job.id) == 32
    assert [set(each.job.opts) for each in found] == [set(), {"idof"}, {"fpof"}, {"rdof"}, {"cpof"}]
    assert [len(each.children) for each in found] == [3, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("jobs", "field", "said"),
    [
        ([job("a"), job("a")], "children[0].job_id", "job a of queue q is in the flow twice, as its root too"),
        ([job("a"), job("b", data="x" * (MAX_CHARS + 1))], "flow", "more than 16,000,000 together"),
        ([job("a"), job("b", opts={"de": {"id": "d"}})], "children[0].deduplication", "expected none"),
        ([job("a", opts={"de": {"id": "d", "replace": True}}), job("b")], "deduplication", "simple or throttle"),
        ([job("a", opts={"de": {"id": "d", "keepLastIfActive": True}}), job("b")], "deduplication", "simple or"),
    ],
)
def test_jobs_that_can_not_be_one_flow_are_refused(jobs: list[NewJob], field: str, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as refused:
        tree(walk(node(node())), jobs)
    assert refused.value.field == field


def test_same_id_in_two_queues_is_two_jobs() -> None:
    assert tree(walk(node(node())), [job("a"), job("a", queue="other")]).children[0].job.id == "a"


@given(st.recursive(st.just(()), lambda below: st.lists(below, max_size=4).map(tuple), max_leaves=30))
def test_tree_of_jobs_has_the_shape_of_the_flow(shape: Any) -> None:
    def made(of: Any) -> FlowNode:
        return node(*(made(each) for each in of))

    def seen(of: Any) -> Any:
        return tuple(seen(each) for each in of.children)

    try:
        places = walk(made(shape))
    except InvalidRequestError:
        return
    root = tree(places, [job(f"j{at}") for at in range(len(places))])
    assert seen(root) == shape
    assert [each.job.id for each in order(root)] == [f"j{at}" for at in range(len(places))]
