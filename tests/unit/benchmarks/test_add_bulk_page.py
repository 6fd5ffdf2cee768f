"""The benchmark of adding many jobs: its verdict and its page."""

from __future__ import annotations

import pytest

from tests.benchmarks.add_bulk import Round, missed, page


def rounds(*ratios: float) -> dict[tuple[str, int, str], list[Round]]:
    return {("a mail", 6, "data"): [Round(ratio, 1.0, ratio / 2, 0.4) for ratio in ratios]}


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((0.8, 0.9, 5.0), []),
        ((1.0,), []),
        ((0.2, 1.2, 1.1), ["a mail, npm bullmq 6, data: 1.10 of Node's time, target 1.00"]),
    ],
)
def test_median_of_the_ratios_decides(ratios: tuple[float, ...], said: list[str]) -> None:
    assert missed(rounds(*ratios)) == said


def test_page_tells_the_numbers_and_the_verdict() -> None:
    text = page(rounds(0.8, 0.9, 1.0), "A machine.", 10_000)
    row = "| a mail | data | 6 | 900 ms | 1,000 ms | **0.90** | 0.80 to 1.00 | 45 µs a job | 40 µs a job |"
    assert row in text and "A machine." in text and "Target met" in text
    assert "Missed: a mail" in page(rounds(1.5), "", 10_000)
