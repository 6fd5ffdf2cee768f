"""A cursor says where a list goes on, to nobody but the list that it is of."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.job_reader import MAX_ANCHORS, Mark
from workers.queue_service import cursor
from workers.queue_service.cursor import MAX_CHARS, Place
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.filter import STATES

TEXT = st.text(max_size=40)


def read(text: str, of: str = "q all jobs") -> Place:
    return cursor.read(text, of=of, order="newest", states=STATES)


MARKS = st.one_of(
    st.none(),
    st.builds(Mark, score=st.floats(allow_nan=False).map(repr), job_id=st.none() | TEXT),
    st.builds(
        Mark,
        place=st.integers(0, 2**40),
        length=st.integers(0, 2**40),
        anchors=st.lists(TEXT, max_size=MAX_ANCHORS).map(tuple),
    ),
)


@settings(deadline=None)
@given(st.sampled_from(STATES), MARKS)
def test_cursor_is_read_as_it_was_written(state: str, mark: Mark | None) -> None:
    text = cursor.write(Place(state, mark), of="q all jobs", order="newest")
    assert read(text) == Place(state, mark)
    assert text.isascii() and "=" not in text


def test_cursor_is_good_for_its_own_list_alone() -> None:
    text = cursor.write(Place("failed"), of="q all jobs", order="newest")
    for other in (
        {"of": "other all jobs", "order": "newest", "states": STATES},
        {"of": "q all jobs", "order": "oldest", "states": STATES},
        {"of": "q all jobs", "order": "newest", "states": ("active",)},
    ):
        with pytest.raises(InvalidRequestError, match="cursor: is of another list"):
            cursor.read(text, **other)  # type: ignore[arg-type]


def forged(parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


DIGEST = json.loads(base64.urlsafe_b64decode(cursor.write(Place("active"), of="q all jobs", order="newest") + "=="))[1]


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "%%%", "é", "A" * (MAX_CHARS + 1), "AA==\n"),
        forged([]),
        forged({}),
        forged(None),
        forged([1]),
        forged([2, DIGEST, "active"]),
        forged([1, DIGEST, "active", "1"]),
        forged([1, DIGEST, "active", 1, "", 0, 0, []]),
        forged([1, DIGEST, "active", "nan", "", 0, 0, []]),
        forged([1, DIGEST, "active", "(5", "", 0, 0, []]),
        forged([1, DIGEST, "active", "e", "", 0, 0, []]),
        forged([1, DIGEST, "active", "", 5, 0, 0, []]),
        forged([1, DIGEST, "active", "", "", -1, 0, []]),
        forged([1, DIGEST, "active", "", "", 1.5, 0, []]),
        forged([1, DIGEST, "active", "", "", True, 0, []]),
        forged([1, DIGEST, "active", "", "", 2**60, 0, []]),
        forged([1, DIGEST, "active", "", "", 0, 0, [1]]),
        forged([1, DIGEST, "active", "", "", 0, 0, ["a"] * (MAX_ANCHORS + 1)]),
        forged([1, DIGEST, "active", "", "", 0, 0, "abc"]),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[" * 4000).decode(),
    ],
)
def test_forged_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="cursor: is none that a page ended with"):
        read(text)


@settings(deadline=None)
@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        read(text)
