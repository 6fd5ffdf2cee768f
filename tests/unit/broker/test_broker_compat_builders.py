"""The KEYS and ARGV that we send are those that the package itself would send, but for the differences listed here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from bullmq import Job
from bullmq.redis_connection import RedisConnection
from bullmq.scripts import Scripts
from redis.asyncio import Redis

from workers.broker.activation import Activation, parse
from workers.broker.backend import METRICS_POINTS, FleetBackend
from workers.broker.endings import AwaitingChildren, Completed, Delayed, Ending, Failed, HandedBack, Retry
from workers.broker.lease_table import Lease
from workers.broker.renewer import renew
from workers.broker.settings import WorkerSettings

NOW = 1_700_000_000_000
TOKEN = "worker:3"
SETTINGS = WorkerSettings(name="alpha", lock_ms=30_000, limiter={"max": 5, "duration": 1000})


class Recorder:
    """Stands in for a registered script: keeps what it is called with."""

    def __init__(self, reply: Any = 0) -> None:
        self.calls: list[tuple[list[Any], list[Any]]] = []
        self.reply = reply

    async def __call__(self, keys: list[Any], args: list[Any], client: Any = None) -> Any:
        self.calls.append((list(keys), list(args)))
        return self.reply

    @property
    def only(self) -> tuple[list[Any], list[Any]]:
        (call,) = self.calls
        return call


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides stamp with the same millisecond."""
    monkeypatch.setattr("time.time", lambda: NOW / 1000)


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    client = Redis(port=1)  # never connected
    yield client
    await client.aclose()


@pytest.fixture
def ours(client: Redis) -> FleetBackend:
    return FleetBackend("q", client, client, "pre", SETTINGS)


@pytest.fixture
def upstream(client: Redis) -> Scripts:
    return Scripts("pre", "q", RedisConnection(client))


class StockQueue:
    """What upstream's builders read of the worker that a job came from."""

    backend = None
    qualifiedName = "pre:q"
    opts: dict[str, Any] = {  # noqa: RUF012
        "lockDuration": 30_000,
        "limiter": {"max": 5, "duration": 1000},
        "metrics": {"maxDataPoints": METRICS_POINTS},
    }


def row(**opts: Any) -> dict[str, str]:
    """A job as Redis holds it."""
    return {"name": "n", "data": "{}", "opts": json.dumps({"attempts": 3, **opts}), "atm": "1", "timestamp": "1"}


def both(opts: dict[str, Any]) -> tuple[Activation, Job]:
    return parse("q", "7", row(**opts), TOKEN), Job.fromJSON(StockQueue(), row(**opts), "7")


def record(backend: FleetBackend, script: str, reply: Any = 0) -> Recorder:
    backend.commands[script] = recorder = Recorder(reply)
    return recorder


def plain(value: Any) -> Any:
    """msgpack unpacked; the numbers that redis-py sends as text as text."""
    if isinstance(value, bytes):
        return msgpack.unpackb(value)
    return str(value) if isinstance(value, int) else value


def same(ours: tuple[list[Any], list[Any]], theirs: tuple[list[Any], list[Any]], **differ: Any) -> None:
    """Keys equal, arguments equal but for the packed options named in `differ`, which are ours alone."""
    assert ours[0] == theirs[0]
    mine, other = [plain(a) for a in ours[1]], [plain(a) for a in theirs[1]]
    for index, value in enumerate(mine):
        if isinstance(value, dict) and index < len(other):
            assert {name: value.pop(name) for name in differ if name in value} == differ
            for name in differ:
                other[index].pop(name, None)
    assert mine == other


# ------------------------------------------------------------------- the builders


async def test_fetch(ours: FleetBackend, upstream: Scripts) -> None:
    recorder, theirs = record(ours, "moveToActive"), Recorder()
    upstream.commands["moveToActive"] = theirs
    await ours.fetch(TOKEN)
    await upstream.moveToActive(TOKEN, StockQueue.opts)
    # the name: upstream leaves `processedBy` empty
    same(recorder.only, theirs.only, name="alpha")


