"""When cron expressions come round, above all where the clock jumps. That Node's libraries agree is tried in
tests/interop/test_interop_schedules.py.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker import cron


def times(pattern: str, zone: str, after: str, count: int) -> list[str]:
    """The next ones after a moment in UTC, as the zone's clock shows them, with its offset."""
    at, found = _ms(datetime.fromisoformat(after).replace(tzinfo=UTC)), []
    for _ in range(count):
        at = cron.next_time(pattern, zone, at)
        found.append(datetime.fromtimestamp(at / 1000, tz=ZoneInfo(zone)).strftime("%m-%d %H:%M%z"))
    return found


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@pytest.mark.parametrize(
    ("pattern", "zone", "after", "expected"),
    [
        # The package's own strategy says 03-29 23:00 here, and again 03-30 00:00.
        ("0 0 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 00:00+0100", "03-30 00:00+0200"]),
        # … 03-31 23:00, in the month before.
        ("0 0 1 * *", "Europe/Berlin", "2026-03-20T12:00", ["04-01 00:00+0200", "05-01 00:00+0200"]),
        # … 10-26 03:30.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        # Left out by the clock: as much later.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:30+0200", "03-30 02:30+0200"]),
        ("15 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:15+0200", "03-30 02:15+0200"]),
        # Twice on the clock: the first time, but each time where it runs every hour.
        ("10 1-3 * * *", "America/New_York", "2026-11-01T04:00", ["11-01 01:10-0400", "11-01 02:10-0500"]),
        ("30 * * * *", "America/New_York", "2026-11-01T05:00", ["11-01 01:30-0400", "11-01 01:30-0500"]),
        ("0 */6 * * *", "Europe/Berlin", "2026-10-24T22:00", ["10-25 06:00+0100", "10-25 12:00+0100"]),
        ("0 */6 * * *", "Europe/Berlin", "2026-03-28T23:30", ["03-29 06:00+0200", "03-29 12:00+0200"]),
        # Midnight itself is left out, or comes twice.
        ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00", ["04-24 01:00+0300", "04-25 00:00+0300"]),
        ("0 0 * * *", "America/Havana", "2026-10-31T12:00", ["11-01 00:00-0400", "11-02 00:00-0500"]),
        # By half an hour.
        ("*/30 * * * *", "Australia/Lord_Howe", "2026-10-03T15:00", ["10-04 02:30+1100", "10-04 03:00+1100"]),
        ("0 * * * *", "Australia/Lord_Howe", "2026-10-03T15:00", ["10-04 03:00+1100", "10-04 04:00+1100"]),
        # croniter itself passes over the 1st of March.
        ("0 0 */10 * *", "UTC", "2026-02-20T12:00", ["02-21 00:00+0000", "03-01 00:00+0000", "03-11 00:00+0000"]),
        ("0 0 1,30 * *", "UTC", "2026-02-01T12:00", ["03-01 00:00+0000", "03-30 00:00+0000"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["02-29 00:00+0000", "02-29 00:00+0000"]),
        # Node's word for the last Friday of the month.
        ("0 0 * * 5L", "UTC", "2026-03-01T00:00", ["03-27 00:00+0000", "04-24 00:00+0000"]),
        ("*/20 * * * * *", "UTC", "2026-03-01T00:00:41", ["03-01 00:01+0000", "03-01 00:01+0000"]),
        ("@weekly", "UTC", "2026-03-02T00:00", ["03-08 00:00+0000", "03-15 00:00+0000"]),
    ],
)
def test_clock_of_the_zone_counts(pattern: str, zone: str, after: str, expected: list[str]) -> None:
    assert times(pattern, zone, after, len(expected)) == expected


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Australia/Lord_Howe"])
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda at: at.replace(microsecond=0))


@settings(deadline=None)
@given(st.integers(0, 59), st.integers(0, 23), ZONES, MOMENTS)
def test_each_day_has_one_run_whatever_the_clock_does(minute: int, hour: int, zone: str, after: datetime) -> None:
    at, days = _ms(after.replace(tzinfo=UTC)), []
    for _ in range(5):
        now = cron.next_time(f"{minute} {hour} * * *", zone, at)
        assert now > at
        at = now
        days.append(datetime.fromtimestamp(at / 1000, tz=ZoneInfo(zone)).date())
    assert days == [days[0] + timedelta(days=number) for number in range(5)]


