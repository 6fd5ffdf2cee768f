"""Flows: parents and children on either side, and what a child's failure does to its parent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import MakeWorker, wait_until
from tests.interop.acts import acts
from tests.interop.bridge import Js
from workers.broker.events import JobActive, JobCompleted, JobDelayed, JobFailed

pytestmark = pytest.mark.node
conform = pytest.mark.conform


def node(name: str, do: list[Any], *children: dict[str, Any], queue: str = "kids", **opts: Any) -> dict[str, Any]:
    """One node of a flow; its id is its name."""
    tree = {"name": name, "queueName": queue, "data": {"do": do}, "opts": {"jobId": name, **opts}}
    return {**tree, "children": list(children)} if children else tree


def parent(*children: dict[str, Any], do: list[Any] | None = None) -> dict[str, Any]:
    return node("parent", do if do is not None else [["children", None]], *children, queue="parents")


async def state(js: Js, queue: str, job_id: str) -> str:
    return str(await js.job(queue, job_id, "getState"))


@conform("Flows", "Node's parent, our children")
async def test_parent_in_node_gets_what_our_children_returned(js: Js, make_worker: MakeWorker, prefix: str) -> None:
    await js.flow("add", parent(node("a", [["return", 1]]), node("b", [["return", {"x": "é"}]])))
    assert await state(js, "parents", "parent") == "waiting-children"
    await make_worker(acts, queue="kids", slots=2)
    await js.work("parents")
    ended = await js.wait("parents", "parent")
    assert ended == {"result": {f"{prefix}:kids:a": 1, f"{prefix}:kids:b": {"x": "é"}}}


@conform("Flows", "our parent, Node's children")
async def test_our_parent_gets_what_children_in_node_returned(js: Js, make_worker: MakeWorker, prefix: str) -> None:
    await js.flow("add", parent(node("a", [["return", 1]]), node("b", [["return", None]])))
    await js.work("kids")
    await make_worker(acts, queue="parents")
    ended = await js.wait("parents", "parent")
    assert ended == {"result": {f"{prefix}:kids:a": 1, f"{prefix}:kids:b": None}}


@conform("Flows", "several levels, addBulk of flows")
async def test_tree_of_three_levels_is_worked_off_from_its_leaves(js: Js, make_worker: MakeWorker) -> None:
    tree = node("top", [], node("mid", [], node("leaf", []), node("leaf2", [])), node("other", []))
    await js.flow("addBulk", [tree])
    made = await make_worker(acts, queue="kids")
    await wait_until(lambda: len(made.of(JobCompleted)) == 5)
    order = [event.job_id for event in made.of(JobActive)]
    assert order.index("mid") > max(order.index("leaf"), order.index("leaf2"))
    assert order[-1] == "top"


@conform("Flows", "failParentOnFailure")
async def test_failed_child_fails_its_parent_in_bullmqs_words(js: Js, make_worker: MakeWorker, prefix: str) -> None:
    await js.flow("add", parent(node("bad", [["fail", "no"]], failParentOnFailure=True), node("good", [])))
    await make_worker(acts, queue="kids")
    made = await make_worker(acts, queue="parents")
    assert await js.wait("parents", "parent") == {"reason": f"child {prefix}:kids:bad failed"}
    assert [event.error for event in made.of(JobFailed)] == ["Deferred"], "our processor did not run"


@conform("Flows", "failParentOnFailure over two levels")
async def test_failure_climbs_to_the_grandparent(js: Js, make_worker: MakeWorker, prefix: str) -> None:
    leaf = node("leaf", [["fail", "no"]], failParentOnFailure=True)
    await js.flow("add", parent(node("mid", [], leaf, failParentOnFailure=True)))
    await make_worker(acts, queue="kids")
    await make_worker(acts, queue="parents")
    assert await js.wait("parents", "parent") == {"reason": f"child {prefix}:kids:mid failed"}
    assert await state(js, "kids", "mid") == "failed"


@conform("Flows", "ignoreDependencyOnFailure")
async def test_ignored_failure_lets_the_parent_run_and_is_told_to_it(
    js: Js, make_worker: MakeWorker, prefix: str
) -> None:
    tree = parent(
        node("bad", [["fail", "no"]], ignoreDependencyOnFailure=True), node("good", []), do=[["failures", None]]
    )
    await js.flow("add", tree)
    await make_worker(acts, queue="kids")
    await make_worker(acts, queue="parents")
    assert await js.wait("parents", "parent") == {"result": {f"{prefix}:kids:bad": "no"}}
    assert await js.job("parents", "parent", "getFailedChildrenValues") == {f"{prefix}:kids:bad": "no"}


@conform("Flows", "removeDependencyOnFailure")
async def test_removed_dependency_lets_the_parent_run(js: Js, make_worker: MakeWorker, prefix: str) -> None:
    await js.flow("add", parent(node("bad", [["fail", "no"]], removeDependencyOnFailure=True), node("good", [])))
    await make_worker(acts, queue="kids")
    await make_worker(acts, queue="parents")
    ended = await js.wait("parents", "parent")
    assert list(ended["result"]) == [f"{prefix}:kids:good"]


@conform("Flows", "continueParentOnFailure")
async def test_parent_starts_as_soon_as_a_child_has_failed(js: Js, make_worker: MakeWorker, prefix: str) -> None:
    """It may then wait for the others: with Node's moveToWaitingChildren, or our WaitForChildren."""
    slow = node("slow", [["sleep", 400], ["return", 5]])
    bad = node("bad", [["fail", "no"]], continueParentOnFailure=True)
    await js.flow("add", parent(bad, slow, do=[["await_children", None], ["children", None]]))
    await make_worker(acts, queue="kids", slots=2)
    made = await make_worker(acts, queue="parents")
    ended = await js.wait("parents", "parent")
    assert len(made.of(JobDelayed)) == 1, "it started before `slow` was done, and waited for it"
    assert ended == {"result": {f"{prefix}:kids:slow": 5}}


