"""`processes: auto`: one process for each core that the machine, the affinity and the container's limit leave us."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.pool_section import PoolConfig
from workers.runtime.supervision import cores
from workers.runtime.supervision.cores import processes, quotas, usable


@pytest.mark.parametrize(
    ("cpus", "limits", "expected"),
    [
        (8, [], 8),
        (8, [4.0], 4),
        (8, [1.5], 2),
        (8, [0.1], 1),
        (8, [16.0], 8),
        (8, [4.0, 2.5, 6.0], 3),
        (1, [0.5], 1),
        (0, [], 1),
    ],
)
def test_smallest_bound_counts_and_parts_of_a_core_are_rounded_up(
    cpus: int, limits: list[float], expected: int
) -> None:
    assert usable(cpus, limits) == expected


@given(st.integers(0, 512), st.lists(st.floats(0.001, 1024)))
def test_there_is_always_one_and_never_more_than_any_bound_rounded_up(cpus: int, limits: list[float]) -> None:
    found = usable(cpus, limits)
    assert found >= 1
    assert found <= max(1, cpus)
    assert all(found < limit + 1 for limit in limits)


def files(root: Path, texts: Mapping[str, str]) -> Path:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "5:cpuset:/\n4:cpu,cpuacct:/docker/c0ffee\n1:name=systemd:/x\n"


@pytest.mark.parametrize(
    ("groups", "texts", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "200000 100000", "a/b/cpu.max": "50000 100000"}, [0.5, 2]),
        ("0::/a/b\n", {"a/b/cpu.max": "max"}, []),
        ("0::/host/path\n", {"cpu.max": "300000 100000"}, [3]),
        ("0::/../../up\n", {"cpu.max": "300000 100000"}, [3]),
        ("0::/a\n", {"unified/a/cpu.max": "100000 100000"}, [1]),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, []),
        (V1, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, [2.5]),
        (
            V1,
            {
                "cpu,cpuacct/docker/c0ffee/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/docker/c0ffee/cpu.cfs_period_us": "50000",
            },
            [1],
        ),
        ("", {"cpu.max": "100000 100000"}, []),
        ("no colons\n::\n:\n", {"cpu.max": "x"}, []),
        ("0::/\n", {"cpu.max": "0 100000"}, []),
        ("0::/\n", {"cpu.max": "100000 0"}, []),
        ("0::/\n", {"cpu.max": "\x00\xff -5 many"}, []),
        ("0::/\n", {}, []),
    ],
)
def test_quotas_of_both_versions_are_found(
    tmp_path: Path, groups: str, texts: dict[str, str], expected: list[float]
) -> None:
    assert quotas(groups, files(tmp_path, texts)) == expected


def test_auto_asks_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "CGROUPS", files(tmp_path, {"cpu.max": "100000 100000"}))
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")
    assert processes(PoolConfig(processes="auto")) == len(os.sched_getaffinity(0))
    (tmp_path / "own").write_text("0::/\n")
    assert processes(PoolConfig(processes="auto")) == 1


def test_a_number_is_that_number() -> None:
    assert processes(PoolConfig(processes=7)) == 7
