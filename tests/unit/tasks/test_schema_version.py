"""What a worker cannot read yet is told from what nobody ever will."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest

from tasks import TASKS
from tasks.base import Task
from tasks.codec import DecodeError, NewerSchema, TooNewError, UnknownTaskType, WireError, decode, encode
from tasks.number import MAX_SAFE
from tests.unit.tasks.wire_data import EXAMPLES


class Tide(Task):
    """A task in the third version of its shape."""

    KNOWN_SCHEMA: ClassVar[int] = 3
    type: Literal["tide"] = "tide"
    height: int


def tide(**fields: Any) -> dict[str, Any]:
    return {"type": "tide", "id": "1", "height": 2, **fields}


@pytest.mark.parametrize("version", [1, 2, 3, None])
def test_versions_up_to_the_known_one_are_read_and_written_back(version: int | None) -> None:
    data = tide(schemaVersion=version)
    assert encode(decode(data, {"tide": Tide})) == data


def test_no_version_is_needed_and_none_is_added() -> None:
    task = decode(tide(), {"tide": Tide})
    assert task.schema_version is None
    assert encode(task) == tide()


@pytest.mark.parametrize("version", [4, MAX_SAFE, 10**30])
def test_newer_version_is_no_invalid_data(version: int) -> None:
    with pytest.raises(NewerSchema) as error:
        decode(tide(schemaVersion=version, height="whatever it is then"), {"tide": Tide})
    assert isinstance(error.value, TooNewError)
    assert not isinstance(error.value, DecodeError)
    assert (error.value.name, error.value.version, error.value.known) == ("tide", version, 3)
    assert str(error.value).startswith("data.schemaVersion: expected at most 3 for tide, found ")
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("version", ["4", 4.0, True, 0, -1, [4], {"major": 4}, float("nan")])
def test_version_that_is_none_is_invalid_data(version: Any) -> None:
    with pytest.raises(DecodeError) as error:
        decode(tide(schemaVersion=version), {"tide": Tide})
    assert error.value.path == "data.schemaVersion"


def test_unknown_type_and_newer_version_are_one_kind_of_error() -> None:
    with pytest.raises(UnknownTaskType) as error:
        decode(tide(schemaVersion=9), TASKS)
    assert isinstance(error.value, TooNewError)
    assert issubclass(TooNewError, WireError)
    assert not issubclass(TooNewError, DecodeError)


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_every_type_and_shape_has_a_version(job: dict[str, Any]) -> None:
    first = job["data"] | {"schemaVersion": 1}
    assert encode(decode(first)) == first
    with pytest.raises(NewerSchema):
        decode(job["data"] | {"schemaVersion": 2})
