"""How a child died, in words; and whether it was the kernel, for want of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers.runtime.isolation.crash import MemoryKills, beyond_limit, death, judged


@pytest.mark.parametrize(
    ("code", "oom", "said"),
    [
        (0, False, "its process ended with exit code 0 before the job did"),
        (72, True, "its process ended with exit code 72 before the job did"),
        (-9, False, "its process was killed by SIGKILL"),
        (-9, True, "its process was killed by SIGKILL: out of memory, the limit of its control group was reached"),
        (-11, True, "its process was killed by SIGSEGV"),
        (-35, False, "its process was killed by signal 35"),
    ],
)
def test_death_is_told_in_words(code: int, oom: bool, said: str) -> None:
    assert death(code, out_of_memory=oom) == said


@pytest.mark.parametrize(
    ("code", "why"), [(70, "it could not tell how the job had ended"), (71, "its connection to its host was gone")]
)
def test_exit_codes_of_our_own_are_explained(code: int, why: str) -> None:
    assert death(code).startswith(f"its process ended with exit code {code} before the job did: {why}")


def test_memory_error_names_the_setting_that_has_brought_it_about() -> None:
    limit = "its child process may use 2GB of address space (task.children.memory_limit)"
    assert beyond_limit("MemoryError", 2**31) == f"MemoryError: {limit}"
    assert beyond_limit("MemoryError", None) == "MemoryError"


@pytest.mark.parametrize(
    ("code", "more", "label"),
    [
        (0, {}, "exit"),
        (71, {}, "exit"),
        (-11, {}, "SIGSEGV"),
        (-9, {}, "SIGKILL"),
        (-9, {"killed": True}, "killed"),
        (-11, {"killed": True}, "SIGSEGV"),
        (-9, {"killed": True, "wrong": "no frame"}, "protocol"),
    ],
)
def test_end_has_a_bounded_label(tmp_path: Path, code: int, more: dict[str, Any], label: str) -> None:
    assert judged(code, MemoryKills(tmp_path / "none"), **more).label == label


def test_end_for_want_of_memory_has_a_label_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_text("oom_kill 1")
    kills = MemoryKills(file)
    file.write_text("oom_kill 2")
    end = judged(-9, kills)
    assert (end.label, "out of memory" in end.reason) == ("out_of_memory", True)


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
