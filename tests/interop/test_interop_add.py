"""What the queue service adds, worked and read by Node: jobs, many jobs, flows, deduplication; and Node's fixtures,
there and back again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from config.loader import load
from config.schema import FleetConfig
from tasks.base import Task
from tests.conftest import wait_until
from tests.interop.bridge import BridgeError, Js, eventually
from tests.interop.conftest import EXAMPLES
from workers.broker.activation import parse
from workers.broker.endpoint import Endpoint
from workers.broker.producer import JobAdder
from workers.cli.options import shipped_config
from workers.queue_service.add_options import AddOptions, Deduplication
from workers.queue_service.adding import Adding
from workers.queue_service.flow import FlowNode
from workers.queue_service.routes import Routes

pytestmark = pytest.mark.node

FIXTURES: list[dict[str, Any]] = json.loads(EXAMPLES.read_text())
#: What Node's getters say of a job that its adding decides.
SAME = ("name", "data", "opts", "delay", "priority", "parent", "deduplicationId")


def service_of(endpoint: Endpoint, config: FleetConfig) -> tuple[Adding, Any]:
    client = endpoint.commands()
    return Adding(JobAdder(client, endpoint.prefix), Routes.of(config)), client


@pytest.fixture
async def adding(endpoint: Endpoint) -> AsyncIterator[Adding]:
    """For queues whose jobs do what their data say (bridge.mjs)."""
    task = {"timeout": "1s", "retry": {"attempts": 2, "backoff": "50ms"}, "priority": "none"}
    queues = {name: {"pool": "p", "concurrency": 1, "task": task} for name in ("kids", "parents")}
    service, client = service_of(endpoint, FleetConfig.model_validate({"pools": {"p": {}}, "queues": queues}))
    yield service
    await client.aclose()


@pytest.fixture
async def shipped(endpoint: Endpoint) -> AsyncIterator[Adding]:
    service, client = service_of(endpoint, load(shipped_config(), env={}).config)
    yield service
    await client.aclose()


def task(job_id: str, *do: list[Any], queue: str = "kids") -> Task:
    return Task.model_validate({"type": queue, "id": job_id, "do": list(do)})


def raw(opts: Any) -> dict[str, Any]:
    return {"attempts": 1, "removeOnComplete": True, **opts}


# --------------------------------------------------------------------- fixtures


@pytest.mark.parametrize("number", range(len(FIXTURES)), ids=lambda n: f"{n}-{FIXTURES[n]['queue']}")
async def test_nodes_job_is_read_and_added_again_and_is_the_same_to_node(
    js: Js, shipped: Adding, redis: Redis, prefix: str, number: int
) -> None:
    example = FIXTURES[number]
    queue, opts = example["queue"], dict(example["opts"])
    if js.major >= 6 and "jobId" in opts:  # which takes no colons
        opts["jobId"] = opts["jobId"].replace(":", "-")
    first = await js.queue(queue, "add", example["name"], example["data"], opts)
    before = await js.job(queue, first["id"])
    row: Any = await redis.hgetall(f"{prefix}:{queue}:{first['id']}")
    read = parse(queue, first["id"], row, "token")
    assert not read.defects
    await js.job(queue, first["id"], "remove")
    added = await shipped.add(read.data, AddOptions(raw=read.opts, queue=queue))
    assert (added.queue, added.duplicate) == (queue, False)
    after = await js.job(queue, added.job_id)
    if "jobId" not in opts:  # Node let BullMQ count
        assert after["opts"].pop("jobId") == f"task-{example['data']['id']}" or not example["data"]["id"].isdigit()
    else:
        assert added.job_id == first["id"]
    assert {name: after[name] for name in SAME} == {name: before[name] for name in SAME}
    assert await js.job(queue, added.job_id, "getState") == ("delayed" if "delay" in opts else await waits(opts))


async def waits(opts: dict[str, Any]) -> str:
    return "prioritized" if opts.get("priority") else "waiting"


@pytest.mark.parametrize("number", range(len(FIXTURES)), ids=lambda n: f"{n}-{FIXTURES[n]['queue']}")
async def test_fixture_is_routed_to_the_queue_that_node_uses(js: Js, shipped: Adding, number: int) -> None:
    example = FIXTURES[number]
    added = await shipped.add(example["data"])
    wanted = {"swarm-execution": "llm-completion"}.get(example["data"]["type"], example["data"]["type"])
    assert added.queue == wanted
    job = await js.job(added.queue, added.job_id)
    assert (job["name"], job["data"]) == (wanted, example["data"])


# ------------------------------------------------------------------------- jobs

OPTIONS: dict[str, tuple[AddOptions, dict[str, Any]]] = {
    "plain": (AddOptions(raw=raw({})), raw({})),
    "delay": (AddOptions(raw=raw({}), delay_ms=60_000), raw({"delay": 60_000})),
    "priority": (AddOptions(raw=raw({}), priority=7), raw({"priority": 7})),
    "lifo": (AddOptions(raw=raw({}), lifo=True), raw({"lifo": True})),
    "backoff": (AddOptions(raw=raw({"backoff": 50})), raw({"backoff": 50})),
    "keepLogs": (
        AddOptions(raw=raw({"keepLogs": 3, "stackTraceLimit": 2})),
        raw({"keepLogs": 3, "stackTraceLimit": 2}),
    ),
    "simple": (AddOptions(raw=raw({}), deduplication=Deduplication(id="d")), raw({"deduplication": {"id": "d"}})),
    "throttle": (
        AddOptions(raw=raw({}), deduplication=Deduplication(id="d", mode="throttle", ttl_ms=60_000)),
        raw({"deduplication": {"id": "d", "ttl": 60_000}}),
    ),
    "debounce": (
        AddOptions(raw=raw({}), delay_ms=60_000, deduplication=Deduplication(id="d", mode="debounce", ttl_ms=60_000)),
        raw({"delay": 60_000, "deduplication": {"id": "d", "ttl": 60_000, "extend": True, "replace": True}}),
    ),
    "keepLast": (
        AddOptions(raw=raw({}), deduplication=Deduplication(id="d", mode="keep_last_if_active")),
        raw({"deduplication": {"id": "d", "keepLastIfActive": True}}),
    ),
}


@pytest.mark.parametrize("case", OPTIONS)
async def test_row_is_the_one_that_node_writes(js: Js, adding: Adding, redis: Redis, prefix: str, case: str) -> None:
    ours, theirs = OPTIONS[case]
    data = {"type": "kids", "id": "j", "x": "é😀", "n": [1, 2.5, None]}
    backoff = {"backoff": {"type": "fixed", "delay": 50}, "removeOnFail": {"age": 86_400, "count": 5000}}
    await js.queue("kids", "add", "kids", data, {**backoff, **theirs, "jobId": "j"})
    wanted = await row(redis, f"{prefix}:kids:j")
    key = await redis.get(f"{prefix}:kids:de:d")
    await redis.delete(*[each async for each in redis.scan_iter(f"{prefix}:kids:*")])
    await adding.add(Task.model_validate(data), ours)
    assert await row(redis, f"{prefix}:kids:j") == wanted
    assert await redis.get(f"{prefix}:kids:de:d") == key


async def row(redis: Redis, key: str) -> dict[str, Any]:
    found: Any = await redis.hgetall(key)
    assert found.pop("timestamp").isdigit()
    return {**found, "data": json.loads(found["data"]), "opts": json.loads(found["opts"])}


async def test_node_works_what_was_added(js: Js, adding: Adding) -> None:
    await js.work("kids")
    added = await adding.add(task("a", ["return", {"x": "é😀"}]))
    assert await js.wait("kids", added.job_id) == {"result": {"x": "é😀"}}
    late = await adding.add(task("614402200000777", ["fail_times", 1], ["return", 2]), AddOptions(delay_ms=100))
    assert late.job_id == "task-614402200000777"
    assert await js.wait("kids", late.job_id) == {"result": 2}
    seen = await js.job("kids", late.job_id)
    assert seen["attemptsMade"] == 2 and seen["processedOn"] - seen["timestamp"] >= 100


async def test_node_works_many_in_the_order_of_priorities(js: Js, adding: Adding) -> None:
    items: list[Any] = [(task(f"p{n}"), AddOptions(priority=100 - n)) for n in range(50)]
    items += [task(f"j{n}") for n in range(450)]
    added = await adding.add_bulk(items)
    assert len({each.job_id for each in added}) == 500
    counts = await js.queue("kids", "getJobCounts")
    assert (counts["waiting"], counts["prioritized"]) == (450, 50)
    await js.work("kids")
    await wait_until(lambda: len(js.told("completed", "kids")) == 500)
    ids = [line["id"] for line in js.told("completed", "kids")]
    assert ids == [*(f"j{n}" for n in range(450)), *(f"p{n}" for n in reversed(range(50)))]


@pytest.mark.parametrize("state", ["waiting", "delayed", "prioritized", "completed", "failed", "active"])
async def test_duplicate_is_told_in_the_state_that_node_sees(js: Js, adding: Adding, state: str) -> None:
    do = {"failed": ["unrecoverable", "no"], "active": ["sleep", 1000]}.get(state, ["return", 1])
    opts = {"delayed": {"delay": 60_000}, "prioritized": {"priority": 5}}.get(state, {})
    await js.queue("kids", "add", "kids", {"do": [do]}, {"jobId": "a", **opts})
    if state in ("completed", "failed", "active"):
        await js.work("kids")
        await wait_until(lambda: js.told(state, "kids"))
    added = await adding.add(task("a", ["return", 2]))
    assert (added.duplicate, added.state) == (True, await js.job("kids", "a", "getState")) == (True, state)
    assert (await js.job("kids", "a"))["data"] == {"do": [do]}


async def test_what_we_added_is_a_duplicate_to_node(js: Js, adding: Adding) -> None:
    await adding.add(task("a", ["return", 1]))
    assert (await js.queue("kids", "add", "kids", {"do": [["return", 2]]}, {"jobId": "a"}))["id"] == "a"
    assert (await js.job("kids", "a"))["data"]["do"] == [["return", 1]]
    assert await js.queue("kids", "count") == 1


# ---------------------------------------------------------------- deduplication


async def test_node_sees_and_keeps_our_deduplication(js: Js, adding: Adding) -> None:
    options = AddOptions(deduplication=Deduplication(id="d"))
    await adding.add(task("a", ["return", 1]), options)
    assert await js.queue("kids", "getDeduplicationJobId", "d") == "a"
    assert (await js.job("kids", "a"))["deduplicationId"] == "d"
    theirs = await js.queue("kids", "add", "kids", {}, {"jobId": "b", "deduplication": {"id": "d"}})
    assert theirs["id"] == "a"
    await js.work("kids")
    await js.wait("kids", "a")
    assert await js.queue("kids", "getDeduplicationJobId", "d") is None
    assert not (await adding.add(task("c"), options)).duplicate


async def test_nodes_deduplication_is_told_to_us(js: Js, adding: Adding) -> None:
    await js.queue("kids", "add", "kids", {}, {"jobId": "a", "deduplication": {"id": "d", "ttl": 60_000}})
    options = AddOptions(deduplication=Deduplication(id="d", mode="throttle", ttl_ms=60_000))
    added = await adding.add(task("b"), options)
    assert (added.job_id, added.duplicate, added.by, added.state) == ("a", True, "deduplication", "waiting")


async def test_debounced_job_that_node_works_is_the_last_one(js: Js, adding: Adding) -> None:
    options = AddOptions(deduplication=Deduplication(id="d", mode="debounce", ttl_ms=300), delay_ms=300)
    for name in "abc":
        await adding.add(task(name, ["return", name]), options)
    assert await js.queue("kids", "getJobCounts", "delayed") == {"delayed": 1}
    await js.work("kids")
    assert await js.wait("kids", "c") == {"result": "c"}
    await wait_until(lambda: js.told("completed", "kids"))
    assert [line["id"] for line in js.told("completed", "kids")] == ["c"]


async def test_last_of_those_that_came_while_one_ran_is_worked_by_node(js: Js, adding: Adding, bullmq: int) -> None:
    """Node's 5.53.2 does not know this mode: what is held back there stays so until a worker that knows it comes."""
    options = AddOptions(deduplication=Deduplication(id="d", mode="keep_last_if_active"))
    await adding.add(task("a", ["sleep", 500]), options)
    await js.work("kids")
    await wait_until(lambda: js.told("active", "kids"))
    held = [await adding.add(task(name), options) for name in "bc"]
    assert [each.held for each in held] == [True, True]
    await wait_until(lambda: js.told("completed", "kids"))
    if bullmq >= 6:
        await wait_until(lambda: len(js.told("completed", "kids")) == 2)
        assert (await js.job("kids", js.told("completed", "kids")[1]["id"]))["data"]["id"] == "c"


