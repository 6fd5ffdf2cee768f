"""A pytest plugin that writes down how the marked tests ended: one JSON line each, in the file that FLEET_CONFORM
names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_OUTCOMES = pytest.StashKey[list[str]]()
#: The worst of set-up, call and tear-down is a test's outcome.
_WORST = ("failed", "skipped", "passed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    outcomes: list[str] = item.stash.setdefault(_OUTCOMES, [])
    outcomes.append(report.outcome)  # type: ignore[attr-defined]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write all of them."""
    lines = []
    for item in session.items:
        marker = item.get_closest_marker("conform")
        outcomes = item.stash.get(_OUTCOMES, [])
        if marker is None or not outcomes:
            continue
        outcome = next(worst for worst in _WORST if worst in outcomes)
        callspec = getattr(item, "callspec", None)
        if callspec is not None and "bullmq" in callspec.params:
            lines.append(json.dumps([*marker.args, callspec.params["bullmq"], outcome]))
        else:  # a test that uses npm bullmq 6 alone, because 5 has not the feature
            lines += [json.dumps([*marker.args, *cell]) for cell in ((5, "skipped"), (6, outcome))]
    Path(os.environ["FLEET_CONFORM"]).write_text("\n".join(lines), "utf-8")
