"""`fleet config check` tries every schedule; a fleet declares what it checked; policies of pauses by queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.loader import LoadedConfig, load
from workers.cli.options import shipped_config
from workers.fleet import check_options
from workers.fleet.pod import resume_after_s
from workers.fleet.schedules import declared

Load = Callable[..., LoadedConfig]


@pytest.fixture
def written(tmp_path: Path) -> Load:
    """The shipped configuration under an overlay."""

    def loaded(lines: str) -> LoadedConfig:
        overlay = tmp_path / "own.yaml"
        overlay.write_text(lines, encoding="utf-8")
        return load(shipped_config(), overlays=[overlay], env={"SITE_EMAIL_ALIAS": "hi@example.com"})

    return loaded


GOOD = """\
schedules:
  greeting:
    queue: email-send
    cron: 0 8 * * MON
    tz: Europe/Berlin
    data: {to: [a@example.com], subject: Hi, text: Hello}
"""


def test_good_one_is_declared_by_queue_and_name(written: Load) -> None:
    loaded = written(GOOD)
    assert check_options(loaded) == []
    found = declared(loaded.config)
    assert found is not None
    (new,) = found.values()
    assert list(found) == [("email-send", "greeting")]
    assert new.repeat == {"pattern": "0 8 * * MON", "tz": "Europe/Berlin"}
    assert new.options["attempts"] == 3, "as its queue has it"


def test_without_the_section_nothing_is_declared_at_all(written: Load) -> None:
    assert declared(written("log: {level: info}\n").config) is None
    assert declared(written("schedules: {}\n").config) == {}


@pytest.mark.parametrize(
    ("before", "after", "issue"),
    [
        (
            "0 8 * * MON",
            "0 8 * * MUN",
            "own.yaml:4:5: schedules.greeting.cron: expected a cron expression, minute, hour, day, month and day of "
            "the week, found '0 8 * * MUN' (",
        ),
        ("to: [a@example.com]", "to: a@example.com", "own.yaml:6:12: schedules.greeting.data.to: expected"),
        (
            "to: [a@example.com]",
            "type: sms-message",
            "own.yaml:3:5: schedules.greeting.queue: email-send carries no tasks of type 'sms-message'",
        ),
        ("tz: Europe", "options: {backoff: {delay: 5}}\n    tz: Europe", "own.yaml:5:15: schedules.greeting.options"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(written: Load, before: str, after: str, issue: str) -> None:
    assert before in GOOD
    (found,) = check_options(written(GOOD.replace(before, after)))
    assert str(found).startswith(issue)


def test_all_of_them_are_told_at_once(written: Load) -> None:
    text = GOOD + GOOD.removeprefix("schedules:\n").replace("greeting", "other")
    assert len(check_options(written(text.replace("0 8 * * MON", "x")))) == 2


def test_policy_of_a_queue_goes_before_that_of_the_fleet(written: Load) -> None:
    lines = "on_global_pause: {resume_after: 60s}\nqueues:\n  email-send: {on_global_pause: report}\n"
    config = written(lines).config
    found = resume_after_s(config, {name: config.queues[name] for name in ("email-send", "sms-message")})
    assert found == {"email-send": None, "sms-message": 60.0}