@settings(deadline=None)
@given(st.integers(0, 59), ZONES.filter(lambda zone: zone != "Australia/Lord_Howe"), MOMENTS)
def test_each_hour_that_passes_has_one_run(minute: int, zone: str, after: datetime) -> None:
    at = cron.next_time(f"{minute} * * * *", zone, _ms(after.replace(tzinfo=UTC)))
    assert cron.next_time(f"{minute} * * * *", zone, at) == at + 3_600_000


FIELDS = st.tuples(
    st.sampled_from(["0", "*/20", "5,35"]),
    st.sampled_from(["*", "0", "2", "*/6", "1-3"]),
    st.sampled_from(["*", "1", "*/10", "1,15,30", "31", "L"]),
    st.sampled_from(["*", "2", "*/2", "3,10"]),
    st.sampled_from(["*", "0", "1-5", "5#2"]),
)


@settings(deadline=None)
@given(FIELDS, ZONES, MOMENTS, st.integers(1, 40 * 86_400))
def test_time_in_between_finds_the_same_one(fields: tuple[str, ...], zone: str, after: datetime, later_s: int) -> None:
    """None is passed over and none is made up: from any moment before it the next one is the next one."""
    pattern, at = " ".join(fields), _ms(after.replace(tzinfo=UTC))
    if cron.problem(pattern, zone, at) is not None:
        return
    found = cron.next_time(pattern, zone, at)
    assert found > at
    between = min(at + later_s * 1000, found - 1)
    assert cron.next_time(pattern, zone, between) == found


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("every day", "a cron expression, minute, hour, day, month and day of the week, found 'every day' ("),
        ("* * * *", "a cron expression, minute, hour, day, month and day of the week, found '* * * *' ("),
        ("60 * * * *", "a cron expression, minute, hour, day, month and day of the week, found '60 * * * *' ("),
        ("0 22-2 * * *", "a cron expression, minute, hour, day, month and day of the week, found '0 22-2 * * *' ("),
        ("0 0 30 2 *", "a cron expression that comes round, found '0 0 30 2 *'"),
        ("R * * * *", "a cron expression that Node's library reads as well, found 'R * * * *'"),
        ("H H(0-7) * * *", "a cron expression that Node's library reads as well, found 'H H(0-7) * * *'"),
        ("@midnight", "a cron expression that Node's library reads as well, found '@midnight'"),
        ("٣ * * * *", "a cron expression that Node's library reads as well, found '٣ * * * *'"),
        ("*" * 300, f"a cron expression, minute, hour, day, month and day of the week, found '{'*' * 99}…' ("),
    ],
)
def test_expressions_that_nobody_should_declare(pattern: str, words: str) -> None:
    found = cron.problem(pattern, "Europe/Berlin", 1_772_798_400_000)
    assert found is not None and found.startswith(words)
    assert "\n" not in found and len(found) < 320


@settings(deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"[-*/0-9,LRH#? ]{1,30}", fullmatch=True))
def test_whatever_is_written_there_is_judged(pattern: str) -> None:
    found = cron.problem(pattern, "Europe/Berlin", 1_772_798_400_000)
    assert found is None or found.startswith("a cron expression")


@pytest.mark.parametrize("pattern", ["0 3 * * FRI", "0 3 * MAR *", "0 3 * * 1-5", "@daily", "@hourly", "0 0 L * *"])
def test_names_and_letters_that_both_sides_know_are_fine(pattern: str) -> None:
    assert cron.problem(pattern, "UTC", 1_772_798_400_000) is None


START = _ms(datetime(2026, 6, 1, tzinfo=UTC))
DAY = 86_400_000


def test_start_and_end_bound_the_runs() -> None:
    daily = {"pattern": "0 0 * * *", "startDate": START, "endDate": START + 2 * DAY}
    assert cron.following(0, daily) == START + DAY
    assert cron.following(START + DAY, daily) == START + 2 * DAY
    assert cron.following(START + 2 * DAY, daily) is None, "the package's own plans one more"


def test_dates_are_read_as_node_writes_them() -> None:
    iso, number = "2026-06-01T00:00:00.000Z", "1780272000000"
    assert [cron.moment_ms(each) for each in (iso, number, START, float(START))] == [START] * 4
    odd: list[object] = [None, "", True, "soon", "9" * 30, []]
    assert [cron.moment_ms(each) for each in odd] == [None] * 6


def test_without_a_pattern_there_is_no_time_and_at_once_is_now() -> None:
    assert cron.following(START, {"every": 1000}) is None
    found = cron.following(START, {"pattern": "0 0 1 1 *", "immediately": True})
    assert found is not None and abs(found - _ms(datetime.now(UTC))) < 60_000
