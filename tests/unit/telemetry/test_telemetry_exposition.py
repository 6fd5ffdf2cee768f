"""Prometheus text of one process, and of several that share a directory, one of which dies."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from workers.broker.events import JobActive, WorkerState
from workers.telemetry.exposition import CONTENT_TYPE, exposition, forget_process, merged_exposition
from workers.telemetry.metrics import Metrics

#: A process of a pool: does what it is told on standard input and says when it is done.
WORKER = """
import sys
from prometheus_client import CollectorRegistry
from workers.broker.events import *
from workers.telemetry.exposition import exposition
from workers.telemetry.metrics import Metrics
metrics = Metrics(CollectorRegistry())
job = dict(queue="email-send", job_id="1", job_name="email", task_type="email-send", attempt=1)
for line in sys.stdin:
    match line.split():
        case ["up"]:
            metrics(WorkerState(queue="email-send", state="running", slots=5))
            metrics(ConnectionChanged(queue="email-send", up=True, detail=""))
        case ["down"]:
            metrics(ConnectionChanged(queue="email-send", up=False, detail=""))
        case ["start"]:
            metrics(JobActive(**job, wait_s=0.2))
        case ["complete"]:
            metrics(JobCompleted(**job, duration_s=3.0, result=None))
        case ["lag", seconds]:
            metrics.loop_lag(float(seconds))
        case ["memory", name, size]:
            metrics.runtime.resident(name, int(size))
    print("done", flush=True)
"""


class Process:
    """One such process."""

    def __init__(self, directory: Path) -> None:
        env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        self.popen = subprocess.Popen(
            [sys.executable, "-c", WORKER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self._stdin: IO[str] = self.popen.stdin
        self._stdout: IO[str] = self.popen.stdout

    @property
    def pid(self) -> int:
        return self.popen.pid

    def do(self, *orders: str) -> None:
        for order in orders:
            self._stdin.write(order + "\n")
            self._stdin.flush()
            assert self._stdout.readline() == "done\n"

    def end(self) -> None:
        """Kill it, as the kernel would, and collect it, as the supervisor would."""
        self.popen.kill()
        self.popen.wait(20)
        self._stdin.close()
        self._stdout.close()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    processes: list[Process] = []

    def start() -> Process:
        processes.append(Process(tmp_path))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


def parse(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Sample name and labels → value. Fails on text that Prometheus would refuse, and on a sample said twice."""
    samples = [s for family in text_string_to_metric_families(text.decode()) for s in family.samples]
    parsed = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}
    assert len(parsed) == len(samples)
    return parsed


def value(text: bytes, name: str, **labels: str) -> float | None:
    return parse(text).get((name, tuple(sorted(labels.items()))))


QUEUE = {"queue": "email-send"}
TASK = {**QUEUE, "task_type": "email-send"}
UNREADABLE = "fleet_metrics_files_unreadable"


def test_one_process_tells_its_registry_with_every_metric_of_the_first_set() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics(WorkerState(queue="email-send", state="running", slots=5))
    job: dict[str, Any] = {**TASK, "job_id": "1", "job_name": "email", "attempt": 1}
    metrics(JobActive(**job, wait_s=0.2))
    text = exposition(registry)
    assert value(text, "bullmq_worker_active_jobs", **QUEUE) == 1
    assert {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")} == {
        "bullmq_worker_jobs_total",
        "bullmq_job_process_duration_seconds",
        "bullmq_job_wait_duration_seconds",
        "bullmq_worker_active_jobs",
        "bullmq_worker_concurrency",
        "bullmq_worker_up",
        "bullmq_job_stalled_total",
        "bullmq_worker_errors_total",
        "bullmq_redis_up",
        "fleet_listener_failures_total",
        "fleet_event_loop_lag_seconds",
        "fleet_redis_connections",
        "bullmq_queue_paused",
        "fleet_child_start_duration_seconds",
        "fleet_child_starts_failed_total",
        "fleet_child_deaths_total",
        "fleet_child_recycles_total",
        "fleet_job_attempts_total",
        "fleet_job_failures_total",
        "fleet_job_rungs_total",
        "fleet_job_memory_delta_bytes",
        "fleet_job_memory_peak_bytes",
        "fleet_loop_blocked_total",
        "fleet_loop_blocked_seconds_total",
        "fleet_process_resident_memory_bytes",
        "fleet_runs_left_behind",
        "fleet_rss_slope_bytes",
    }
    assert b"_created" not in text
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_resident_memory_is_told_by_process_and_forgotten_with_it(spawn: Callable[[], Process], tmp_path: Path) -> None:
    first, second = spawn(), spawn()
    first.do("memory mail-0 100")
    second.do("memory mail-1 200")
    name = "fleet_process_resident_memory_bytes"
    both = merged_exposition(tmp_path)
    assert value(both, name, process="mail-0", scope="process") == 100
    assert value(both, name, process="mail-1", scope="process") == 200
    first.popen.kill()
    first.popen.wait()
    forget_process(tmp_path, first.popen.pid)
    assert value(merged_exposition(tmp_path), name, process="mail-0", scope="process") is None


