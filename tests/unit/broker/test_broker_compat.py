"""An installed `bullmq` that is not what we rely on is refused, with all that is wrong with it in one line."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import workers.broker
from workers.broker import compat
from workers.broker.compat import Package, PackageRefusedError, Script, judge
from workers.broker.preflight import StartRefusedError


@pytest.fixture(scope="module")
def package() -> Package:
    return compat.installed()


def test_installed_package_is_what_we_rely_on(caplog: pytest.LogCaptureFixture) -> None:
    compat.check()
    assert not caplog.records


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "the Python package bullmq is not installed"),
        ("4.0.0", "bullmq 4.0.0 is not a version that Fleet knows"),
        ("2.19.3", "bullmq 2.19.3 is not a version that Fleet knows"),
        ("30.4.1", "bullmq 30.4.1 is not"),
        ("three", "bullmq three is not"),
    ],
)
def test_other_major_is_refused_with_the_remedy(package: Package, version: str, said: str) -> None:
    with pytest.raises(PackageRefusedError) as refused:
        judge(replace(package, version=version))
    assert said in str(refused.value)
    assert "pip install 'bullmq>=3.4,<4'" in str(refused.value)
    assert isinstance(refused.value, StartRefusedError), "the command ends with 78"


@pytest.mark.parametrize(
    ("version", "warned"), [("3.4.4", 0), ("3.4.99", 0), ("3.40.0", 1), ("3.5.0", 1), ("3.3.0", 1)]
)
def test_other_minor_is_warned_about(package: Package, version: str, warned: int) -> None:
    warnings = judge(replace(package, version=version))
    assert len(warnings) == warned
    assert all(version in warning and "3.4" in warning for warning in warnings)


def test_warning_is_logged_by_the_check(
    package: Package, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compat, "installed", lambda: replace(package, version="3.9.0"))
    with caplog.at_level(logging.WARNING):
        compat.check()
    assert ["3.9.0" in record.getMessage() for record in caplog.records] == [True]


def test_module_that_is_gone_is_refused_and_not_raised_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Package:
        raise ImportError("cannot import name 'Worker'")

    monkeypatch.setattr(compat, "installed", broken)
    with pytest.raises(PackageRefusedError, match=r"bullmq 3\.\S+ can't be used: cannot import name 'Worker'"):
        compat.check()


def lua(package: Package, file: str, old: str, new: str) -> Package:
    assert old in package.lua[file]
    return replace(package, lua={**package.lua, file: package.lua[file].replace(old, new)})


def without(mapping: Any, key: str) -> dict[str, Any]:
    assert key in mapping
    return {name: value for name, value in mapping.items() if name != key}


CHANGES: dict[str, tuple[Callable[[Package], Package], str]] = {
    "script not registered": (
        lambda p: replace(p, registered=without(p.registered, "moveToActive")),
        "script moveToActive is not registered",
    ),
    "script file gone": (
        lambda p: replace(p, lua=without(p.lua, "moveToFinished-14.lua")),
        "script moveToFinished-14.lua is not there",
    ),
    "script that we load has another number of keys": (
        lambda p: replace(p, lua=without(p.lua, "moveJobFromActiveToWait-9.lua")),
        "script moveJobFromActiveToWait-9.lua is not there",
    ),
    "another number of keys": (
        lambda p: replace(
            p,
            registered={**p.registered, "retryJob": "retryJob-12.lua"},
            lua={**p.lua, "retryJob-12.lua": p.lua["retryJob-11.lua"]},
        ),
        "script retryJob takes 12 keys instead of 11",
    ),
    "one argument more": (
        lambda p: lua(p, "moveToDelayed-11.lua", "ARGV[9]", "ARGV[10]"),
        "script moveToDelayed takes 10 arguments instead of 9",
    ),
    "one argument fewer": (
        lambda p: lua(p, "extendLocks-1.lua", "ARGV[4]", "ARGV[3]"),
        "script extendLocks takes 3 arguments instead of 4",
    ),
    "option renamed": (
        lambda p: lua(p, "moveToActive-11.lua", "opts['lockDuration']", "opts['lockMs']"),
        "script moveToActive no longer reads the option lockDuration",
    ),
    "method gone": (
        lambda p: replace(p, found=without(p.found, "Worker.runStalledJobsCheck")),
        "Worker.runStalledJobsCheck is not there",
    ),
    "property gone": (
        lambda p: replace(p, found=without(p.found, "RedisBackend.conn")),
        "RedisBackend.conn is not there",
    ),
    "method wants more": (
        lambda p: replace(
            p, found={**p.found, "Worker.isConnectionError": inspect.signature(lambda self, error, more: None)}
        ),
        "Worker.isConnectionError does not take what it is called with",
    ),
    "method became a property": (
        lambda p: replace(p, found={**p.found, "Job.fromJSON": None}),
        "Job.fromJSON does not take what it is called with",
    ),
    "key gone": (lambda p: replace(p, keys=p.keys - {"pc", ""}), "key (base) is not there; key pc is not there"),
    "answer renumbered": (
        lambda p: replace(p, codes={**p.codes, "JobLockMismatch": -8}),
        "the answer JobLockMismatch is -8 instead of -6",
    ),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_change_under_our_feet_is_named(package: Package, change: Callable[[Package], Package], said: str) -> None:
    with pytest.raises(PackageRefusedError) as refused:
        judge(change(package))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_that_is_wrong_is_named_at_once(package: Package) -> None:
    changed = replace(package, found={}, keys=frozenset())
    with pytest.raises(PackageRefusedError) as refused:
        judge(changed)
    assert all(name in str(refused.value) for name in [*compat.CALLED, "limiter", "marker"])


def test_optional_arguments_more_are_no_problem(package: Package) -> None:
    more = {**package.found, "Queue.add": inspect.signature(lambda self, name, data, opts, more=None: None)}
    assert judge(replace(package, found=more)) == []


def test_words_in_comments_are_not_taken_for_arguments(package: Package) -> None:
    commented = lua(package, "retryJob-11.lua", "local rcall", "-- ARGV[40]\n--[[ KEYS[50]\n ARGV[41] ]]\nlocal rcall")
    assert judge(commented) == []


def test_every_script_that_is_loaded_by_file_is_checked() -> None:
    """Who loads a shipped script lists it in LOADED."""
    sources = "".join(path.read_text() for path in Path(workers.broker.__file__).parent.glob("*.py"))
    files = set(re.findall(r'"(\w+-\d+\.lua)"', sources))
    assert files == {f"{name}-{script.keys}.lua" for name, script in compat.LOADED.items()}
    assert all(isinstance(script, Script) for script in compat.REGISTERED.values())