PARENT_OPTIONS = ["fpof", "cpof", "idof", "rdof"]
KEEP: list[tuple[Any, Any]] = [
    (None, {"count": -1}),
    (True, {"count": 0}),
    (False, {"count": -1}),
    (7, {"count": 7}),
    (0, {"count": 0}),
    ({"age": 60}, {"age": 60}),
    ({"count": 5, "age": 60, "limit": 10}, {"count": 5, "age": 60, "limit": 10}),
]


@pytest.mark.parametrize(("keep", "sent"), KEEP)
@pytest.mark.parametrize("fetch_next", [True, False])
async def test_completion(ours: FleetBackend, upstream: Scripts, keep: Any, sent: Any, fetch_next: bool) -> None:
    opts = {} if keep is None else {"removeOnComplete": keep}
    activation, job = both(opts)
    recorder = record(ours, "moveToFinished")
    await ours.finish(activation, Completed(result={"a": [1, None, "é"]}), fetch_next=fetch_next)
    shown = json.dumps({"a": [1, None, "é"]}, separators=(",", ":"))
    theirs = upstream.moveToCompletedArgs(job, {"a": [1, None, "é"]}, keep, TOKEN, fetch_next)
    assert theirs[1][3] == shown
    theirs[1][3] = recorder.only[1][3]  # é as itself, as Node writes it, not escaped
    assert json.loads(theirs[1][3]) == {"a": [1, None, "é"]}
    same(recorder.only, theirs, name="alpha")
    assert plain(recorder.only[1][7])["keepJobs"] == sent


@pytest.mark.parametrize("option", [None, *PARENT_OPTIONS])
@pytest.mark.parametrize(("keep", "sent"), KEEP)
async def test_failure(ours: FleetBackend, upstream: Scripts, option: str | None, keep: Any, sent: Any) -> None:
    opts = {**({} if keep is None else {"removeOnFail": keep}), **({} if option is None else {option: True})}
    activation, job = both(opts)
    recorder = record(ours, "moveToFinished")
    await ours.finish(activation, Failed(reason="no", error="E", stack="S"), fetch_next=True)
    fields = {"failedReason": "no", "stacktrace": json.dumps(["S"], separators=(",", ":"))}
    same(recorder.only, upstream.moveToFailedArgs(job, "no", keep, TOKEN, True, fields), name="alpha")
    assert plain(recorder.only[1][7])["keepJobs"] == sent


@pytest.mark.parametrize(
    ("keep", "sent"),
    [
        # upstream sends these on, and the script breaks on them and leaves the job active, or empties the whole set
        ({"count": "x"}, {"count": -1}),
        ({"age": -1}, {"count": -1}),
        ({"age": 1.5, "count": 2.5}, {"age": 2, "count": 3}),
        ([1], {"count": -1}),
        ("true", {"count": -1}),
        (10**30, {"count": 2**31 - 1}),
    ],
)
async def test_keep_rules_that_make_no_sense_are_read_tolerantly(ours: FleetBackend, keep: Any, sent: Any) -> None:
    activation, _ = both({"removeOnComplete": keep})
    recorder = record(ours, "moveToFinished")
    await ours.finish(activation, Completed(result=None), fetch_next=False)
    assert plain(recorder.only[1][7])["keepJobs"] == sent


async def test_keep_rule_of_the_queue_fills_in_without_touching_the_jobs_options(client: Redis) -> None:
    """Upstream writes its default into the job's options."""
    ours = FleetBackend("q", client, client, "pre", replace(SETTINGS, keep_completed={"age": 60, "count": 9}))
    activation, _ = both({})
    before = dict(activation.opts)
    recorder = record(ours, "moveToFinished")
    await ours.finish(activation, Completed(result=None), fetch_next=False)
    assert plain(recorder.only[1][7])["keepJobs"] == {"age": 60, "count": 9}
    assert activation.opts == before


async def test_null_result_is_null_as_in_node(ours: FleetBackend, upstream: Scripts) -> None:
    activation, job = both({})
    recorder = record(ours, "moveToFinished")
    await ours.finish(activation, Completed(result=None), fetch_next=False)
    same(recorder.only, upstream.moveToCompletedArgs(job, None, None, TOKEN, False), name="alpha")