@conform("Flows", "a parent that completes too early fails")
async def test_completion_with_pending_children_is_refused(js: Js, make_worker: MakeWorker) -> None:
    bad = node("bad", [["fail", "no"]], continueParentOnFailure=True)
    await js.flow("add", parent(bad, node("never", [], delay=60_000), do=[]))
    await make_worker(acts, queue="kids")
    made = await make_worker(acts, queue="parents")
    await wait_until(lambda: made.of(JobFailed))
    assert "children that are not done" in made.of(JobFailed)[0].reason


@conform("Flows", "retried children")
async def test_parent_waits_for_the_last_attempt_of_a_child(js: Js, make_worker: MakeWorker, prefix: str) -> None:
    await js.flow("add", parent(node("a", [["fail_times", 1], ["return", "late"]], attempts=2, backoff=50)))
    await make_worker(acts, queue="kids")
    await make_worker(acts, queue="parents")
    assert await js.wait("parents", "parent") == {"result": {f"{prefix}:kids:a": "late"}}


@conform("Flows", "children with keep rules")
async def test_result_of_a_child_that_removed_itself_reaches_the_parent(
    js: Js, make_worker: MakeWorker, prefix: str
) -> None:
    await js.flow("add", parent(node("a", [["return", 1]]), node("b", [["return", 2]], removeOnComplete=2)))
    await make_worker(acts, queue="kids")
    await make_worker(acts, queue="parents")
    assert await js.wait("parents", "parent") == {"result": {f"{prefix}:kids:a": 1, f"{prefix}:kids:b": 2}}


@conform("Flows", "getFlow, getDependencies")
async def test_node_sees_the_tree_and_its_progress(js: Js, make_worker: MakeWorker, prefix: str) -> None:
    await js.flow("add", parent(node("a", []), node("later", [], delay=60_000)))
    made = await make_worker(acts, queue="kids")
    await wait_until(lambda: made.of(JobCompleted))
    tree = await js.flow("getFlow", {"id": "parent", "queueName": "parents"})
    assert tree["job"]["id"] == "parent"
    assert sorted(child["job"]["id"] for child in tree["children"]) == ["a", "later"]
    dependencies = await js.job("parents", "parent", "getDependencies")
    assert list(dependencies["processed"]) == [f"{prefix}:kids:a"]
    assert dependencies["unprocessed"] == [f"{prefix}:kids:later"]


@conform("Flows", "children added while the parent runs (WaitingChildrenError)")
async def test_parent_of_ours_waits_for_children_that_node_added_meanwhile(
    js: Js, make_worker: MakeWorker, prefix: str
) -> None:
    made = await make_worker(acts, queue="parents")
    await js.add("parents", [["sleep", 300], ["await_children", None], ["children", None]], jobId="parent")
    await wait_until(lambda: made.of(JobActive))
    await js.add("kids", [["return", 7]], jobId="late", parent={"id": "parent", "queue": f"{prefix}:parents"})
    await wait_until(lambda: made.of(JobDelayed))
    assert await state(js, "parents", "parent") == "waiting-children"
    await js.work("kids")
    assert await js.wait("parents", "parent") == {"result": {f"{prefix}:kids:late": 7}}
