from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from config.units import HUMAN, Backoff, Bytes, Fraction, Keep, Rate, Seconds

COUNTS = st.integers(1, 1_000_000_000)
SPANS = st.floats(min_value=0.001, max_value=315_360_000)
RATES = st.builds(Rate, count=COUNTS, per_s=SPANS)
KEEPS = st.one_of(
    st.builds(Keep, age_s=st.none() | st.integers(1, 315_360_000), count=st.none() | COUNTS),
    st.just(Keep(None, 0)),
)
BACKOFFS = st.one_of(
    st.just(Backoff(0.0, 1.0, None)),
    st.builds(Backoff, delay_s=SPANS, factor=st.floats(1, 100), max_s=st.none()),
    st.builds(Backoff, delay_s=SPANS, factor=st.floats(1, 100), max_s=st.just(315_360_000.0)),
)


class Sample(BaseModel):
    timeout: Seconds
    size: Bytes
    share: Fraction
    rate: Rate
    keep: Keep
    backoff: Backoff


SAMPLES = st.builds(
    Sample,
    timeout=SPANS,
    size=st.integers(1, 1 << 50),
    share=st.floats(min_value=1e-9, max_value=1),
    rate=RATES,
    keep=KEEPS,
    backoff=BACKOFFS,
)


@given(SAMPLES)
def test_json_and_human_form_read_back_as_the_same_values(sample: Sample) -> None:
    assert Sample.model_validate_json(sample.model_dump_json()) == sample
    assert Sample.model_validate(sample.model_dump()) == sample
    assert Sample.model_validate(sample.model_dump(mode="json", context=HUMAN)) == sample


def test_human_form_is_what_people_write() -> None:
    sample = Sample.model_validate(
        {"timeout": 30, "size": 4_194_304, "share": 0.05, "rate": "500/60s", "keep": "1d/5000", "backoff": "2s x2.0"}
    )
    assert sample.model_dump(context=HUMAN) == {
        "timeout": "30s",
        "size": "4MB",
        "share": "5%",
        "rate": "500/1m",
        "keep": "24h/5000",
        "backoff": "2s x2",
    }


@pytest.mark.parametrize(
    ("text", "rate"), [("500/1m", Rate(500, 60.0)), (" 1/250ms ", Rate(1, 0.25)), ("5/1h30m", Rate(5, 5400.0))]
)
def test_rate_is_a_count_and_a_span(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "wrong", ["500", 500, "500/m", "0/1m", "-5/1m", "5/0s", "1e3/1m", "", None, True, ["5/1m"], "9" * 11 + "/1s"]
)
def test_wrong_rate_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a (rate like 500/1m|duration)"):
        Rate.parse(wrong)


@pytest.mark.parametrize(
    ("text", "keep", "stored"),
    [
        ("24h/5000", Keep(86_400, 5000), {"age": 86_400, "count": 5000}),
        ("24h", Keep(86_400, None), {"age": 86_400}),
        ("5000", Keep(None, 5000), {"count": 5000}),
        (5000, Keep(None, 5000), {"count": 5000}),
        ("forever", Keep(None, None), False),
        ("none", Keep(None, 0), True),
        (0, Keep(None, 0), True),
        ("0", Keep(None, 0), True),
    ],
)
def test_retention_becomes_what_bullmq_stores(text: Any, keep: Keep, stored: Any) -> None:
    assert Keep.parse(text) == keep
    assert Keep.parse(text).to_bullmq() == stored


@pytest.mark.parametrize(
    "wrong", ["24h/", "/5000", "24h/0", "1.5s", "250ms/5", "", "always", None, True, -1, 2_000_000_000, 1.5]
)
def test_wrong_retention_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected a retention like 24h/5000, 24h, 5000, forever or none"):
        Keep.parse(wrong)


@pytest.mark.parametrize(
    ("text", "backoff"),
    [
        ("10s", Backoff(10.0, 1.0, None)),
        (10, Backoff(10.0, 1.0, None)),
        ("10", Backoff(10.0, 1.0, None)),
        ("2s x2", Backoff(2.0, 2.0, None)),
        ("2s x1.5", Backoff(2.0, 1.5, None)),
        ("2s x2 max 5m", Backoff(2.0, 2.0, 300.0)),
        ("none", Backoff(0.0, 1.0, None)),
    ],
)
def test_backoff_is_first_wait_factor_and_bound(text: Any, backoff: Backoff) -> None:
    assert Backoff.parse(text) == backoff


@pytest.mark.parametrize(
    "wrong", ["2s x", "x2", "2s 2", "2s x0.5", "2s x101", "2s max 5m", "5m x2 max 2s", "", None, True, {}, "0s"]
)
def test_wrong_backoff_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a (backoff like|duration from)"):
        Backoff.parse(wrong)


@given(st.none() | st.booleans() | st.text() | st.integers() | st.floats() | st.lists(st.text()) | st.binary())
def test_any_other_value_is_one_clear_error(value: Any) -> None:
    for unit in (Rate, Keep, Backoff):
        try:
            unit.parse(value)
        except ValueError as error:
            assert str(error).startswith("expected ")


def test_model_error_names_the_field_and_the_form() -> None:
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate(
            {"timeout": "abc", "size": "4MB", "share": "5%", "rate": "500/1m", "keep": "none", "backoff": "10s"}
        )
    (error,) = caught.value.errors()
    assert error["loc"] == ("timeout",)
    assert error["msg"] == "expected a duration like 30s, 5m or 1h30m, found 'abc'"


def test_every_unit_has_a_json_schema_with_examples() -> None:
    for name, schema in Sample.model_json_schema()["properties"].items():
        assert schema["examples"], name
        forms = schema.get("anyOf", [schema])
        assert any("pattern" in form for form in forms), name
