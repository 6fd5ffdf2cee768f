"""What README.md shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from config.errors import ConfigError
from config.loader import load
from workers.cli.commands import app
from workers.fleet import check_options, select

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENV = {"SMTP_URL": "smtp://mail.example.com:587", "REDIS_URL": "redis://redis.example.com:6379/0"}


def sections() -> dict[str, list[str]]:
    """The lines of the fenced blocks by their language, and those between the blocks under `text`."""
    found: dict[str, list[str]] = {"text": []}
    language = "text"
    for line in README.splitlines():
        if fence := re.fullmatch(r" *```(\w*)", line):
            language = fence[1] if language == "text" else "text"
        else:
            found.setdefault(language, []).append(line)
    return found


def commands() -> list[str]:
    """Each `fleet …` and `make …` of the console blocks and of the text, without comments and variables."""
    read = sections()
    lines = read["console"] + re.findall(r"`((?:fleet|make)(?: [^`]+)?)`", "\n".join(read["text"]))
    words = [shlex.split(line, comments=True) for line in lines]
    plain = [[word for word in each if not re.match(r"[A-Z_]+=", word)] for each in words]
    return sorted({shlex.join(each) for each in plain if each})


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """The configuration of the README as a file."""
    file = tmp_path / "fleet.yaml"
    file.write_text("\n".join([*sections()["yaml"], ""]), encoding="utf-8")
    return file


@pytest.mark.parametrize("redis", ["embedded", "server"])
def test_configuration_of_the_readme_is_correct(shown: Path, redis: str) -> None:
    env = ENV if redis == "server" else {"SMTP_URL": ENV["SMTP_URL"]}
    loaded = load(shown, env=env)
    assert check_options(loaded) == []
    assert loaded.config.redis.url == (ENV["REDIS_URL"] if redis == "server" else "embedded")
    assert set(select(loaded.config).served) == {"email-send"}


def test_mistake_in_the_configuration_of_the_readme_is_named_as_it_says(shown: Path) -> None:
    text = shown.read_text(encoding="utf-8")
    assert text.count("concurrency: 5") == 1
    shown.write_text(text.replace("concurrency: 5", "concurrency: many"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(shown, env=ENV)
    told = [line for line in sections()[""] if line.startswith("fleet.yaml:")]
    assert told == str(caught.value).splitlines()


def test_secret_of_the_readme_may_come_from_a_file(shown: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("smtp://me:pass@mail.example.com\n", encoding="utf-8")
    loaded = load(shown, env={"SMTP_URL_FILE": str(secret)})
    options: Any = loaded.config.queues["email-send"].task.options
    assert options["smtp_url"] == "smtp://me:pass@mail.example.com"


def test_commands_of_the_readme_are_found() -> None:
    found = commands()
    assert {"make run", "make test", "make", "fleet run", "fleet config check"} <= set(found)


@pytest.mark.parametrize("command", [each for each in commands() if each.startswith("fleet")])
def test_fleet_command_of_the_readme_exists_with_its_options(command: str) -> None:
    _, *words = shlex.split(command)
    found: Any = typer.main.get_command(app)
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    assert not hasattr(found, "commands"), "a group of commands does nothing by itself"
    found.make_context(command, words)  # raises for an option or an argument that isn't there


@pytest.mark.parametrize("command", [each for each in commands() if each.startswith("make")])
def test_make_command_of_the_readme_exists(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    goals = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(shlex.split(command)[1:]) <= goals
