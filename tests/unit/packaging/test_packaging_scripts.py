"""The shell around the commands, with stand-ins for the tools that it looks for."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SYSTEM = "/usr/bin:/bin"


def run(*command: str, path: str = SYSTEM, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run with nothing in the environment but PATH, HOME and what is given."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": path, "HOME": str(cwd), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder that can be the whole PATH: the shell's own tools, and what a test adds."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "find", "touch", "date", "mkdir", "rm", "cat"):
        path = shutil.which(name, path=SYSTEM)
        assert path is not None
        (folder / name).symlink_to(path)
    return folder


def stand_in(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# find-python


def test_newest_python_that_runs_is_taken(tools: Path) -> None:
    stand_in(tools, "python3.13", "echo 'not installed' >&2; exit 127")  # what a version manager leaves
    stand_in(tools, "python3.12", "echo /opt/python3.12")
    stand_in(tools, "python3", "echo /opt/python3")
    assert run("sh", ".ci/find-python", path=str(tools)).stdout == "/opt/python3.12\n"


def test_no_python_gives_one_line_that_says_what_to_do(tools: Path) -> None:
    stand_in(tools, "python3", "exit 1")  # too old
    done = run("sh", ".ci/find-python", path=str(tools))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "3.11 or newer" in done.stderr and "PYTHON=" in done.stderr


def test_named_python_that_does_not_run_is_refused(tools: Path) -> None:
    stand_in(tools, "python3", "echo /opt/python3")
    done = run("sh", ".ci/find-python", "/nowhere/python", path=str(tools))
    assert done.returncode == 1 and not done.stdout
    assert "/nowhere/python" in done.stderr


# npm-ci


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "package-lock.json").write_text("{}")
    return folder


def npm_ci(project: Path, tools: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return run("sh", str(ROOT / ".ci/npm-ci"), str(project), path=str(tools), cwd=project.parent, **env)


@pytest.fixture
def npm_calls(tools: Path, tmp_path: Path) -> Path:
    """Node 20 and an npm that notes its calls in the returned file."""
    calls = tmp_path / "calls"
    calls.touch()
    stand_in(tools, "node", "echo 20")
    stand_in(tools, "npm", f'echo "$1" >> {calls}; mkdir -p node_modules')
    return calls


@pytest.mark.parametrize("node", [None, "exit 1", "echo 16"])
def test_without_a_usable_node_the_parts_in_node_are_left_out(project: Path, tools: Path, node: str | None) -> None:
    stand_in(tools, "npm", "exit 1")
    if node is not None:
        stand_in(tools, "node", node)
    done = npm_ci(project, tools)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1 and "left out" in done.stderr
    assert npm_ci(project, tools, CI="true").returncode == 1


def test_second_run_does_not_call_npm(project: Path, tools: Path, npm_calls: Path) -> None:
    for _ in range(2):
        assert npm_ci(project, tools).returncode == 0
    assert npm_calls.read_text() == "ci\n"


def test_changed_lock_installs_again(project: Path, tools: Path, npm_calls: Path) -> None:
    npm_ci(project, tools)
    stamp = (project / "node_modules" / ".installed").stat().st_mtime
    os.utime(project / "package-lock.json", (stamp + 1, stamp + 1))
    npm_ci(project, tools)
    assert npm_calls.read_text() == "ci\nci\n"


def test_failed_install_is_tried_again(project: Path, tools: Path, npm_calls: Path) -> None:
    npm = (tools / "npm").read_text()
    stand_in(tools, "npm", "mkdir -p node_modules; exit 7")
    assert npm_ci(project, tools).returncode != 0
    (tools / "npm").write_text(npm)
    assert npm_ci(project, tools).returncode == 0
    assert npm_calls.read_text() == "ci\n"


# ring and report


def ring(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return run("sh", str(ROOT / ".ci/ring"), *command, cwd=folder)


def test_ring_keeps_the_exit_code_and_the_time(tmp_path: Path) -> None:
    done = ring(tmp_path, "unit", "sh", "-c", "exit 5")
    assert done.returncode == 5
    assert re.search(r"unit: FAILED after 0\.\d minutes", done.stdout)
    assert re.fullmatch(r"\d+ 5\n", (tmp_path / "dist/reports/unit.took").read_text())


def test_ring_forgets_the_report_of_an_earlier_run(tmp_path: Path) -> None:
    reports = tmp_path / "dist/reports"
    reports.mkdir(parents=True)
    (reports / "unit.xml").write_text("<testsuites/>")
    assert ring(tmp_path, "unit", "true").returncode == 0
    assert not (reports / "unit.xml").exists()


def report(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("sys.argv", ["report.py", str(folder)])
    runpy.run_path(str(ROOT / ".ci/report.py"), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_report_warns_over_budget_and_sums_the_rings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unit.took").write_text("90 1\n")
    (tmp_path / "static.took").write_text("30 0\n")
    (tmp_path / "unit.xml").write_text(
        '<testsuites><testsuite tests="10" failures="1" errors="1" skipped="2"/></testsuites>'
    )
    (tmp_path / "interop.xml").write_text('<testsuites><testsuite tests="5" failures="0" skipped="0"/></testsuites>')
    lines = report(tmp_path, capsys, monkeypatch)
    by_ring = {line.split()[0]: line for line in lines if line}
    assert by_ring["unit"].split(maxsplit=3)[1:] == ["1", "1.5", "FAILED, WARNING: over budget"]
    assert by_ring["static"].split()[1:] == ["2", "0.5", "passed"]
    assert by_ring["interop"].endswith("not run")
    assert by_ring["total"].split()[2] == "2.0"
    assert lines[-1] == "11 passed, 2 failed, 2 skipped"


def test_report_of_a_run_that_failed_at_once_has_no_numbers_to_invent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = report(tmp_path / "absent", capsys, monkeypatch)
    assert sum(line.endswith("not run") for line in lines) == 7
    assert lines[-1] == "0 passed, 0 failed, 0 skipped"


# make


def test_plain_make_lists_every_command() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    text = run(make, "--no-print-directory").stdout
    assert set(re.findall(r"^  make (\w+) +\S", text, flags=re.MULTILINE)) == {
        "setup", "check", "fmt", "test", "run", "full", "conform", "bench", "hazards", "chaos", "help", "lock", "clean",
    }  # fmt: skip


def test_make_leaves_the_system_alone() -> None:
    assert not re.search(r"\b(sudo|apt|apt-get|dnf|brew)\b", (ROOT / "Makefile").read_text())


def test_over_all_rings_the_budget_stays_below_twenty_minutes() -> None:
    budgets = runpy.run_path(str(ROOT / ".ci/report.py"))["BUDGETS"]
    assert sum(budgets.values()) < 20
    rings = re.findall(r"call RING,([\w-]+)\)", (ROOT / "Makefile").read_text())
    rings += re.findall(r"\.ci/ring ([\w-]+) ", (ROOT / ".ci/run").read_text())
    assert sorted(rings) == sorted(budgets)
