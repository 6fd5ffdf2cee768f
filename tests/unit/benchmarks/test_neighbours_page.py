"""What the show of neighbours tells: shares of latencies, what counts as a fault, and a page that hides none."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from config.schema import FleetConfig
from tests.benchmarks.neighbourhood.acts import SCENES, Scene, configuration, shortened
from tests.benchmarks.neighbourhood.page import Played, Shown, milliseconds, page, share_of
from tests.chaos import hostile_module
from tests.hostile.acts import ACTS

SCENE = SCENES[0]
FINE = Shown(title="sulks", expected="completed", ends=("completed",), classes=(), mails_s=(0.01, 0.02, 0.3))


@pytest.mark.parametrize(
    ("count", "share", "found"),
    [(0, 0.99, 0.0), (1, 0.99, 1.0), (10, 0.99, 10.0), (100, 0.99, 99.0), (200, 0.5, 100.0)],
)
def test_share_is_a_value_that_was_measured(count: int, share: float, found: float) -> None:
    assert share_of([float(number) for number in range(count, 0, -1)], share) == found


def test_figures_are_median_share_and_most() -> None:
    assert milliseconds([0.01] * 98 + [0.2, 1.5]) == "10.0 / 200 / 1,500"
    assert milliseconds([]) == "none arrived"


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.title)
def test_scene_is_a_configuration_and_its_acts_exist(scene: Scene) -> None:
    config = FleetConfig.model_validate(configuration(scene, "redis://x", "smtp://127.0.0.1:25"))
    hostile = config.queues["hostile"]
    assert hostile.module == hostile_module.__name__
    assert hostile.task.isolation == scene.isolation
    assert {act.act for act in scene.acts} <= ACTS.keys()
    assert all(re.compile(act.ends) for act in scene.acts)
    assert len(shortened(scene, 2).acts) == 2


@pytest.mark.parametrize(
    ("played", "faults"),
    [
        (Played(SCENE, acts=[FINE]), []),
        (Played(SCENE, acts=[replace(FINE, ends=("completed", "failed: no"))]), ["sulks: ended as "]),
        (Played(SCENE, acts=[replace(FINE, ends=())]), ["sulks: ended as "]),
        (Played(SCENE, lost=2), ["2 mails lost"]),
        (Played(SCENE, twice=1), ["1 mails sent twice"]),
        (Played(replace(SCENE, isolation="async"), twice=1), []),  # it kills the process of the mails
        (Played(SCENE, exit_code=1), ["the fleet ended with 1"]),
    ],
)
def test_fault_is_named_and_stands_on_the_page(played: Played, faults: list[str]) -> None:
    found = played.faults()
    assert len(found) == len(faults)
    assert all(part in fault for part, fault in zip(faults, found, strict=True))
    assert all(fault in page([played], "") for fault in found)


def test_reason_breaks_no_table() -> None:
    shown = replace(FINE, ends=("failed: a|b\nc " + "x" * 200,), expected="failed", classes=("permanent", "permanent"))
    (line,) = [line for line in page([Played(SCENE, acts=[shown])], "").split("\n") if line.startswith("| sulks")]
    assert "a\\|b c" in line
    assert line.count(" | ") == 5
    assert "| permanent |" in line
    assert "NOT AS EXPECTED" not in line