def test_two_processes_are_summed_and_a_dead_one_leaves_its_counts_only(
    spawn: Callable[[], Process], tmp_path: Path
) -> None:
    first, second = spawn(), spawn()
    first.do("up", "start", "complete", "start", "lag 0.5")
    second.do("up", "start", "complete", "start", "start", "lag 0.1")
    both = merged_exposition(tmp_path)
    assert value(both, "bullmq_worker_jobs_total", **TASK, outcome="completed") == 2
    assert value(both, "bullmq_job_process_duration_seconds_sum", **TASK) == 6
    assert value(both, "bullmq_job_process_duration_seconds_bucket", **TASK, le="5.0") == 2
    assert value(both, "bullmq_worker_active_jobs", **QUEUE) == 3
    assert value(both, "bullmq_worker_concurrency", **QUEUE) == 10
    assert value(both, "bullmq_worker_up", **QUEUE) == 2
    assert value(both, "bullmq_redis_up", **QUEUE) == 1
    assert value(both, "fleet_event_loop_lag_seconds") == 0.5
    assert value(both, UNREADABLE) == 0

    second.do("down")
    assert value(merged_exposition(tmp_path), "bullmq_redis_up", **QUEUE) == 0

    first.end()
    forget_process(tmp_path, first.pid)
    rest = merged_exposition(tmp_path)
    assert value(rest, "bullmq_worker_active_jobs", **QUEUE) == 2
    assert value(rest, "bullmq_worker_concurrency", **QUEUE) == 5
    assert value(rest, "bullmq_worker_up", **QUEUE) == 1
    assert value(rest, "fleet_event_loop_lag_seconds") == 0.1
    assert value(rest, "bullmq_worker_jobs_total", **TASK, outcome="completed") == 2
    assert value(rest, "bullmq_job_process_duration_seconds_sum", **TASK) == 6
    assert value(rest, "bullmq_job_process_duration_seconds_count", **TASK) == 2

    forget_process(tmp_path, first.pid)
    assert parse(merged_exposition(tmp_path)) == parse(rest)


def test_a_pool_that_keeps_dying_keeps_its_counts_in_a_bounded_number_of_files(
    spawn: Callable[[], Process], tmp_path: Path
) -> None:
    for n in range(1, 4):
        process = spawn()
        process.do("up", "start", "complete")
        process.end()
        forget_process(tmp_path, process.pid)
        text = merged_exposition(tmp_path)
        assert value(text, "bullmq_worker_jobs_total", **TASK, outcome="completed") == n
        assert value(text, "bullmq_job_wait_duration_seconds_count", **TASK) == n
        assert value(text, "bullmq_worker_up", **QUEUE) is None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_dead.db", "histogram_dead.db"]


def entry(key: bytes, number: float = 1.0) -> bytes:
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    return struct.pack(f"i{len(padded)}sdd", len(key), padded, number, 0.0)


def file(*entries: bytes, used: int | None = None) -> bytes:
    body = b"".join(entries)
    return struct.pack("ii", 8 + len(body) if used is None else used, 0) + body


