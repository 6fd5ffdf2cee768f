"""What Fleet relies on in the `bullmq` package, checked at start: an update must not be found out by jobs.

`bullmq` is imported by `installed` alone, so that the version can be looked at before anything else of it is.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from workers.broker.preflight import StartRefusedError

log = logging.getLogger(__name__)

#: The version that the tests run with: another major is refused, another minor warned about.
MAJOR, MINOR = 3, 4


class PackageRefusedError(StartRefusedError):
    """The installed `bullmq` is not what Fleet was made for."""


@dataclass(frozen=True)
class Script:
    """What a Lua script takes."""

    keys: int
    args: int
    """The highest ARGV that it reads."""
    options: frozenset[str] = frozenset()
    """The names that it must read from its packed options."""


#: The scripts whose KEYS and ARGV we build, by the name under which the package registers them.
REGISTERED = {
    "moveToActive": Script(11, 3, frozenset({"token", "lockDuration", "limiter", "name"})),
    "moveToFinished": Script(
        14,
        9,
        frozenset({"token", "lockDuration", "limiter", "name", "keepJobs", "attempts", "maxMetricsSize"}),
    ),
    "moveToDelayed": Script(11, 9, frozenset({"token", "lockDuration", "limiter", "name"})),
    "retryJob": Script(11, 6),
    "moveToWaitingChildren": Script(7, 4),
}
#: The same, of what is added and of acts on jobs and queues (add_script.py, act_scripts.py, queue_acts.py).
ACTS = {
    "addParentJob": Script(6, 3),
    "addJobScheduler": Script(11, 8),
    "removeJobScheduler": Script(3, 2),
    "addStandardJob": Script(9, 3),
    "addDelayedJob": Script(6, 3),
    "addPrioritizedJob": Script(9, 3),
    "changePriority": Script(7, 4),
    "cleanJobsInSet": Script(3, 4),
    "pause": Script(7, 2),
    "promote": Script(9, 2),
    "removeJob": Script(2, 3),
    "reprocessJob": Script(9, 6),
    "updateData": Script(1, 1),
}
#: The scripts that we load ourselves, by the name of their file without number and suffix.
LOADED = {
    "moveJobFromActiveToWait": Script(9, 3),
    "getRateLimitTtl": Script(2, 1),
    "extendLocks": Script(1, 4),
    "updateProgress": Script(3, 2),
    "addLog": Script(2, 3),
    "getMetrics": Script(2, 2),
    "changeDelay": Script(4, 4),
}
#: What we call and read, and with how many arguments, the object itself included; None: an attribute or a property.
CALLED: Mapping[str, int | None] = {
    "Worker.__init__": 4,
    "Worker.runStalledJobsCheck": 1,
    "Worker.isConnectionError": 2,
    "Job.fromJSON": 3,
    "JobScheduler.__init__": 3,
    "JobScheduler.upsertJobScheduler": 6,
    "Queue.__init__": 3,
    "RedisBackend.__init__": 5,
    "RedisBackend.conn": None,
    "RedisBackend.bclient": None,
    "RedisBackend.keys": None,
    "RedisBackend.toKey": 2,
    "RedisBackend.getProcessedChildrenValues": 2,
    "RedisBackend.moveStalledJobsToWait": 3,
    "RedisConnection.__init__": 2,
    "RedisConnection.loadCommands": 1,
}
#: The names of a queue's keys that we use.
KEYS = frozenset(
    {"", "wait", "active", "prioritized", "delayed", "paused", "completed", "failed", "waiting-children", "stalled"}
    | {"stalled-check", "limiter", "meta", "pc", "marker", "events", "id", "repeat"}
)
#: What the scripts answer instead of a result.
CODES = {
    "JobNotExist": -1,
    "JobLockNotExist": -2,
    "JobNotInState": -3,
    "JobPendingDependencies": -4,
    "ParentJobNotExist": -5,
    "ParentJobCannotBeReplaced": -7,
    "JobLockMismatch": -6,
    "JobHasFailedChildren": -9,
}


@dataclass(frozen=True)
class Package:
    """The installed package, as far as we look at it."""

    version: str
    registered: Mapping[str, str]
    """Script names and the files that the package loads for them."""
    lua: Mapping[str, str]
    """Files and their text."""
    found: Mapping[str, inspect.Signature | None]
    """Those of CALLED that are there; None where it is no function."""
    keys: frozenset[str]
    codes: Mapping[str, int] = field(default_factory=dict)


def check() -> None:
    """Compare the installed package with what we rely on; log what is new.

    Raises:
        PackageRefusedError: see `judge`.
    """
    try:
        package = installed()
    except Exception as error:  # a module or a name of it is gone
        raise PackageRefusedError(f"{_title(version())} can't be used: {error} ({_remedy()})") from error
    for warning in judge(package):
        log.warning("%s", warning)


def refusal_of(version: str) -> str | None:
    """Why this version must not be used, by its number alone; None where it may. Pure."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and int(numbers[1]) == MAJOR:
        return None
    problem = "is not a version that Fleet knows" if version else "is not installed"
    return f"{_title(version)} {problem}: {_remedy()}"


