"""What pydantic itself writes of a task is JSON that `decode` understands as the same task."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks.allocation import Allocation
from tasks.base import Envelope, Task
from tasks.codec import decode, encode
from tasks.llm_completion import LlmCompletion
from tasks.run_config import RunLimits
from tasks.session_user import SessionUser
from tasks.vintage import EvolvedTask
from tests.unit.tasks.producers import PRODUCERS
from tests.unit.tasks.wire_data import EXAMPLES, SHAPES, of_shape, same

JOBS = [(each.name, each.data) for each in PRODUCERS] + [(str(n), job["data"]) for n, job in enumerate(EXAMPLES)]
each_job = pytest.mark.parametrize("data", [data for _, data in JOBS], ids=[name for name, _ in JOBS])
QUICK = (Phase.explicit, Phase.generate, Phase.shrink)


def newest(task: Task) -> dict[str, Any]:
    """Its data in the newest shape."""
    return encode(task.renewed() if isinstance(task, EvolvedTask) else task)


@each_job
def test_dump_is_the_wire_form_of_the_same_task(data: dict[str, Any]) -> None:
    task = decode(data)
    assert json.loads(task.model_dump_json(exclude_unset=True)) == newest(task)
    assert task.model_dump(mode="json", exclude_unset=True) == newest(task)
    again = decode(json.loads(task.model_dump_json()))
    assert again == task


@pytest.mark.parametrize("amount", [0, 7, -(10**30), 2**63, 10**99, "unlimited"])
def test_credits_are_strings_in_it(amount: Any) -> None:
    bounds = Allocation(max_credits=amount, max_duration_ms=1, max_memory_mb=0.5, max_concurrent_steps=1)
    user = SessionUser(id="1", credits=amount)
    task = LlmCompletion(id="1", chat_id="c", message_id="m", user_data=user, allocation=bounds)
    for dumped in (json.loads(task.model_dump_json()), task.model_dump(mode="json"), encode(task)):
        assert dumped["allocation"]["maxCredits"] == dumped["userData"]["credits"] == str(amount)
        assert decode(dumped) == task
    assert json.loads(RunLimits(max_credits=amount).model_dump_json())["maxCredits"] == str(amount)
    assert task.model_dump()["allocation"]["maxCredits"] == amount  # in Python it is what it was
    assert Allocation.model_validate_json(bounds.model_dump_json()) == bounds


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@settings(deadline=None, max_examples=25, phases=QUICK, database=None)
@given(st.data())
def test_whatever_pydantic_can_write_is_what_encode_writes(shape: type[Envelope], data: st.DataObject) -> None:
    task = decode(data.draw(of_shape(shape)))
    wire = newest(task)
    if r"\ud" not in json.dumps(wire):  # a lone surrogate: pydantic refuses it in a value, and spoils it in a name
        assert same(json.loads(task.model_dump_json(exclude_unset=True)), finite(wire))


def finite(value: Any) -> Any:
    """The same with null for what is no number in JSON."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [*map(finite, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
