"""Queue modules are found by folder; a broken one is named with the fix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers import queues
from workers.contract import QueueModule
from workers.queues import QueueModuleError, available, discover

AddFolder = Callable[[str, str], None]


@pytest.fixture
def add_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddFolder]:
    """Adds a folder with this __init__.py to workers/queues, for the test."""
    monkeypatch.setattr(queues, "__path__", [*queues.__path__, str(tmp_path)])
    before = set(sys.modules)

    def add(name: str, source: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)

    yield add
    for name in set(sys.modules) - before:
        if name.startswith("workers.queues."):
            del sys.modules[name]


def test_email_is_served() -> None:
    assert "email-send" in available()
    modules = discover(["email-send"])
    assert list(modules) == ["email-send"]
    assert isinstance(modules["email-send"], QueueModule)
    assert modules["email-send"].task.type_name() == "email-send"


def test_every_folder_is_a_sound_module() -> None:
    assert discover().keys() == available()


def test_new_folder_is_enough(add_folder: AddFolder) -> None:
    add_folder(
        "wave_send",
        "from typing import Literal\n"
        "from tasks.base import Task\n"
        "from workers.contract import QueueModule\n"
        "from workers.queues.email_send import MODULE as email\n"
        "class Wave(Task):\n"
        "    type: Literal['wave-send'] = 'wave-send'\n"
        "MODULE = QueueModule(task=Wave, options=email.options, open=email.open)\n",
    )
    assert discover(["wave-send"])["wave-send"].task.type_name() == "wave-send"


def test_only_what_is_asked_for_is_imported(add_folder: AddFolder) -> None:
    add_folder("broken", "raise RuntimeError('imported')")
    add_folder("_shared", "raise RuntimeError('imported')")
    assert available() >= {"email-send", "broken"}
    assert not any("shared" in name for name in available())
    assert list(discover(["email-send"])) == ["email-send"]
    assert discover([]) == {}


def test_name_without_a_folder_is_left_out() -> None:
    assert discover(["hologram-send"]) == {}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('no luck')", "workers/queues/broken: importing it failed: RuntimeError: no luck"),
        ("import no_such_library", "workers/queues/broken: importing it failed: ModuleNotFoundError: .*no_such_lib"),
        ("", r"workers/queues/broken: expected `MODULE = QueueModule\(…\)`, found nothing"),
        ("MODULE = 7", r"workers/queues/broken: .* found a int"),
        (
            "from workers.queues.email_send import MODULE",
            "workers/queues/broken: its MODULE is for task type 'email-send', not 'broken': name its queue"
            " 'email-send', or give it a task model whose type is 'broken'",
        ),
    ],
)
def test_broken_folder_is_named_with_the_fix(add_folder: AddFolder, source: str, message: str) -> None:
    add_folder("broken", source)
    with pytest.raises(QueueModuleError, match=message):
        discover(["broken", "email-send"])


def test_listing_imports_no_module() -> None:
    code = "import sys, workers.queues as q; q.available(); print('aiosmtplib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
