"""The wheel without extras: the tasks for a Python producer, and pydantic."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "workers" / "dev" / "example_jobs.json"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def needed(name: str) -> Iterator[str]:
    """A distribution and what it needs."""
    yield name
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from needed(requirement.name)


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel, pydantic and what that needs."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    for name in set(needed("pydantic")):
        files = metadata.files(name) or []
        for top in {file.parts[0] for file in files if file.parts[0] != ".."}:
            there = Path(str(metadata.distribution(name).locate_file(top)))
            if there.exists() and not (packages / top).exists():
                (packages / top).symlink_to(there)
    return home / "bin" / "python"


def run(python: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-I", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_pydantic_is_all_that_the_wheel_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    wants = [Requirement(text) for text in message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []]
    assert [want.name for want in wants if want.marker is None or "extra" not in str(want.marker)] == ["pydantic"]
    assert {"bullmq", "redis", "aiosmtplib"} <= {want.name for want in wants}


def test_tasks_are_read_and_written_where_nothing_else_is_installed(bare: Path) -> None:
    code = """
import json, sys
from tasks.codec import decode, encode
jobs = json.load(open(sys.argv[1]))
found = [job["data"] for job in (jobs if isinstance(jobs, list) else jobs["jobs"])]
assert found and all(encode(decode(data)) == data for data in found)
assert not {"redis", "bullmq", "workers", "config", "registry"} & {name.partition(".")[0] for name in sys.modules}
print(len(found))
"""
    done = run(bare, code, str(EXAMPLES))
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(json.loads(EXAMPLES.read_text()))


def test_the_command_says_what_to_install(bare: Path) -> None:
    done = run(bare, "from workers.cli import main; main()")
    expected = "fleet: only the tasks are installed: pip install 'fleet-workers[worker]'\n"
    assert (done.returncode, done.stderr) == (78, expected)


#: A producer's own code: every type is told apart, and none forgotten.
TYPED = """
from typing import assert_never
from pydantic import TypeAdapter
from tasks import AnyTask, Task
from tasks.codec import decode
from tasks.email_send import EmailSend
from tasks.export_user_data import ExportUserData
from tasks.import_user_data import ImportUserData
from tasks.llm_completion import LlmCompletion
from tasks.notification_create import NotificationCreate
from tasks.push_notification import PushNotification
from tasks.run_start import RunStart
from tasks.sandbox_execution import SandboxExecution
from tasks.sms_message import SmsMessage
from tasks.swarm_execution import SwarmExecution

ANY: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)

def recipients(task: AnyTask) -> list[str]:
    if task.type == "email-send":
        return task.to
    match task:
        case SmsMessage():
            return task.to
        case NotificationCreate():
            return [task.user_id]
        case RunStart() | SwarmExecution():
            return [task.input.user_data.id if task.type == "swarm-execution" else task.context.user_data.id]
        case LlmCompletion() | SandboxExecution():
            return [task.user_data.id]
        case ExportUserData() | ImportUserData() | PushNotification():
            return []
        case _:
            assert_never(task)

mail = EmailSend(id="1", to=["dana@example.com"], subject="s", text="t")
found: list[str] = recipients(mail)
task: Task = decode({})
"""
#: What is wrong in it, each with what a type checker says.
WRONG = {
    "EmailSend(id=1, to=[])": 'Argument "id"',
    "mail.recipient": 'has no attribute "recipient"',
    "recipients(task)": 'Argument 1 to "recipients"',
    "def body(task: AnyTask) -> str: return task.body": 'has no attribute "body"',
}


@pytest.mark.timeout(300)  # a type checker reads all of pydantic first
def test_a_type_checker_sees_the_types_of_the_wheel(bare: Path, tmp_path: Path) -> None:
    lines = TYPED.splitlines()
    (tmp_path / "producer.py").write_text("\n".join([*lines, *WRONG, ""]))
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(bare), "--no-error-summary"]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), "--config-file", "", "producer.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    told: dict[int, str] = {}
    for line in done.stdout.splitlines():
        place, _, words = line.partition(": error: ")
        if words:
            number = int(place.rpartition(":")[2])
            told[number] = told.get(number, "") + words
    assert set(told) == {len(lines) + 1 + place for place in range(len(WRONG))}, done.stdout + done.stderr
    for at, expected in enumerate(WRONG.values()):
        assert expected in told[len(lines) + 1 + at]
