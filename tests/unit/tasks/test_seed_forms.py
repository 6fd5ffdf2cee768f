"""What the seed suggests as good practice: idempotency keys, mails from templates, bounds and time-outs."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.codec import DecodeError, decode, encode
from tasks.email_send import EmailSend
from tasks.ids import job_id_for
from tests.unit.tasks.wire_data import EXAMPLES

#: The seed's IdempotentEmailTask: no id, no subject, no text.
SEEDS = {
    "type": "email-send",
    "idempotencyKey": "welcome-k3j9x0ab12cd",
    "to": ["dana@example.com"],
    "template": "welcome",
    "data": {"name": "Dana", "n": 10**30, "nested": {"__proto__": [None, 1.5]}},
}
RENDERED = {"type": "email-send", "id": "1", "to": ["dana@example.com"], "subject": "s", "text": "t"}


def test_key_alone_is_the_id_and_none_is_written() -> None:
    task = decode(SEEDS)
    assert isinstance(task, EmailSend)
    assert (task.id, task.idempotency_key) == ("welcome-k3j9x0ab12cd", "welcome-k3j9x0ab12cd")
    assert (task.template, task.data, task.subject, task.text, task.html) == ("welcome", SEEDS["data"], "", "", None)
    assert job_id_for(task) == "welcome-k3j9x0ab12cd"
    assert encode(task) == SEEDS


def test_key_beside_an_id_leaves_it() -> None:
    task = decode(SEEDS | {"id": "7"})
    assert (task.id, task.idempotency_key) == ("7", "welcome-k3j9x0ab12cd")
    assert encode(task) == SEEDS | {"id": "7"}


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_every_type_and_shape_may_have_a_key_and_a_timeout(job: dict[str, Any]) -> None:
    data = job["data"] | {"idempotencyKey": "once", "timeout": 1500.5}
    task = decode(data)
    assert (task.idempotency_key, task.timeout) == ("once", 1500.5)
    assert encode(task) == data
    if data["type"] != "notification-create":  # its id is the primary key
        del data["id"]
        assert decode(data).id == "once"
        assert encode(decode(data)) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"idempotencyKey": None}, "data.id: expected a string, found nothing"),
        ({"idempotencyKey": 7}, None),
        ({"id": None}, "data.id: expected a string, found null"),
        ({"text": "t"}, 'data.text: expected nothing beside a template, found "t" (string)'),
        ({"html": "<p>"}, 'data.html: expected nothing beside a template, found "<p>" (string)'),
        ({"template": 7}, "data.template: expected a string, found 7 (integer)"),
        ({"data": [1]}, "data.data: expected an object, found a list of 1"),
        (
            {"template": None},
            "data.subject: expected a string, found nothing; data.text: expected a string, found nothing",
        ),
    ],
)
def test_wrong_mail_from_a_template_is_named_by_its_field(change: dict[str, Any], message: str | None) -> None:
    with pytest.raises(DecodeError) as error:
        decode(SEEDS | change)
    if message is not None:
        assert str(error.value) == message
    else:
        assert {each.path for each in error.value.problems} == {"data.id", "data.idempotencyKey"}


def test_subject_may_stand_beside_a_template_and_empty_texts_too() -> None:
    for data in (SEEDS | {"subject": "Hello"}, SEEDS | {"text": "", "html": ""}, SEEDS | {"html": None}):
        assert encode(decode(data)) == data


def test_rendered_mail_may_carry_data_that_nobody_reads() -> None:
    data = RENDERED | {"data": {"name": "Dana"}, "template": None}
    assert encode(decode(data)) == data


@pytest.mark.parametrize("timeout", ["30s", True, [1], float("nan"), float("inf"), 2**53, -(2**53)])
def test_timeout_that_is_no_number_is_refused(timeout: Any) -> None:
    with pytest.raises(DecodeError) as error:
        decode(RENDERED | {"timeout": timeout})
    assert (error.value.path, error.value.expected) == ("data.timeout", "a number")


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ({"maxCredits": "1000"}, "data.config.resources.maxCredits"),
        ({"maxCredits": -1}, "data.config.resources.maxCredits"),
        ({"maxTokens": 1.5}, "data.config.resources.maxTokens"),
        ({"maxTime": 2**53}, "data.config.resources.maxTime"),
        ({"tools": [{"description": "x"}]}, "data.config.resources.tools.0.name"),
    ],
)
def test_bounds_of_a_flat_swarm_are_checked(resources: dict[str, Any], path: str) -> None:
    flat = next(job["data"] for job in EXAMPLES if "config" in job["data"] and "swarmId" in job["data"])
    with pytest.raises(DecodeError) as error:
        decode(flat | {"config": {"goal": "g", "resources": resources}})
    assert error.value.path == path


@pytest.mark.parametrize(
    "amount", ["0", "-1", "98000000", "9" * 100, "-" + "9" * 100, "unlimited", str(2**63), str(2**200)]
)
def test_credits_are_big_integers_in_strings_and_come_back_digit_by_digit(amount: str) -> None:
    data = next(job["data"] for job in EXAMPLES if job["data"]["type"] == "llm-completion")
    data = data | {"allocation": data["allocation"] | {"maxCredits": amount}}
    task: Any = decode(data)
    assert task.allocation.max_credits == (amount if amount == "unlimited" else int(amount))
    assert encode(task) == data


@pytest.mark.parametrize(
    "amount",
    [5, 5.0, "", "5.0", "1e3", "+5", "05", "-0", " 5", "5n", "0x5", "٥", "NaN", "Unlimited", "9" * 101, True, [5]],
)
def test_credits_in_any_other_form_are_refused(amount: Any) -> None:
    data = next(job["data"] for job in EXAMPLES if job["data"]["type"] == "llm-completion")
    with pytest.raises(DecodeError) as error:
        decode(data | {"allocation": data["allocation"] | {"maxCredits": amount}})
    assert error.value.path == "data.allocation.maxCredits"
    assert error.value.expected == 'an integer in a string, or "unlimited"'
