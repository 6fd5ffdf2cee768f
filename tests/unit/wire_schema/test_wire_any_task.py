"""The stub of AnyTask: current, and of whatever types there are. tests/unit/packaging asks a type checker of it."""

from __future__ import annotations

import ast
from typing import Literal

from tasks import TASKS
from tasks.base import Task
from tasks.sms_message import SmsMessage as NodesSms
from workers.wire_schema.any_task import ANY_TASK_FILE, any_task_text


class Wave(Task):
    """One more."""

    type: Literal["wave"] = "wave"


class SmsMessage(Task):
    """Of a name that another one has."""

    type: Literal["text-message"] = "text-message"


def test_committed_stub_is_current() -> None:
    assert ANY_TASK_FILE.read_text(encoding="utf-8") == any_task_text(), "write it: fleet schema python --write"


def test_it_has_every_type_and_no_module_beside_it() -> None:
    tree = ast.parse(any_task_text())
    imported = {(each.module, each.names[0].name) for each in tree.body if isinstance(each, ast.ImportFrom)}
    assert imported == {("typing", "TypeAlias"), *((task.__module__, task.__name__) for task in TASKS.values())}
    assert not ANY_TASK_FILE.with_suffix(".py").exists()


def test_a_new_type_is_in_it_without_any_list() -> None:
    text = any_task_text({**TASKS, "wave": Wave})
    assert f"from {__name__} import Wave\n" in text
    assert "\n    | Wave\n" in text


def test_models_of_one_name_are_told_apart() -> None:
    text = any_task_text({"sms-message": NodesSms, "text-message": SmsMessage})
    assert text.endswith(
        "from tasks.sms_message import SmsMessage\n"
        f"from {__name__} import SmsMessage as SmsMessage_2\n\n"
        "AnyTask: TypeAlias = SmsMessage | SmsMessage_2\n"
    )
