"""The conformance table says what the tests found, and holds every feature that they try."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conform.table import Column, Outcome, Result, render, verdict

ROOT = Path(__file__).parents[3]
OLD, NEW = Column("5.53.2", "Valkey 9.1"), Column("6.7.0", "Valkey 9.1")


@pytest.mark.parametrize(
    ("outcomes", "counts"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "failed", "skipped"], "failed"),
        (["skipped", "passed"], "passed"),
        (["skipped"], "skipped"),
        ([], ""),
    ],
)
def test_one_failure_counts_and_then_one_success(outcomes: list[Outcome], counts: str) -> None:
    assert verdict(outcomes) == counts


def test_groups_stand_in_the_order_of_the_documentation_and_are_named_once() -> None:
    results = [
        Result("Flows", "b", NEW, "passed"),
        Result("Else", "z", NEW, "failed"),
        Result("Flows", "a | b", OLD, "skipped"),
        Result("Flows", "a | b", NEW, "passed"),
        Result("Jobs", "add", OLD, "passed"),
        Result("Jobs", "add", NEW, "passed"),
    ]
    rows = [line for line in render(results, [OLD, NEW]).splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| Jobs | add | yes | yes |",
        "| Flows | b | not run | yes |",
        "|  | a \\| b | – | yes |",
        "| Else | z | not run | **NO** |",
    ]


def test_sums_leave_out_what_was_not_tried() -> None:
    results = [
        Result("Jobs", "a", OLD, "skipped"),
        Result("Jobs", "b", OLD, "passed"),
        Result("Jobs", "c", OLD, "failed"),
    ]
    assert render(results, [OLD]).splitlines()[-1] == "- bullmq 5.53.2, Valkey 9.1: 1 of 2"


def marked() -> set[tuple[str, str]]:
    """(group, feature) of every mark in the interop tests."""
    found = set()
    for path in (ROOT / "tests" / "interop").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) == "conform"
            ):
                group, feature = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
                found.add((str(group), str(feature)))
    return found


def test_table_holds_every_feature_that_is_tried_and_no_other() -> None:
    """Else: make conform."""
    text = (ROOT / "tests" / "conform" / "results" / "conformance.md").read_text("utf-8")
    rows, group = set(), ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[1] not in ("feature", "---"):
            group = cells[0] or group
            rows.add((group, cells[1]))
    assert rows == marked()
    assert "| **NO** |" not in text and "not run" not in text
