"""What is counted by pool, and that the view survives its way as JSON."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

from workers.runtime.process import State
from workers.runtime.supervision.beat import Beat, Report, RunningJob
from workers.runtime.supervision.view import FleetView, PoolView, ProcessState, ProcessView, ReloadView, pools, single


def process(name: str, state: ProcessState) -> ProcessView:
    return ProcessView(name=name, pool=name.rpartition("-")[0], state=state)


def test_process_counts_as_ready_once_however_many_take_its_place() -> None:
    seen = [
        process("a-0", "recycling"),
        process("a-0", "starting"),
        process("a-1", "draining"),
        process("a-1", "ready"),
        process("a-2", "silent"),
        process("b-0", "dead"),
        process("gone-0", "draining"),
    ]
    assert pools(seen, {"a": 3, "b": 1, "c": 1}, {"a": ("q",)}) == (
        PoolView(name="a", processes=3, ready=2, queues=("q",)),
        PoolView(name="b", processes=1, ready=0),
        PoolView(name="c", processes=1, ready=0),
        PoolView(name="gone", processes=0, ready=0),
    )


def test_view_is_the_same_after_its_way_as_json() -> None:
    report = Report(pid=5, running=(RunningJob("q", "t", "\x1b[31m", 1.5),), extra={"blocks": 1.0, "last": "x"})
    view = FleetView(
        pid=1,
        mode="supervisor",
        ready=False,
        pools=(PoolView(name="a", processes=1, ready=0, queues=("q",)),),
        processes=(ProcessView(name="a-0", pool="a", state="silent", detail="d", report=report, deaths=3),),
        reload=ReloadView(at=1.0, result="failed", detail="why"),
    )
    assert TypeAdapter(FleetView).validate_json(json.dumps(view.json())) == view


@pytest.mark.parametrize(
    ("started", "ready", "state"), [(False, False, "starting"), (True, False, "not ready"), (True, True, "ready")]
)
def test_single_process_shows_itself(started: bool, ready: bool, state: str) -> None:
    beat = Beat(started, ready, (State("redis", ready, "away"), State("q", True, "fine")), Report(pid=7, jobs=3))
    view = single("fleet", beat, {"a": ("q",), "b": ("r", "s")})
    (shown,) = view.processes
    assert (shown.name, shown.pool, shown.state, shown.report.jobs) == ("fleet", "a, b", state, 3)
    assert shown.detail == ("" if ready else "redis: away")
    assert (view.mode, view.ready) == ("single process", ready)
    assert [(pool.name, pool.ready, pool.queues) for pool in view.pools] == [
        ("a", int(ready), ("q",)),
        ("b", int(ready), ("r", "s")),
    ]
