"""How a child died, in words; and whether it was the kernel, for want of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.runtime.isolation.crash import MemoryKills, death


@pytest.mark.parametrize(
    ("code", "oom", "said"),
    [
        (0, False, "its process ended with exit code 0 before the job did"),
        (70, True, "its process ended with exit code 70 before the job did"),
        (-9, False, "its process was killed by SIGKILL"),
        (-9, True, "its process was killed by SIGKILL: out of memory, the limit of its control group was reached"),
        (-11, True, "its process was killed by SIGSEGV"),
        (-35, False, "its process was killed by signal 35"),
    ],
)
def test_death_is_told_in_words(code: int, oom: bool, said: str) -> None:
    assert death(code, out_of_memory=oom) == said


@pytest.mark.parametrize(
    "text",
    [
        "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n",  # cgroup v2, memory.events
        "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",  # v1, memory.oom_control
    ],
)
def test_kills_for_want_of_memory_are_noticed_once(tmp_path: Path, text: str) -> None:
    file = tmp_path / "events"
    file.write_text(text.format(4))
    kills = MemoryKills(file)
    assert not kills.more()
    file.write_text(text.format(5))
    assert kills.more()
    assert not kills.more()


@pytest.mark.parametrize("text", ["", "oom_kill many\n", "\x00"])
def test_file_that_says_nothing_means_no_kill(tmp_path: Path, text: str) -> None:
    file = tmp_path / "events"
    file.write_text(text)
    assert not MemoryKills(file).more()


def test_absent_file_means_no_kill(tmp_path: Path) -> None:
    assert not MemoryKills(tmp_path / "absent").more()


def test_own_group_can_be_asked_on_any_system() -> None:
    assert not MemoryKills().more()
