"""With another `bullmq` than ours the command ends at once, with one line and the exit code for the operator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from workers.cli import main; main()"


@pytest.mark.parametrize("command", [["run"], ["--help"], ["config", "check"]], ids=lambda words: " ".join(words))
def test_unknown_major_is_refused_before_anything_of_it_is_imported(tmp_path: Path, command: list[str]) -> None:
    info = tmp_path / "bullmq-4.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bullmq\nVersion: 4.0.0\n")
    ended = subprocess.run(
        [sys.executable, "-c", MAIN, *command],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 78
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == [
        "fleet: the Python package bullmq 4.0.0 is not a version that Fleet knows: "
        "install bullmq 3.4 (pip install 'bullmq>=3.4,<4')"
    ]
