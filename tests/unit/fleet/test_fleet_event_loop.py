"""An event loop that is not installed is said before anything starts, with its place and what to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import load
from workers.fleet import check_options
from workers.runtime.supervision import event_loop

TEXT = """\
pools:
  calm: {}
  fast: {loop: uvloop}
queues:
  email-send:
    pool: fast
    concurrency: 5
    task: {timeout: 30s, options: {smtp_url: "smtp://127.0.0.1", from_alias: hi@example.com}}
"""


@pytest.mark.parametrize("installed", [True, False])
def test_pool_whose_loop_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(event_loop, "find_spec", lambda name: object() if installed else None)
    path = tmp_path / "fleet.yaml"
    path.write_text(TEXT)
    expected = [
        "fleet.yaml:3:10: pools.fast.loop: uvloop is not installed: pip install 'fleet-workers[uvloop]', "
        "or set it to asyncio"
    ]
    assert [str(issue) for issue in check_options(load(path, env={}))] == ([] if installed else expected)