# ------------------------------------------------------------------------ flows


def node(job_id: str, *children: FlowNode, do: Any = (), queue: str = "kids", **fields: Any) -> FlowNode:
    return FlowNode(task=task(job_id, *do, queue=queue), children=children, **fields)


async def test_node_sees_and_works_our_flow(js: Js, adding: Adding, prefix: str) -> None:
    leaf = node("leaf:1", do=[["return", 1]])
    mid = node("mid", leaf, do=[["children", None]])
    top = node("top", mid, node("other", do=[["return", 3]]), do=[["children", None]], queue="parents")
    await adding.flow(top)
    tree = await js.flow("getFlow", {"id": "top", "queueName": "parents"})
    below = {child["job"]["id"]: child for child in tree["children"]}
    assert set(below) == {"mid", "other"}
    assert [child["job"]["id"] for child in below["mid"]["children"]] == ["leaf-1"]
    assert await js.job("parents", "top", "getState") == "waiting-children"
    assert sorted((await js.job("parents", "top", "getDependencies"))["unprocessed"]) == [
        f"{prefix}:kids:mid",
        f"{prefix}:kids:other",
    ]
    await js.work("kids")
    await js.work("parents")
    values = {f"{prefix}:kids:mid": {f"{prefix}:kids:leaf-1": 1}, f"{prefix}:kids:other": 3}
    assert await js.wait("parents", "top") == {"result": values}


