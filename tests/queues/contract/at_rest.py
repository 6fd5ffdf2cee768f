"""What every queue module keeps that can be seen without opening it."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

import tasks
from tasks.codec import DecodeError, decode, encode
from tests.queues.contract.case import Case
from tests.queues.contract.exceptions import EXCEPTIONS
from workers.contract import FailureClass, Verdict

#: What a module may import of this project, besides its own folder.
ALLOWED = ("tasks", "workers.clients", "workers.contract")
#: What it may import of nobody.
FORBIDDEN = ("config", "registry", "redis", "bullmq", "workers", "tests")


async def type_is_the_queues(case: Case) -> None:
    """The task's `type` literal names the module and its queue."""
    assert case.module.task.type_name() == case.queue, f"type: '{case.module.task.type_name()}', not '{case.queue}'"
    assert get_args(case.module.task.model_fields["type"].annotation) == (case.queue,), (
        f"type: expected Literal['{case.queue}']"
    )


async def imports_nothing_forbidden(case: Case) -> None:
    """It sees the contract, the clients and the tasks; its host is none of its business."""
    own = f"workers.queues.{case.queue.replace('-', '_')}"
    for file in sorted(case.sources.rglob("*.py")) if case.sources.is_dir() else [case.sources]:
        for name in _imports(file):
            fine = any(_within(name, each) for each in (*ALLOWED, own))
            assert fine or not any(_within(name, each) for each in FORBIDDEN), f"{file.name} imports {name}"


async def options_refuse_what_they_do_not_know(case: Case) -> None:
    """A key that is misspelt in YAML is an error that names it, at any depth."""
    async with case.surroundings() as example:
        options = case.module.options.model_validate(example.options)
        for path, model in _models(options):
            with pytest.raises(ValidationError) as refused:
                type(model).model_validate({**model.model_dump(), "no_such_key": 1})
            located = [error["loc"] for error in refused.value.errors()]
            assert ("no_such_key",) in located, f"options{path} take keys that they don't know"


async def options_show_no_secret(case: Case) -> None:
    """Neither the options nor what is wrong with them show what is secret in them."""
    async with case.surroundings() as example:
        options = case.module.options.model_validate(example.options)
        with pytest.raises(ValidationError) as refused:
            case.module.options.model_validate({**example.options, "no_such_key": "".join(example.secrets) or 1})
        shown = (repr(options), str(options), f"{options}", str(refused.value), options.model_dump_json())
        for text in shown:
            for secret in example.secrets:
                assert secret not in text, f"a secret is shown in {text.replace(secret, '<the secret>')}"


async def classify_is_total_and_pure(case: Case) -> None:
    """It has an opinion of every exception, always the same, and changes nothing."""
    for make in EXCEPTIONS:
        error = make()
        before = (error.args, dict(vars(error)))
        said = [case.module.classify(error) for _ in range(2)]
        name = type(error).__name__
        assert said[0] == said[1], f"classify says two things of one {name}"
        assert (error.args, dict(vars(error))) == before, f"classify changes a {name}"
        check_verdict(said[0], name)


async def decodes_its_fixtures(case: Case) -> None:
    """What the Node stack adds is understood, whole; and what is broken is refused."""
    types = {case.queue: case.module.task}
    async with case.surroundings() as example:
        for data in case.jobs(example):
            task = decode(data, types)
            assert isinstance(task, case.module.task), f"decoded as {type(task).__name__}"
            assert encode(task) == data, "a job changes on its way through the task"
            for broken in ({**data, "id": 7}, {**data, "id": None}, {"type": case.queue}):
                with pytest.raises(DecodeError):
                    decode(broken, types)


async def type_is_known_to_others_if_tasks_has_it(case: Case) -> None:
    """Where `tasks` has a model for its type, that is the one."""
    known = tasks.TASKS.get(case.queue, case.module.task)
    assert known is case.module.task, f"task: {case.module.task.__name__}, although tasks has {known.__name__} for it"


def check_verdict(verdict: object, name: str) -> None:
    """It is a Verdict that its host can go by."""
    assert isinstance(verdict, Verdict), f"classify says {verdict!r} of a {name}, which is no Verdict"
    wait = verdict.retry_after_s
    assert isinstance(verdict.retry, bool), f"retry: {verdict.retry!r} of a {name}"
    assert wait is None or (isinstance(wait, int | float) and math.isfinite(wait) and wait >= 0), f"waits {wait}"
    assert verdict.failure is None or verdict.failure in get_args(FailureClass), f"no class: {verdict.failure}"


def _models(value: Any, path: str = "") -> Iterator[tuple[str, BaseModel]]:
    """The options and all models in them."""
    if isinstance(value, BaseModel):
        yield path, value
        for field in type(value).model_fields:
            yield from _models(getattr(value, field), f"{path}.{field}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _models(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _models(item, f"{path}[]")


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file.name}: a relative import, whose name can't be told"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")