GOOD = entry(b'["a", "a_total", {}, "help"]', 3.0)
CORRUPT = {
    "counter_1.db": b"abc",
    "counter_2.db": file(GOOD, used=1_000_000),
    "counter_3.db": file(GOOD, used=-5),
    "counter_4.db": file(struct.pack("i", -8), b"x" * 60),
    "counter_5.db": file(struct.pack("i", 2_000_000_000), b"x" * 60),
    "counter_6.db": file(entry(b"\xff\xfe not text")),
    "counter_7.db": file(entry(b"not json")),
    "counter_8.db": file(entry(b'["too", "short"]')),
    "counter_9.db": file(entry(b'["a", "b", ["no", "labels"], "h"]')),
    "counter_10.db": file(entry(b"7")),
    "counter_11.db": file(entry(b"[" * 60_000)),
    "counter_12.db": file(struct.pack("i", -28), b'["a", "a_total", {}, "help"]', b" " * 16),  # leads back to itself
    "nonsense.db": file(GOOD),
    "gauge_1.db": file(GOOD),
    "enum_all_1.db": file(GOOD),
}


def test_unreadable_files_are_left_out_and_counted(tmp_path: Path) -> None:
    for name, content in CORRUPT.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "counter_99.db").write_bytes(file(GOOD))
    (tmp_path / "counter_98.db").write_bytes(b"")  # just being created
    (tmp_path / "counter_97.db").mkdir()
    (tmp_path / "notes.txt").write_text("not ours")
    text = merged_exposition(tmp_path)
    assert value(text, "a_total") == 3
    assert value(text, UNREADABLE) == len(CORRUPT) + 1


@pytest.mark.parametrize("directory", ["absent", "empty", "file"])
def test_a_directory_without_files_is_an_empty_exposition(tmp_path: Path, directory: str) -> None:
    path = tmp_path / directory
    if directory == "empty":
        path.mkdir()
    elif directory == "file":
        path.write_bytes(b"")
    forget_process(path, 1)
    assert parse(merged_exposition(path)) == {(UNREADABLE, ()): 0}


def test_an_unreadable_file_of_the_dead_is_dropped_and_the_rest_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "counter_1.db").write_bytes(file(GOOD))
    (tmp_path / "counter_2.db").write_bytes(b"abc")
    (tmp_path / "gauge_livesum_2.db").write_bytes(b"abc")
    for pid in (1, 2):
        forget_process(tmp_path, pid)
    assert value(merged_exposition(tmp_path), "a_total") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["counter_dead.db"]
    assert "counter_2.db is unreadable; its counts are lost" in caplog.text


def test_a_spoiled_file_of_the_dead_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "counter_dead.db").write_bytes(b"abc")
    (tmp_path / "counter_dead.tmp").write_bytes(b"left by a crash")
    (tmp_path / "counter_1.db").write_bytes(file(GOOD))
    forget_process(tmp_path, 1)
    assert value(merged_exposition(tmp_path), "a_total") == 3


def test_scrapes_while_processes_are_forgotten_never_miss_or_double_a_count(tmp_path: Path) -> None:
    processes = 30
    for pid in range(1, processes + 1):
        (tmp_path / f"counter_{pid}.db").write_bytes(file(GOOD))

    def forget_all() -> None:
        for pid in range(1, processes + 1):
            forget_process(tmp_path, pid)

    forgetting = threading.Thread(target=forget_all, daemon=True)
    forgetting.start()
    seen = set()
    while forgetting.is_alive():
        seen.add(value(merged_exposition(tmp_path), "a_total"))
    seen.add(value(merged_exposition(tmp_path), "a_total"))
    assert seen == {3.0 * processes}


def test_files_that_vanish_under_the_reader_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "counter_1.db"
    gone.write_bytes(file(GOOD))
    read = Path.read_bytes

    def read_and_lose(path: Path) -> bytes:
        content = read(path)
        path.unlink()
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_lose)
    assert parse(merged_exposition(tmp_path)) == {(UNREADABLE, ()): 0}