@pytest.mark.parametrize("fetch_next", [True, False])
async def test_retry_after_a_delay(ours: FleetBackend, upstream: Scripts, fetch_next: bool) -> None:
    activation, _ = both({})
    recorder = record(ours, "moveToDelayed")
    await ours.finish(activation, Retry(reason="no", error="E", delay_ms=250, stack="S"), fetch_next=fetch_next)
    fields = {"failedReason": "no", "stacktrace": json.dumps(["S"])}
    opts = {"fieldsToUpdate": fields, "fetchNext": fetch_next, "workerOpts": StockQueue.opts}
    theirs = upstream.moveToDelayedArgs("7", NOW, TOKEN, 250, opts)
    same(recorder.only, theirs, **({"name": "alpha"} if fetch_next else {}))


async def test_delay_that_keeps_the_attempt(ours: FleetBackend, upstream: Scripts) -> None:
    activation, _ = both({})
    recorder = record(ours, "moveToDelayed")
    await ours.finish(activation, Delayed(delay_ms=60_000, reason="later"), fetch_next=False)
    same(recorder.only, upstream.moveToDelayedArgs("7", NOW, TOKEN, 60_000, {"skipAttempt": True}))


@pytest.mark.parametrize("lifo", [True, False])
async def test_retry_at_once(ours: FleetBackend, upstream: Scripts, lifo: bool) -> None:
    activation, _ = both({"lifo": lifo})
    recorder = record(ours, "retryJob")
    await ours.finish(activation, Retry(reason="no", error="E", delay_ms=0, stack="S"), fetch_next=True)
    fields = {"failedReason": "no", "stacktrace": json.dumps(["S"])}
    same(recorder.only, upstream.retryJobArgs("7", lifo, TOKEN, {"fieldsToUpdate": fields}))


async def test_waiting_for_children(ours: FleetBackend, upstream: Scripts) -> None:
    activation, _ = both({})
    recorder = record(ours, "moveToWaitingChildren")
    await ours.finish(activation, AwaitingChildren(reason="r"), fetch_next=False)
    same(recorder.only, upstream.moveToWaitingChildrenArgs("7", TOKEN))


async def test_hand_back_takes_what_the_script_names(ours: FleetBackend) -> None:
    """Upstream ships this script and has no builder for it: Node's order (npm bullmq, moveJobFromActiveToWait)."""
    activation, _ = both({})
    moved, unspent = Recorder(), Recorder()
    ours._own.move_to_wait, ours._own.unspend_start = moved, unspent
    ending: Ending = HandedBack(reason="drain")
    await ours.finish(activation, ending, fetch_next=False)
    names = ["active", "wait", "stalled", "paused", "meta", "limiter", "prioritized", "marker", "events"]
    assert moved.only == ([f"pre:q:{name}" for name in names], ["7", TOKEN, "pre:q:7"])


async def test_lock_renewal(client: Redis, upstream: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = Recorder([]), Recorder([])
    upstream.commands["extendLocks"] = theirs
    monkeypatch.setattr(client, "register_script", lambda script: mine)
    leases = [Lease("q", job_id, token, 30_000, 0.0) for job_id, token in (("1", "a:0"), ("2", "a:1"))]
    await renew(client, "pre", leases)
    await upstream.extendJobLocks(["1", "2"], ["a:0", "a:1"], 30_000)
    same(mine.only, theirs.only)


async def test_stalled_check(ours: FleetBackend, upstream: Scripts) -> None:
    """We call upstream's own method: it must go on sending what the script names."""
    recorder, theirs = record(ours, "moveStalledJobsToWait", []), []
    upstream.commands["moveStalledJobsToWait"] = lambda keys, args: theirs.append((keys, args))
    await ours.moveStalledJobsToWait(1, 30_000)
    upstream.moveStalledJobsToWait(1, 30_000)
    same(recorder.only, theirs[0])
    names = ["stalled", "wait", "active", "stalled-check", "meta", "paused", "marker", "events", "repeat"]
    assert recorder.only == ([f"pre:q:{name}" for name in names], [1, "pre:q:", NOW, 30_000])
