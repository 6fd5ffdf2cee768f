"""Are the flat packages ours? `config`, `tasks`, `registry` and `workers` exist on PyPI too; whoever was installed last
has overwritten the others, and a folder of that name earlier on the path wins as well.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("config", "registry", "tasks", "workers")


def _locate(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def strangers(locate: Callable[[str], Path | None] = _locate) -> str | None:
    """An error that names the packages that are not ours and the fix; None when all stand beside this one."""
    home = Path(__file__).resolve().parents[2]
    found = {name: locate(name) for name in PACKAGES}
    wrong = {name: place for name, place in found.items() if place is None or place.resolve() != home / name}
    if not wrong:
        return None
    places = ", ".join(f"{name} is {place or 'missing'}" for name, place in sorted(wrong.items()))
    return (
        f"fleet: these packages are not Fleet's: {places}. "
        "Install Fleet into an environment of its own, and start it outside of folders with such names."
    )
