"""The `schedules` and `on_global_pause` of fleet.yaml: their forms, and what is said of those that can't be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from config.errors import ConfigError
from config.json_schema import fleet_schema
from config.loader import LoadedConfig, load
from config.pause_section import ResumeConfig
from config.schedule_section import TAKEN, ScheduleConfig
from config.schema import FleetConfig

HEAD = "pools: {p: {}}\nqueues:\n  q: {pool: p, concurrency: 1, task: {timeout: 1s}}\n"

Load = Callable[..., LoadedConfig]


@pytest.fixture
def written(tmp_path: Path) -> Load:
    """A configuration with these lines at its end."""

    def loaded(lines: str) -> LoadedConfig:
        path = tmp_path / "fleet.yaml"
        path.write_text(HEAD + lines, encoding="utf-8")
        return load(path, env={})

    return loaded


@pytest.fixture
def refused(written: Load) -> Callable[[str], list[str]]:
    """What is wrong with a configuration, without the places."""

    def issues(lines: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            written(lines)
        return [f"{issue.path}: {issue.message}" for issue in caught.value.issues]

    return issues


def entry(written: Load, text: str) -> ScheduleConfig:
    schedules = written(f"schedules: {{s: {{queue: q, {text}}}}}\n").config.schedules
    assert schedules is not None
    return schedules["s"]


def test_without_the_section_none_is_declared_which_is_not_the_same_as_an_empty_one(written: Load) -> None:
    assert written("").config.schedules is None
    assert written("schedules: {}\n").config.schedules == {}


def test_defaults_are_bullmqs_own_and_utc(written: Load) -> None:
    found = entry(written, "cron: 0 3 * * *")
    assert (found.zone, found.missed, found.grace_ms, found.start_ms, found.limit) == (
        "UTC",
        "run_once",
        60_000,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("cron: 0 3 * * *, start: 2027-06-30", 1_814_313_600_000),
        ("cron: 0 3 * * *, start: 2027-06-30T12:00, tz: Europe/Berlin", 1_814_349_600_000),
        ("every: 1h, start: 2027-06-30T12:00, tz: Europe/Berlin", 1_814_349_600_000),
        ("cron: 0 3 * * *, start: '2027-06-30 12:00:30.5', tz: Europe/Berlin", 1_814_349_630_500),
        ("cron: 0 3 * * *, start: 2027-06-30T12:00:00Z, tz: Europe/Berlin", 1_814_356_800_000),
        ("cron: 0 3 * * *, start: 2027-06-30T12:00+05:30, tz: Europe/Berlin", 1_814_337_000_000),
    ],
)
def test_moment_without_a_zone_is_of_the_schedules(written: Load, text: str, ms: int) -> None:
    assert entry(written, text).start_ms == ms


@pytest.mark.parametrize(
    ("text", "issue"),
    [
        ("data: {}", "schedules.s: expected either cron or every, found neither"),
        (
            "cron: 0 3 * * *, every: 1h",
            "schedules.s.cron: expected either cron or every, found both; null takes one of them back",
        ),
        (
            "every: 50ms",
            "schedules.s.every: expected a duration of at least 100ms, since each run is a job, found '50ms'",
        ),
        (
            "every: 1h, tz: UTC",
            "schedules.s.tz: expected it beside cron, start or end alone: an interval knows no time zone",
        ),
        (
            "cron: 0 3 * * *, tz: Europe/Berln",
            "schedules.s.tz: expected a time zone like Europe/Berlin or UTC, found 'Europe/Berln'",
        ),
        (
            "cron: 0 3 * * *, tz: ../UTC",
            "schedules.s.tz: expected a time zone like Europe/Berlin or UTC, found '../UTC'",
        ),
        (
            "every: 1h, start: 2027-02-30",
            "schedules.s.start: expected a time like 2027-06-30, 2027-06-30T12:00 or 2027-06-30T12:00:00Z, found "
            "'2027-02-30'",
        ),
        ("every: 1h, start: 2027-02-02, end: 2027-02-01", "schedules.s.end: expected a time after start"),
        ("every: 1h, grace: 2m", "schedules.s.grace: expected it beside missed: skip alone"),
        ("every: 1h, limit: 0", "schedules.s.limit: expected an integer from 1 to 1000000000, found 0"),
        ("every: 1h, limit: true", "schedules.s.limit: expected an integer from 1 to 1000000000, found true"),
        ("every: 1h, priority: -1", "schedules.s.priority: expected an integer from 0 to 2097152, found -1"),
        ("every: 1h, missed: never", "schedules.s.missed: expected run_once or skip, found 'never'"),
        (
            "every: 1h, options: {jobId: x}",
            "schedules.s.options.jobId: expected no jobId here: a schedule's key for it is none: it is of one run",
        ),
        ("every: 1h, jobs: 1", "schedules.s.jobs: unknown key"),
    ],
)
def test_what_can_not_be_is_named(refused: Callable[[str], list[str]], text: str, issue: str) -> None:
    (found,) = refused(f"schedules: {{s: {{queue: q, {text}}}}}\n")
    assert found.startswith(issue)


def test_name_and_queue_are_checked_with_the_rest(refused: Callable[[str], list[str]]) -> None:
    found = refused("schedules:\n  'a:b': {queue: q, every: 1h}\n  c: {queue: p, every: 1h}\n  d: {every: 1h}\n")
    assert found == [
        "schedules.'a:b': expected a schedule's name of letters, digits, dots, dashes and underscores, 128 at most",
        "schedules.c.queue: expected the name of a queue, found 'p'; known here: q",
        "schedules.d.queue: this key is required: text",
    ]


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_options_with_keys_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"expected no {name} here"):
        ScheduleConfig(queue="q", every=60.0, options={name: 1})


def test_no_secret_of_the_data_is_in_the_words_for_it() -> None:
    assert "hunter2" not in repr(ScheduleConfig(queue="q", every=60.0, data={"a": "hunter2"}, options={"b": "hunter2"}))


ENTRIES = st.fixed_dictionaries(
    {"queue": st.just("q")},
    optional={
        "limit": st.integers(1, 5),
        "start": st.sampled_from(["2027-01-01", "2027-01-01T00:00:00Z"]),
        "end": st.sampled_from(["2027-02-01", "2028-01-01T10:30+02:00"]),
        "data": st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        "priority": st.integers(0, 9),
        "attempts": st.integers(1, 9),
        "options": st.just({"lifo": True}),
    },
)
TIMES = st.sampled_from(
    [
        {"cron": "0 3 * * *", "tz": "Europe/Berlin"},
        {"cron": "@daily", "missed": "skip", "grace": "5m"},
        {"every": "2m", "missed": "skip"},
        {"every": 0.25},
    ]
)


SCHEMA = Draft202012Validator(fleet_schema())


@given(ENTRIES, TIMES)
@settings(deadline=None)
def test_schedule_survives_its_way_through_json(some: dict[str, Any], times: dict[str, Any]) -> None:
    config = ScheduleConfig.model_validate(some | times)
    assert ScheduleConfig.model_validate_json(config.model_dump_json()) == config
    tree = {
        "pools": {"p": {}},
        "queues": {"q": {"pool": "p", "concurrency": 1, "task": {"timeout": 1}}},
        "schedules": {"s": some | times},
    }
    assert not list(SCHEMA.iter_errors(tree))


@pytest.mark.parametrize(
    ("text", "fleet", "queue"),
    [
        ("", "report", None),
        ("on_global_pause: {resume_after: 60s}\n", ResumeConfig(resume_after=60.0), None),
        ("on_global_pause: report\n", "report", None),
    ],
)
def test_global_pause_is_reported_unless_it_is_to_end(written: Load, text: str, fleet: Any, queue: Any) -> None:
    config = written(text).config
    assert (config.on_global_pause, config.queues["q"].on_global_pause) == (fleet, queue)
    assert FleetConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("text", "issue"),
    [
        ("on_global_pause: resume", "on_global_pause: expected report or {resume_after: 60s}, found 'resume'"),
        ("on_global_pause: 60s", "on_global_pause: expected report or {resume_after: 60s}, found '60s'"),
        (
            "on_global_pause: {resume_after: soon}",
            "on_global_pause.resume_after: expected a duration like 30s, 5m or 1h30m, found 'soon'",
        ),
        (
            "on_global_pause: {}",
            "on_global_pause.resume_after: this key is required: a duration like 30s, 5m or 1h30m",
        ),
    ],
)
def test_other_forms_of_it_are_named(refused: Callable[[str], list[str]], text: str, issue: str) -> None:
    assert refused(f"{text}\n") == [issue]
