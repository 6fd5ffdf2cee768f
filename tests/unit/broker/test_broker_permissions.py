"""What the Redis user must be permitted: all that the scripts run which a worker runs, and no more than is said."""

from __future__ import annotations

import re
from pathlib import Path

import bullmq
import pytest

from workers.broker import compat, permissions
from workers.broker.permissions import HELPFUL, ON_KEYS, ON_NONE, SOMETIMES, rule

LUA = Path(bullmq.__file__).parent / "commands"
#: Scripts that the package's own code runs for a worker: the stalled check, job schedulers.
INHERITED = ("moveStalledJobsToWait", "updateJobScheduler")
_CALL = re.compile(r"""(?:rcall|redis\.p?call)\(\s*["'](\w+)["']""")


def calls(text: str) -> set[str]:
    return {command.lower() for command in _CALL.findall(text)}


@pytest.mark.parametrize("script", [*compat.REGISTERED, *compat.LOADED, *INHERITED])
def test_commands_inside_the_scripts_of_a_worker_are_permitted(script: str) -> None:
    (file,) = LUA.glob(f"{script}-*.lua")
    found = calls(file.read_text(encoding="utf-8"))
    assert found and found <= {*ON_KEYS}


def test_commands_inside_our_own_scripts_are_permitted() -> None:
    sources = Path(permissions.__file__).parent.glob("*.py")
    found = set().union(*(calls(source.read_text(encoding="utf-8")) for source in sources))
    assert {"hincrby", "xadd"} <= found <= {*ON_KEYS, *HELPFUL}


def test_rule_permits_the_prefix_and_what_is_listed_and_nothing_else() -> None:
    words = rule("my").split()
    assert words[:5] == ["resetkeys", "~my:*", "~fleet:my:*", "resetchannels", "-@all"]
    assert sorted(words[5:]) == sorted(f"+{command}" for command in (*ON_KEYS, *ON_NONE, *HELPFUL))
    assert len(set(words)) == len(words)
    assert rule("my", ["get"]).endswith("-@all +get")


def test_documentation_lists_the_rule() -> None:
    text = (Path(__file__).parents[3] / "workers" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"ACL SETUSER fleet on >PASSWORD(.*?)```", text, re.DOTALL)
    assert block.replace("\\", " ").split() == rule("bull").split()
    for command in SOMETIMES:
        assert f"`+{command}`" in text
