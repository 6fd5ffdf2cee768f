"""The decisions behind the probes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.ops.health import DEPENDENCIES, MAX_DETAIL, Check, Probe, report

LIVE: frozenset[Probe] = frozenset({"live"})
READY: frozenset[Probe] = frozenset({"ready"})
STARTUP: frozenset[Probe] = frozenset({"startup"})
PROBES: tuple[Probe, ...] = ("live", "ready", "startup")


@pytest.mark.parametrize(
    "name", ["redis", "Redis", "redis:email-send", "redis-blocking", "main redis", "valkey_1", "database", "smtp:x"]
)
def test_a_check_of_another_server_can_not_gate_liveness(name: str) -> None:
    with pytest.raises(ValueError, match="can't gate liveness; use ready or startup"):
        Check(name, True, "", frozenset({"live", "ready"}))
    assert not Check(name, False, "", READY | STARTUP).ok


@pytest.mark.parametrize("name", ["event-loop", "worker:llm-completion", "supervisor", "credit-s3rvice", "predis"])
def test_a_check_of_the_process_itself_may_gate_liveness(name: str) -> None:
    assert report([Check(name, False, "stuck", LIVE)], "live").status == 503


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Check,
            st.sampled_from(sorted(DEPENDENCIES)).map(lambda name: f"{name}:email-send"),
            st.booleans(),
            st.text(),
            st.sampled_from([READY, STARTUP, READY | STARTUP, frozenset[Probe]()]),
        )
    )
)
def test_liveness_holds_whatever_other_servers_do(checks: list[Check]) -> None:
    alive = Check("event-loop", True, "", LIVE)
    assert report([*checks, alive], "live").status == 200


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(Check, st.just("worker"), st.booleans(), st.text(), st.frozensets(st.sampled_from(PROBES))),
        max_size=6,
    ),
    st.sampled_from(PROBES),
)
def test_a_probe_fails_exactly_with_the_checks_that_gate_it(checks: list[Check], probe: Probe) -> None:
    gating = [check for check in checks if probe in check.gates]
    answer = report(checks, probe)
    assert answer.body["checks"] == [{"name": c.name, "ok": c.ok, "detail": c.detail[:MAX_DETAIL]} for c in gating]
    if gating:
        assert (answer.status == 200) == all(check.ok for check in gating)
    assert answer.body["status"] == ("ok" if answer.status == 200 else "failing")
    json.dumps(answer.body)


@pytest.mark.parametrize(("probe", "status"), [("live", 200), ("ready", 503), ("startup", 503)])
def test_without_checks_a_process_is_alive_but_neither_ready_nor_started(probe: Probe, status: int) -> None:
    assert report([], probe).status == status


def test_a_huge_detail_is_cut() -> None:
    (check,) = report([Check("redis", False, "x" * 1_000_000, READY)], "ready").body["checks"]
    assert len(check["detail"]) == MAX_DETAIL
