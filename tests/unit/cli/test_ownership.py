"""The flat packages must be ours: `config`, `tasks`, `registry` and `workers` exist elsewhere too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.cli import ownership
from workers.cli.ownership import PACKAGES, strangers

HOME = Path(ownership.__file__).resolve().parents[2]


def located(**elsewhere: Path | None) -> Callable[[str], Path | None]:
    places: dict[str, Path | None] = {name: HOME / name for name in PACKAGES}
    return {**places, **elsewhere}.__getitem__


def test_packages_beside_this_one_are_ours() -> None:
    assert strangers(located()) is None
    assert strangers(located(config=HOME / "workers" / ".." / "config")) is None
    assert strangers() is None


def test_linked_package_is_ours(tmp_path: Path) -> None:
    link = tmp_path / "tasks"
    link.symlink_to(HOME / "tasks")
    assert strangers(located(tasks=link)) is None


@pytest.mark.parametrize("name", PACKAGES)
def test_foreign_package_is_named_with_its_place_and_the_fix(name: str) -> None:
    error = strangers(located(**{name: Path("/site-packages") / name}))
    assert error is not None
    assert f"{name} is /site-packages/{name}." in error
    assert "environment of its own" in error


def test_all_strangers_are_named_at_once() -> None:
    error = strangers(located(tasks=None, config=Path("/elsewhere/config")))
    assert error is not None
    assert "config is /elsewhere/config, tasks is missing." in error


def test_foreign_folder_earlier_on_the_path_is_found(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").touch()
    code = "from workers.cli.ownership import strangers; print(strangers())"
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; "
    told = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True).stdout
    assert f"tasks is {tmp_path}/tasks." in told
