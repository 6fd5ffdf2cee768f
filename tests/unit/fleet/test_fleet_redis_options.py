"""What can't be used of `redis` is said before anything starts, at its place in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import load
from workers.fleet import check_options

REST = """
pools: {p: {}}
queues: {no-such-module: {pool: p, concurrency: 1, task: {timeout: 1s}}}
"""


@pytest.mark.parametrize(
    ("redis", "issue"),
    [
        ("{url: 'redis://:hunter2/x@h'}", "fleet.yaml:1:9: redis.url: can't be read: write redis://user:password@host"),
        ("{url: 'redis+cluster://h'}", "redis.prefix: on a cluster all keys of a queue must lie in one slot"),
        ("{url: 'redis+cluster://h', prefix: bull}", "fleet.yaml:1:35: redis.prefix: on a cluster all keys"),
        ("{url: 'redis://h', tls: {ca_file: /ca.pem}}", "fleet.yaml:1:27: redis.tls: is for rediss:// alone"),
        (
            "{url: 'rediss://h', tls: {ca_file: /no/ca.pem}}",
            "redis.tls.ca_file: /no/ca.pem can't be read: No such file",
        ),
        ("{url: 'redis://:hunter2@h', password: hunter2}", "redis.password: redis.url names one already"),
        ("{url: 'redis://h', sentinel: {password: hunter2}}", "redis.sentinel: is for redis+sentinel://"),
        ("{url: 'redis+sentinel://h'}", "redis.url: the name by which the sentinels know the primary is missing"),
    ],
)
def test_setting_that_can_not_be_used_is_named_with_its_place(tmp_path: Path, redis: str, issue: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(f"redis: {redis}\n{REST}", encoding="utf-8")
    (found,) = check_options(load(file, env={}))
    assert issue in str(found)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "redis",
    [
        "{url: embedded}",
        "{url: 'rediss://h', tls: {verify: false}}",
        "{url: 'redis+cluster://h', prefix: '{bull}'}",
        "{url: 'rediss+sentinel://a,b/main/1', username: me, password: 'p@/', sentinel: {password: x}}",
    ],
)
def test_settings_that_go_together_are_taken(tmp_path: Path, redis: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(f"redis: {redis}\n{REST}", encoding="utf-8")
    assert check_options(load(file, env={})) == []
