"""A producer in TypeScript: compiled against the declarations that are committed, its jobs added by BullMQ, decoded."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tasks import TASKS
from tasks.codec import DecodeError, decode, encode
from tasks.vintage import EvolvedTask
from tests.conftest import need
from tests.interop.bridge import Js
from tests.unit.tasks.wire_data import EXAMPLES
from workers.wire_schema.json_schema import SCHEMA_FILE
from workers.wire_schema.typescript import TYPESCRIPT_FILE

pytestmark = pytest.mark.node

SOURCES = Path(__file__).parent / "typescript"
#: A compiler's start alone takes a second of processor time.
PATIENCE_S = 50


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in command], cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE_S
    )


def tsc(folder: Path) -> subprocess.CompletedProcess[str]:
    compiler = SOURCES / "node_modules" / "typescript" / "bin" / "tsc"
    node = need("node")
    if not compiler.exists():
        pytest.skip("needs the packages of tests/interop/typescript: make setup")
    return run(node, compiler, "--project", folder, cwd=folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources beside the declarations, as a producer's project has them."""
    folder = tmp_path_factory.mktemp("typescript")
    for source in [*SOURCES.glob("*.*ts"), SOURCES / "tsconfig.json", SOURCES / "package.json", TYPESCRIPT_FILE]:
        shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="module")
def jobs(project: Path) -> list[dict[str, Any]]:
    """What the compiled producer adds. Its mistakes are compiled with it: one that passes is an error."""
    compiled = tsc(project)
    assert compiled.returncode == 0, compiled.stdout
    made = run(need("node"), project / "out" / "producer.mjs", cwd=project)
    assert made.returncode == 0, made.stderr
    return [json.loads(line) for line in made.stdout.splitlines()]


def test_every_type_and_shape_is_produced(jobs: list[dict[str, Any]]) -> None:
    models = [TASKS[job["data"]["type"]] for job in jobs]
    shapes = {model.shape_of(job["data"]) for model, job in zip(models, jobs, strict=True)}
    assert shapes == {shape for model in TASKS.values() for shape in (model, *model.OLDER_SHAPES)}


async def test_jobs_that_bullmq_adds_for_it_decode(
    jobs: list[dict[str, Any]], js: Js, redis: Redis, prefix: str
) -> None:
    for number, job in enumerate(jobs):
        queue, name = job["queue"], f"ts-{number}"
        await js.queue(queue, "add", queue, job["data"], {"jobId": name})
        data = json.loads(await redis.hget(f"{prefix}:{queue}:{name}", "data") or "null")
        assert data == job["data"]
        task = decode(data)
        assert type(task) is TASKS[data["type"]]
        assert task.id == data.get("id", data.get("idempotencyKey"))
        assert encode(task) == data
        if isinstance(task, EvolvedTask):
            assert decode(encode(task.renewed())) == task.renewed()


def test_a_mistake_does_not_compile(project: Path, tmp_path: Path) -> None:
    """The compiler itself, on a mistake that isn't marked as one."""
    for each in ("package.json", "tsconfig.json", "console.d.ts", TYPESCRIPT_FILE.name):
        shutil.copy(project / each, tmp_path)
    config = json.loads((tmp_path / "tsconfig.json").read_text())
    (tmp_path / "tsconfig.json").write_text(json.dumps(config | {"files": ["wrong.mts"]}))
    (tmp_path / "wrong.mts").write_text(
        'import type { TaskOf } from "./fleet-tasks.js";\n'
        'export const sms: TaskOf<"sms-message"> = { type: "sms-message", id: "1", to: "+15555550123", body: "b" };\n'
    )
    compiled = tsc(tmp_path)
    assert compiled.returncode != 0
    assert "wrong.mts(2," in compiled.stdout
    assert "'string' is not assignable to type 'string[]'" in compiled.stdout


#: Prints for each pattern and each text whether it matches, as JavaScript reads both.
MATCHES = """
const { patterns, texts } = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(patterns.map((each) => texts.map((text) => new RegExp(each, "u").test(text)))));
"""


def test_patterns_mean_the_same_to_node_as_to_decode() -> None:
    schema = json.loads(SCHEMA_FILE.read_text())
    key = schema["$defs"]["NotificationCreate"]["properties"]["id"]["pattern"]
    amount = schema["$defs"]["Allocation"]["properties"]["maxCredits"]["anyOf"][0]["pattern"]
    largest = 2**63 - 1
    texts = ["", "0", "-0", "-7", "07", "7\n", "\n7", "٧", "7a", "unlimited", "unlimited\n", "0" * 19, "0" * 20]
    texts += ["9" * 100, "9" * 101, f"-{'9' * 100}", *(str(10**power) for power in range(20))]
    texts += [str(largest + step * 10**power) for power in range(19) for step in (-1, 0, 1)]
    entry = {"type": "notification-create", "userId": "8", "category": "Award", "title": ""}
    swarm = next(job["data"] for job in EXAMPLES if job["data"]["type"] == "swarm-execution" and "input" in job["data"])
    bounds = swarm["allocation"]
    decoded = [
        [_decodes(entry | {"id": text}) for text in texts],
        [_decodes(swarm | {"allocation": bounds | {"maxCredits": text}}) for text in texts],
    ]
    done = subprocess.run(
        [need("node"), "-e", MATCHES],
        input=json.dumps({"patterns": [key, amount], "texts": texts}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == decoded
    assert all({True, False} <= set(each) for each in decoded)


def _decodes(data: dict[str, Any]) -> bool:
    try:
        decode(data)
    except DecodeError:
        return False
    return True


def test_node_writes_no_number_that_the_schema_cannot_tell_apart() -> None:
    """The whole numbers with a point that `decode` refuses: JavaScript has no such text."""
    code = "console.log(JSON.stringify([1.0, -0.0, 7e0, 2 ** 53, 1e20, 1e21, NaN, Infinity]))"
    done = run(need("node"), "-e", code, cwd=SOURCES)
    assert done.stdout.strip() == "[1,0,7,9007199254740992,100000000000000000000,1e+21,null,null]"
