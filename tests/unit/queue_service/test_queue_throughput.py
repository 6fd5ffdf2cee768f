"""What is told of a queue's throughput, latency and errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.job_view import JobView, view
from workers.broker.metrics_reader import Counts, Endings
from workers.queue_service.throughput import Percentiles, QueueMetrics, Throughput, gist, top_errors

MINUTE = 60_000
NOW = 30_000_000 * MINUTE + 30_000


def throughput(completed: Endings | None = None, failed: Endings | None = None, minutes: int = 3) -> Throughput:
    nothing = Endings(Counts(), (0, 0, 0))
    return Throughput.of("q", {"completed": completed or nothing, "failed": failed or nothing}, NOW, minutes)


def test_minutes_are_those_of_the_clock_and_the_present_one_is_not_over() -> None:
    found = throughput(Endings(Counts(100, NOW - 1000, 93, (5, 0, 4, 9)), (0, 0, 0)))
    assert found.per_minute == {"completed": (0, 5, 7), "failed": (0, 0, 0)}
    assert found.totals == {"completed": 100, "failed": 0}
    assert {span: counts["completed"] for span, counts in found.last.items()} == {1: 5, 5: 18, 60: 18}


def test_the_larger_of_both_sources_is_told() -> None:
    found = throughput(Endings(Counts(100, NOW, 99, (5, 5, 5, 5, 5)), (9, 9, 9)))
    assert {span: counts["completed"] for span, counts in found.last.items()} == {1: 9, 5: 25, 60: 25}
    json.dumps(found.json(), allow_nan=False)


def job(job_id: str, *, reason: str = "", added: int = 0, started: int = 0, ended: int = 0, ats: int = 1) -> JobView:
    row = {"timestamp": str(NOW + added), "ats": str(ats), "failedReason": reason, "opts": '{"delay":500}'}
    row |= {"processedOn": str(NOW + started), "finishedOn": str(NOW + ended)}
    return view("q", job_id, row, state="failed" if reason else "completed")


def test_latency_and_errors_of_the_last_jobs() -> None:
    completed = [job("1", started=1500, ended=2500), job("2", started=700, ended=3700, ats=3)]
    failed = [job("3", reason="no", started=400, ended=300)]
    ends = throughput(Endings(Counts(), (3, 3, 3)), Endings(Counts(), (1, 1, 1)))
    found = QueueMetrics.of(ends, {"completed": completed, "failed": failed}, workers=3, idle_workers=1)
    assert (found.processing.count, found.processing.p50, found.processing.p99) == (3, 1.0, 3.0)
    assert (found.waiting.count, found.waiting.p50, found.waiting.p99) == (2, 0.0, 1.0)  # since it was due
    assert found.error_rate == 0.25
    assert [each.json() for each in found.top_errors] == [{"error": "no", "count": 1, "jobId": "3"}]
    assert found.json()["workers"] == {"seen": 3, "idle": 1}
    json.dumps(found.json(), allow_nan=False)


def test_queue_without_jobs_has_no_latency_and_no_rate() -> None:
    found = QueueMetrics.of(throughput(), {"completed": [], "failed": []})
    assert found.processing == Percentiles(0, None, None, None) and found.error_rate is None
    assert found.top_errors == () and found.workers is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_the_smallest_that_so_many_do_not_exceed(seconds: list[float]) -> None:
    found = Percentiles.of(seconds)
    for share, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert value in seconds
        below, up_to = (
            sum(test) / len(seconds) for test in ([x < value for x in seconds], [x <= value for x in seconds])
        )
        assert below < share <= up_to


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timeout after 30 s\n  at a.js:1", "timeout after 30 s\n  at b.js:2"),
        ("user 1234567890 not found", "user 9876543210 not found"),
        ("run 0af76519-16cd-43dd-8448-eb211c80319c", "run b7ad6b71-6920-4331-8448-eb211c80319c"),
        ("object at 0x7f00ab", "object at 0x7f11cd"),
        ("\n\n  same", "same"),
    ],
)
def test_failures_of_one_kind_have_one_gist(one: str, other: str) -> None:
    assert gist(one) == gist(other)


def test_failures_of_different_kinds_differ() -> None:
    assert gist("HTTP 503") != gist("HTTP 404")
    assert gist("") == "" and len(gist("x" * 10_000)) == 200


def test_most_frequent_errors_come_first_with_their_last_job() -> None:
    jobs = [job(str(number), reason="a" if number % 3 else f"b 10000{number}") for number in range(1, 31)]
    found = top_errors(jobs)
    assert [(each.error, each.count, each.job_id) for each in found] == [("a", 20, "1"), ("b …", 10, "3")]
    many = top_errors([job(str(number), reason=f"e{chr(65 + number)}") for number in range(20)])
    assert len(many) == 10
