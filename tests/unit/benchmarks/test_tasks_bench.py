"""What the bench of the tasks says of a run: a missed target fails it, and is named on the page and beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import tasks as bench
from tests.benchmarks.tasks import DECODE, PYDANTIC, Rate


def rate(decode: float, target: int | None) -> Rate:
    return Rate("0 email-send", 386, target, {"decode": decode, DECODE: 60.0, PYDANTIC: 80.0})


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the page is written."""
    path = tmp_path / "tasks.md"
    monkeypatch.setattr(bench, "RESULTS", path)
    monkeypatch.delenv("ROUNDS", raising=False)
    return path


@pytest.mark.parametrize(
    ("rates", "is_fine", "code", "said"),
    [
        ([rate(100_000, 100_000), rate(5, None)], True, 0, ""),
        (
            [rate(5, None), rate(99_999, 100_000)],
            True,
            1,
            "missed: 0 email-send: 99,999 jobs a second decoded, 100,000 are asked for\n",
        ),
        ([rate(100_001, 100_000)], False, 1, "missed: a producer's job is not what Node makes of it\n"),
    ],
    ids=["met", "too_slow", "not_as_node"],
)
def test_run_fails_where_a_target_is_missed_and_writes_its_page_all_the_same(
    page: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rates: list[Rate],
    is_fine: bool,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(bench, "rates", lambda rounds: iter(rates))
    monkeypatch.setattr(bench, "table", lambda: (["| a line |"], is_fine))
    assert bench.main() == code
    printed = capsys.readouterr()
    assert printed.err == said
    assert printed.out == page.read_text()
    assert ("**missed**" in printed.out) == any(not each.is_met for each in rates)


def test_short_run_leaves_the_page_as_it_is(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDS", "2")
    monkeypatch.setattr(bench, "rates", lambda rounds: iter([rate(1, None)] * rounds))
    monkeypatch.setattr(bench, "table", lambda: ([], True))
    assert bench.main() == 0
    assert not page.exists()


def test_row_tells_the_share_that_pydantic_leaves() -> None:
    assert rate(3000, 2000).row == "| 0 email-send | 386 | 3,000 | 60 | 80 | 75% | 2,000: met |"


def test_every_contestant_reads_the_same_job() -> None:
    data = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
    contest = bench.contest(data)
    assert contest.pop("decode + encode")() == data
    assert {name: call().to for name, call in contest.items()} == {name: data["to"] for name in contest}
