"""How task types are found, and what is refused there."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

import pytest

from tasks import TASKS, collect
from tasks.base import Task
from tasks.email_send import EmailSend


def module(**members: Any) -> ModuleType:
    """A module that defines these."""
    made = ModuleType("tasks.made_up")
    for name, member in members.items():
        if isinstance(member, type):
            member.__module__ = made.__name__
        setattr(made, name, member)
    return made


def test_email_is_found_by_its_type() -> None:
    assert TASKS["email-send"] is EmailSend
    assert all(model.type_name() == name for name, model in TASKS.items())


def test_mapping_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TASKS["x"] = EmailSend  # type: ignore[index]


def test_new_module_is_enough_and_bases_are_left_out() -> None:
    class Timed(Task):
        created_at: str

    class Wave(Timed):
        type: Literal["wave"] = "wave"

    assert collect([module(Timed=Timed, Wave=Wave, Task=Task, other=7)]) == {"wave": Wave}


def test_imported_model_is_not_taken_twice() -> None:
    importing = ModuleType("tasks.importing")
    importing.EmailSend = EmailSend  # type: ignore[attr-defined]
    assert collect([importing]) == {}


def test_two_models_for_one_type_are_refused() -> None:
    class One(Task):
        type: Literal["wave"] = "wave"

    class Two(Task):
        type: Literal["wave"] = "wave"

    with pytest.raises(TypeError, match=r"made_up\.Two: type 'wave' is already taken by tasks\.made_up\.One"):
        collect([module(One=One, Two=Two)])


def test_literal_without_its_default_is_refused() -> None:
    class NoDefault(Task):
        type: Literal["wave"]

    with pytest.raises(TypeError, match=r"made_up\.NoDefault: declare `type: Literal\["):
        collect([module(NoDefault=NoDefault)])


def test_two_literals_are_refused() -> None:
    class Both(Task):
        type: Literal["wave", "ripple"] = "wave"

    with pytest.raises(TypeError, match="one literal and its default"):
        collect([module(Both=Both)])
