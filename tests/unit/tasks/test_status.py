"""Node's words for a task's state, and BullMQ's."""

from __future__ import annotations

import pytest

from tasks.status import TaskStatus, node_answer, status_of, status_of_state

#: All that BullMQ's getState can answer.
STATES = {
    "completed": "Completed",
    "failed": "Failed",
    "delayed": "Scheduled",
    "active": "Running",
    "prioritized": "Scheduled",
    "waiting": "Scheduled",
    "wait": "Scheduled",
    "waiting-children": "Running",
    "paused": "Paused",
}


def test_the_words_are_nodes() -> None:
    words = {"Canceling", "Completed", "Failed", "Paused", "Running", "Scheduled", "Suggested"}
    assert {each.value for each in TaskStatus} == words


@pytest.mark.parametrize(("state", "word"), STATES.items())
def test_each_state_of_bullmq_has_a_word(state: str, word: str) -> None:
    assert status_of_state(state) == TaskStatus(word)


@pytest.mark.parametrize("state", ["unknown", "", "Active", "stalled"])
def test_no_state_has_no_word(state: str) -> None:
    assert status_of_state(state) is None


@pytest.mark.parametrize("said", ["Canceling", "canceling", "CANCELING", "cancelinG"])
def test_case_does_not_matter(said: str) -> None:
    assert status_of(said) is TaskStatus.CANCELING


@pytest.mark.parametrize("said", [None, 7, "", "cancelled", ["Running"], "Running "])
def test_what_is_none_of_nodes_words_means_nothing(said: object) -> None:
    assert status_of(said) is None


def test_two_ask_to_stop_and_two_are_final() -> None:
    assert {each for each in TaskStatus if each.asks_to_stop} == {TaskStatus.CANCELING, TaskStatus.SUGGESTED}
    assert {each for each in TaskStatus if each.is_final} == {TaskStatus.COMPLETED, TaskStatus.FAILED}


@pytest.mark.parametrize(
    ("said", "state", "answer"),
    [
        ("Scheduled", "completed", "Scheduled"),  # Node never rewrites it
        ("running", "waiting", "Running"),
        (None, "completed", "Completed"),
        (None, "waiting-children", "Waiting-children"),
        (None, "prioritized", "Prioritized"),
        ("", "active", "Active"),
        (7, "active", "Active"),
        ("Running", "unknown", None),
        ("Running", None, None),
    ],
)
def test_answer_is_the_one_node_gives(said: object, state: str | None, answer: str | None) -> None:
    assert node_answer(said, state) == answer
