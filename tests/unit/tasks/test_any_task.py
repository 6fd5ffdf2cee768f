"""`AnyTask` is what the package's modules define: one more file is one more type, and pydantic is all they need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

import tasks
from tasks import TASKS, AnyTask, any_of
from tasks.codec import decode
from tests.unit.tasks.wire_data import EXAMPLES

ROOT = Path(__file__).parents[3]
#: The task types of node-stack, and the queues they are found in.
QUEUES = {
    "email-send": "email-send",
    "push-notification": "push-notification",
    "sms-message": "sms-message",
    "notification-create": "notification-create",
    "llm-completion": "llm-completion",
    "swarm-execution": "swarm-execution",
    "run-start": "run-start",
    "sandbox-execution": "sandbox-execution",
    "export-user-data": "export-user-data",
    "import-user-data": "import-user-data",
}

WAVE = """
from typing import Literal
from tasks.base import Task

class Wave(Task):
    type: Literal["wave"] = "wave"
    how_high: int
"""

USES_IT = """
from pydantic import TypeAdapter
from tasks import TASKS, AnyTask
from tasks.codec import DecodeError, decode, encode

data = {"type": "wave", "id": "1", "howHigh": 3, "foam": [True]}
task = TypeAdapter(AnyTask).validate_python(data, by_alias=True, by_name=False)
assert type(task) is TASKS["wave"] and task.how_high == 3 and decode(data) == task and encode(task) == data
try:
    decode(data | {"howHigh": "3"})
except DecodeError as error:
    print(len(TASKS), error)
"""

BARE = """
import importlib, json, pkgutil, sys

ALLOWED = sys.stdlib_module_names | {"tasks", "pydantic", *REQUIRED_BY_PYDANTIC}

class Bare:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        # The latter is a part of the library, with the platform in its name.
        if top not in ALLOWED and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Bare())
import tasks, tasks.codec
for module in pkgutil.iter_modules(tasks.__path__):
    importlib.import_module(f"tasks.{module.name}")
for job in json.load(sys.stdin):
    assert tasks.codec.encode(tasks.codec.decode(job["data"])) == job["data"]
print("bare", len(tasks.TASKS))
"""


def run(code: str, folder: Path, stdin: str = "") -> str:
    """What a Python of its own prints that sees the packages installed and this folder's."""
    done = subprocess.run(
        [sys.executable, "-c", code], input=stdin, cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_each_of_the_ten_queues_has_a_model() -> None:
    assert set(TASKS) == set(QUEUES)
    assert set(QUEUES) == {job["data"]["type"] for job in EXAMPLES}, "an example of each"


def test_new_type_is_one_new_file(tmp_path: Path) -> None:
    shutil.copytree(Path(tasks.__file__).parent, tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tasks" / "wave.py").write_text(WAVE)
    printed = run(USES_IT, tmp_path)
    assert printed == f'{len(TASKS) + 1} data.howHigh: expected an integer, found "3" (string)'


def test_tasks_need_pydantic_and_nothing_else_that_is_installed() -> None:
    required = {"annotated_types", "pydantic_core", "typing_extensions", "typing_inspection"}
    code = BARE.replace("REQUIRED_BY_PYDANTIC", repr(sorted(required)))
    examples = (ROOT / "workers/dev/example_jobs.json").read_text()
    assert run(code, ROOT, examples) == f"bare {len(TASKS)}"


def test_any_task_is_told_apart_by_its_type() -> None:
    any_task: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
    for job in EXAMPLES:
        assert type(any_task.validate_python(job["data"])) is TASKS[job["data"]["type"]]
    with pytest.raises(ValueError, match="hologram"):
        any_task.validate_python({"type": "hologram", "id": "1"})


def test_any_of_one_type_is_that_type() -> None:
    (one, *_) = TASKS.values()
    assert any_of([one]) is one


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_swarms_are_found_on_the_queue_of_completions_too(job: dict[str, str]) -> None:
    task = decode(job["data"])
    assert job["queue"] == QUEUES[task.type] or (job["queue"], task.type) == ("llm-completion", "swarm-execution")