def judge(package: Package) -> list[str]:
    """What to warn about. Pure.

    Raises:
        PackageRefusedError: something that we rely on is gone or has changed; the message names all of it.
    """
    if refusal := refusal_of(package.version):
        raise PackageRefusedError(refusal)
    problems = [*_scripts(package), *_calls(package), *_names(package)]
    if problems:
        raise PackageRefusedError(f"{_title(package.version)} can't be used: {'; '.join(problems)} ({_remedy()})")
    if re.match(rf"{MAJOR}\.{MINOR}\b", package.version):
        return []
    return [
        f"{_title(package.version)} is newer or older than what Fleet is tested with, {MAJOR}.{MINOR}; "
        "what we rely on is there"
    ]


def version() -> str:
    """The version of the installed package; empty where there is none."""
    try:
        return metadata.version("bullmq")
    except metadata.PackageNotFoundError:
        return ""


def installed() -> Package:
    """Look at the package. Raises ImportError, AttributeError or OSError where a part of it is not there at all."""
    from bullmq import Job, Queue, Worker
    from bullmq.backends import RedisBackend
    from bullmq.error_code import ErrorCode
    from bullmq.job_scheduler import JobScheduler
    from bullmq.queue_keys import QueueKeys
    from bullmq.redis_connection import SCRIPT_DEFINITIONS, RedisConnection, basePath

    classes = {c.__name__: c for c in (Job, JobScheduler, Queue, Worker, RedisBackend, RedisConnection)}
    found = {name: _signature(classes, name) for name in CALLED if _owner(classes, name)}
    return Package(
        version=version(),
        registered=dict(SCRIPT_DEFINITIONS),
        lua={path.name: path.read_text("utf-8") for path in (Path(basePath) / "commands").glob("*.lua")},
        found=found,
        keys=frozenset(QueueKeys("bull").getKeys("q")),
        codes={code.name: code.value for code in ErrorCode},
    )


def _owner(classes: Mapping[str, type], name: str) -> bool:
    owner, _, attribute = name.partition(".")
    return hasattr(classes[owner], attribute)


def _signature(classes: Mapping[str, type], name: str) -> inspect.Signature | None:
    owner, _, attribute = name.partition(".")
    value: Any = inspect.getattr_static(classes[owner], attribute)
    value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    return inspect.signature(value) if callable(value) else None


def _scripts(package: Package) -> list[str]:
    problems = []
    for name, script in (REGISTERED | ACTS).items():
        file = package.registered.get(name)
        problems += [f"script {name} is not registered"] if file is None else _script(package, file, script)
    for name, script in LOADED.items():
        problems += _script(package, f"{name}-{script.keys}.lua", script)
    return list(dict.fromkeys(problems))


def _script(package: Package, file: str, script: Script) -> list[str]:
    name = file.rpartition("-")[0] or file
    text = package.lua.get(file)
    if text is None:
        return [f"script {file} is not there"]
    code = re.sub(r"--\[\[.*?\]\]|--[^\n]*", "", text, flags=re.DOTALL)
    number = re.search(r"-(\d+)\.lua$", file)
    keys, read, args = int(number[1]) if number else 0, _highest("KEYS", code), _highest("ARGV", code)
    problems = []
    if keys != script.keys or read > script.keys:
        problems.append(f"script {name} takes {max(keys, read)} keys instead of {script.keys}")
    if args != script.args:
        problems.append(f"script {name} takes {args} arguments instead of {script.args}")
    options = set(re.findall(r"opts(?:\.|\[['\"])(\w+)", code))
    problems += [f"script {name} no longer reads the option {option}" for option in sorted(script.options - options)]
    return problems


def _highest(array: str, code: str) -> int:
    return max((int(n) for n in re.findall(rf"\b{array}\[(\d+)\]", code)), default=0)


def _calls(package: Package) -> list[str]:
    problems = []
    for name, count in CALLED.items():
        if name not in package.found:
            problems.append(f"{name} is not there")
        elif count is not None and not _takes(package.found[name], count):
            problems.append(f"{name} does not take what it is called with")
    return problems


def _takes(signature: inspect.Signature | None, count: int) -> bool:
    if signature is None:
        return False
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _names(package: Package) -> list[str]:
    problems = [f"key {name or '(base)'} is not there" for name in sorted(KEYS - package.keys)]
    for name, code in CODES.items():
        if package.codes.get(name) != code:
            problems.append(f"the answer {name} is {package.codes.get(name, 'not there')} instead of {code}")
    return problems


def _title(version: str) -> str:
    return f"the Python package bullmq {version}" if version else "the Python package bullmq"


def _remedy() -> str:
    return f"install bullmq {MAJOR}.{MINOR} (pip install 'bullmq>={MAJOR}.{MINOR},<{MAJOR + 1}')"