MODES = {"fail": "failParentOnFailure", "ignore": "ignoreDependencyOnFailure", "remove": "removeDependencyOnFailure"}


@pytest.mark.parametrize("mode", [*MODES, "continue"])
async def test_failure_of_a_child_in_node_does_what_was_asked(
    js: Js, adding: Adding, prefix: str, mode: Any, bullmq: int
) -> None:
    bad = node("bad", do=[["unrecoverable", "no"]], on_failure=mode)
    good = node("good", do=[["return", 1]])
    await adding.flow(node("top", bad, good, do=[["children", None]], queue="parents"))
    assert (await js.job("kids", "bad"))["opts"][MODES.get(mode, "continueParentOnFailure")] is True
    await js.work("kids")
    await eventually(lambda: finished(js, "bad"))
    await eventually(lambda: finished(js, "good"))
    await js.work("parents")
    ended = await js.wait("parents", "top")
    if mode == "fail":
        assert ended == {"reason": f"child {prefix}:kids:bad failed"}
    else:
        assert ended == {"result": {f"{prefix}:kids:good": 1}}


async def finished(js: Js, job_id: str) -> bool:
    return await js.job("kids", job_id, "getState") in ("completed", "failed")


async def test_rows_of_a_flow_are_those_that_node_writes(js: Js, adding: Adding, redis: Redis, prefix: str) -> None:
    opts = {
        "attempts": 2,
        "backoff": {"type": "fixed", "delay": 50},
        "removeOnComplete": {"age": 86_400, "count": 5000},
        "removeOnFail": {"age": 86_400, "count": 5000},
    }
    child = {
        "name": "kids",
        "queueName": "kids",
        "data": {"type": "kids", "id": "k", "do": []},
        "opts": {**opts, "jobId": "k", "ignoreDependencyOnFailure": True},
    }
    root = {
        "name": "parents",
        "queueName": "parents",
        "data": {"type": "parents", "id": "p", "do": []},
        "opts": {**opts, "jobId": "p"},
        "children": [child],
    }
    await js.flow("add", root)
    keys = (f"{prefix}:parents:p", f"{prefix}:kids:k")
    wanted = [await row(redis, key) for key in keys]
    dependencies = await redis.smembers(f"{prefix}:parents:p:dependencies")
    await redis.delete(*[each async for each in redis.scan_iter(f"{prefix}:*")])
    await adding.flow(node("p", node("k", on_failure="ignore"), queue="parents"))
    assert [await row(redis, key) for key in keys] == wanted
    assert await redis.smembers(f"{prefix}:parents:p:dependencies") == dependencies


async def test_flow_that_node_added_is_told_to_us(js: Js, adding: Adding) -> None:
    child = {"name": "kids", "queueName": "kids", "data": {}, "opts": {"jobId": "k"}}
    root = {"name": "parents", "queueName": "parents", "data": {}, "opts": {"jobId": "p"}, "children": [child]}
    await js.flow("add", root)
    added = await adding.flow(node("p", node("k"), queue="parents"))
    assert (added.added.duplicate, added.added.state, added.children) == (True, "waiting-children", ())
    with pytest.raises(BridgeError):
        await js.queue("kids", "add", "kids", {}, {"jobId": "7"})
