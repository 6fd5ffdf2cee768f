"""The Dockerfile: what it copies exists, it runs as nobody special, and its health check tells the truth."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from config.schema import HttpConfig

ROOT = Path(__file__).parents[3]


class Instruction(NamedTuple):
    stage: int
    keyword: str
    text: str


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions with continuation lines joined, each with the number of its stage."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    stage, found = -1, []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            keyword, _, rest = line.strip().partition(" ")
            stage += keyword == "FROM"
            found.append(Instruction(stage, keyword, rest.strip()))
    return found


def final(keyword: str) -> list[str]:
    """The arguments of an instruction in the stage that is shipped."""
    last = max(instruction.stage for instruction in instructions())
    return [each.text for each in instructions() if each.stage == last and each.keyword == keyword]


def copied_from_context() -> list[str]:
    sources: list[str] = []
    for instruction in instructions():
        if instruction.keyword == "COPY" and "--from=" not in instruction.text:
            sources += instruction.text.split()[:-1]
    return sources


def test_runs_as_an_unprivileged_numeric_user() -> None:
    (user,) = final("USER")
    uid, _, gid = user.partition(":")
    assert int(uid) >= 10_001 and int(gid) >= 10_001


def test_process_one_is_the_fleet_itself() -> None:
    """Shell form would make /bin/sh process 1, and SIGTERM would never arrive."""
    assert [json.loads(text) for text in final("ENTRYPOINT")] == [["fleet"]]
    (command,) = (json.loads(text) for text in final("CMD"))
    assert command[0] == "run"
    assert final("STOPSIGNAL") == ["SIGTERM"]


def test_nothing_is_installed_in_the_shipped_stage() -> None:
    assert not [text for text in final("RUN") if re.search(r"\b(pip|apt|apt-get|npm|curl|wget|gcc)\b", text)]


def test_every_download_is_hashed_and_never_compiled() -> None:
    installs = [each.text for each in instructions() if each.keyword == "RUN" and "install" in each.text.split()]
    assert len(installs) == 3
    for text in installs:
        if "--no-deps" in text:
            assert text.split()[-1].startswith("/wheel/")
        else:
            assert "--require-hashes" in text and "--only-binary :all:" in text


def test_every_copied_path_exists_and_passes_the_ignore_file() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*", "an allow list"
    for source in copied_from_context():
        assert (ROOT / source).exists(), source
        allowed = any(source == rule[1:] or source.startswith(rule[1:] + "/") for rule in rules if rule[0] == "!")
        assert allowed, f".dockerignore keeps {source} out"


@pytest.mark.parametrize("secret", [".env", ".git/config", ".venv/bin/python", ".fleet/valkey/appendonly.aof"])
def test_ignore_file_keeps_what_is_private_out(secret: str) -> None:
    verdict = False
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        if rule and not rule.startswith("#"):
            pattern = rule.lstrip("!")
            if fnmatch.fnmatch(secret, pattern) or secret.startswith(pattern + "/"):
                verdict = not rule.startswith("!")
    assert verdict


def test_default_command_reads_files_that_the_image_has() -> None:
    (command,) = (json.loads(text) for text in final("CMD"))
    inside = {text.split()[-1] for text in final("COPY")}
    assert {part for part in command if part.endswith(".yaml")} <= inside


class Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), type("Answering", (Answer,), {})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def health_check_code() -> str:
    (text,) = final("HEALTHCHECK")
    python, dash_c, code = json.loads(text[text.index("[") :])
    assert (python, dash_c) == ("python", "-c")
    assert isinstance(code, str)
    return code


def health_check(port: int) -> int:
    """Run the image's own check against a port here."""
    command = [sys.executable, "-I", "-c", health_check_code()]
    return subprocess.run(command, env={"FLEET__HTTP__PORT": str(port)}, capture_output=True, check=False).returncode


def test_health_check_asks_the_default_port_where_none_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.delenv("FLEET__HTTP__PORT", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: asked.append(url))
    exec(health_check_code(), {})
    assert asked == [f"http://127.0.0.1:{HttpConfig().port}/livez"]


def test_health_check_passes_a_live_fleet(server: HTTPServer) -> None:
    assert health_check(server.server_port) == 0


def test_health_check_fails_a_fleet_that_says_no(server: HTTPServer) -> None:
    server.RequestHandlerClass.status = 503  # type: ignore[attr-defined]
    assert health_check(server.server_port) != 0


def test_health_check_fails_where_nobody_listens(server: HTTPServer) -> None:
    server.shutdown()
    server.server_close()
    assert health_check(server.server_port) != 0


def test_wheel_holds_the_four_packages_with_their_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"config", "registry", "tasks", "workers"}
    assert {"config/fleet.yaml", "config/schema.json", "tasks/schema.json", "tasks/fleet-tasks.d.ts"} <= set(names)
    typed = {"tasks/any_task.pyi", *(f"{package}/py.typed" for package in ("config", "registry", "tasks", "workers"))}
    assert typed <= set(names)
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]
