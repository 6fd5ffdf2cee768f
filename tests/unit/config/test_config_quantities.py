from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.quantities import (
    DURATION,
    MAX_BYTES,
    MAX_DURATION_S,
    NUMBER,
    SHARE,
    SIZE,
    describe,
    format_bytes,
    format_duration,
    format_fraction,
    parse_bytes,
    parse_duration,
    parse_fraction,
)

Durations = st.floats(min_value=0.001, max_value=MAX_DURATION_S) | st.integers(1, MAX_DURATION_S).map(float)
Garbage = st.none() | st.booleans() | st.text() | st.floats() | st.integers() | st.binary() | st.lists(st.text())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1d12h", 129_600.0),
        ("1m30s500ms", 90.5),
        ("1.5h", 5400.0),
        ("0.1s", 0.1),
        (" 30s ", 30.0),
        ("30", 30.0),
        (30, 30.0),
        (0.5, 0.5),
        ("1ms", 0.001),
        ("3650d", float(MAX_DURATION_S)),
    ],
)
def test_duration_is_read_in_seconds(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "wrong",
    ["abc", "", "s", "5 s", "5S", "5x", "30m1h", "1h1h", "-5s", "1e3s", "٣s", "5s\n5", "1h30", "9" * 10_000 + "s"],
)
def test_wrong_duration_says_what_one_looks_like(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a duration like 30s, 5m or 1h30m, found '"):
        parse_duration(wrong)


@pytest.mark.parametrize("wrong", ["0s", 0, -1, "0.5ms", "3651d", 1e300, "999999999999999d"])
def test_duration_outside_its_bounds_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected a duration from 1ms to 3650d, found"):
        parse_duration(wrong)


@pytest.mark.parametrize("wrong", [True, None, [1], {"s": 1}, float("nan"), float("inf"), b"5s"])
def test_duration_is_text_or_finite_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected a duration like"):
        parse_duration(wrong)


@given(Durations)
def test_duration_written_reads_back_exactly(seconds: float) -> None:
    text = format_duration(seconds)
    assert parse_duration(text) == seconds
    assert re.fullmatch(DURATION, text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(86_400, "24h"), (172_800, "2d"), (5400, "1h30m"), (90, "1m30s"), (0.25, "250ms"), (2.5, "2.5s"), (0, "0s")],
)
def test_duration_is_written_as_people_do(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4MB", 4_194_304),
        ("4MiB", 4_194_304),
        ("512KB", 524_288),
        ("512 KB", 524_288),
        ("1GB", 1 << 30),
        ("1.5KB", 1536),
        ("7B", 7),
        ("7", 7),
        (7, 7),
        ("1024TB", MAX_BYTES),
    ],
)
def test_size_is_read_in_bytes(text: Any, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "wrong", ["4mb", "4 M", "MB", "", "many", True, None, "0B", 0, -1, "1025TB", 1.5, "0.3B", 1e30]
)
def test_wrong_size_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a (size|whole number of bytes).*, found"):
        parse_bytes(wrong)


@given(st.integers(1, MAX_BYTES))
def test_size_written_reads_back_exactly(size: int) -> None:
    text = format_bytes(size)
    assert parse_bytes(text) == size
    assert re.fullmatch(SIZE, text)


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), ("0.05", 0.05), (0.05, 0.05), ("100%", 1.0), (0, 0.0), (1, 1.0)]
)
def test_share_is_read_from_0_to_1(text: Any, share: float) -> None:
    assert parse_fraction(text) == share


@pytest.mark.parametrize("wrong", [5, "5", "101%", -0.1, "-1%", "five", "", True, None, float("nan")])
def test_wrong_share_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a share from 0% to 100%, like 5% or 0.05, found"):
        parse_fraction(wrong)


@given(st.floats(min_value=1e-9, max_value=1))
def test_share_written_reads_back_exactly(share: float) -> None:
    text = format_fraction(share)
    assert parse_fraction(text) == share
    assert re.fullmatch(SHARE, text)


@given(Garbage)
def test_anything_else_is_a_value_error(value: Any) -> None:
    for parse in (parse_duration, parse_bytes, parse_fraction):
        try:
            number = parse(value)
        except ValueError as error:
            assert str(error).startswith("expected ")
            assert len(str(error)) < 500
        else:
            assert number >= 0


@given(st.from_regex(NUMBER, fullmatch=True))
def test_every_plain_number_is_read_or_out_of_bounds(text: str) -> None:
    try:
        assert parse_duration(text) == float(text)
    except ValueError as error:
        assert "from 1ms to 3650d" in str(error)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        (True, "true"),
        ("many", "'many'"),
        ("x" * 100, "'" + "x" * 59 + "…'"),
        ("\x1b[31m", r"'\x1b[31m'"),
        ({}, "a mapping"),
        ([1], "a list"),
        (5, "5"),
        pytest.param(10**5000, "a huge number", id="huge"),
        (0.5, "0.5"),
        (b"x", "a bytes"),
    ],
)
def test_value_is_described_on_one_short_line(value: Any, words: str) -> None:
    assert describe(value) == words
