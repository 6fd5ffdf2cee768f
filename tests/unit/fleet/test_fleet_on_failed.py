"""`on_failed: notify` without a queue for the notes is refused at start, by its field."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import load
from workers.fleet import check_options

SHARED = """
pools: {p: {}}
queues:
  email-send:
    pool: p
    concurrency: 1
    task:
      timeout: 1s
      on_failed: %s
      options: {smtp_url: "smtp://127.0.0.1:1025", from_name: F, from_alias: f@example.com}
"""
NOTES = "  notification-create: {pool: p, concurrency: 1, task: {timeout: 1s}}\n"


def problems(folder: Path, text: str) -> list[str]:
    file = folder / "fleet.yaml"
    file.write_text(text)
    return [str(issue) for issue in check_options(load(file, env={}))]


@pytest.mark.parametrize("text", [SHARED % "none", SHARED % "notify" + NOTES])
def test_notes_have_somewhere_to_go_or_are_none(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_notes_without_their_queue_are_refused_with_the_fix(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, SHARED % "notify")
    assert "queues.email-send.task.on_failed" in problem
    assert "set queues.notification-create" in problem
    assert "fleet.yaml:9" in problem
