"""The event loop that is asked for, or one sentence that says what to install."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from workers.runtime.supervision import event_loop
from workers.runtime.supervision.event_loop import NoSuchLoopError, missing, use


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    """What a test sets holds for it alone."""
    former = asyncio.get_event_loop_policy()
    yield
    asyncio.set_event_loop_policy(former)


def test_asyncio_is_always_there_and_changes_nothing() -> None:
    before = asyncio.get_event_loop_policy()
    assert missing("asyncio") is None
    use("asyncio")
    assert asyncio.get_event_loop_policy() is before


def test_loop_that_is_not_installed_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "find_spec", lambda name: None)
    expected = "uvloop is not installed: pip install 'fleet-workers[uvloop]', or set it to asyncio"
    assert missing("uvloop") == expected
    with pytest.raises(NoSuchLoopError) as caught:
        use("uvloop")
    assert str(caught.value) == expected


def test_loop_that_can_not_be_loaded_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError('compiled for another machine')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "uvloop", raising=False)
    with pytest.raises(NoSuchLoopError, match="uvloop can't be loaded: ImportError: compiled for another machine"):
        use("uvloop")


def test_loop_that_is_installed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is called so: a stand-in where it is not installed."""
    if find_spec("uvloop") is None:
        stand_in = (
            "import asyncio\n"
            "class Loop(asyncio.SelectorEventLoop): pass\n"
            "class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):\n"
            "    def new_event_loop(self): return Loop()\n"
        )
        (tmp_path / "uvloop.py").write_text(stand_in)
        monkeypatch.syspath_prepend(str(tmp_path))
    use("uvloop")

    async def module() -> str:
        return type(asyncio.get_running_loop()).__module__

    with asyncio.Runner() as runner:
        assert runner.run(module()).startswith("uvloop")
