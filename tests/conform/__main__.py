"""Run the marked interop tests on each server that is installed and write results/conformance.md.

    python -m tests.conform [SERVER …]

SERVER is `valkey` (the bundled one) or the name of a program, by default both valkey and redis-server. One that is not
installed is left out, with a word. The exit code is 1 when a test failed; the table then says which.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conform.table import Column, Result, render
from workers.dev.embedded import find_binary

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NODE = ROOT / "tests" / "interop" / "node" / "node_modules"
TABLE = HERE / "results" / "conformance.md"
LIBRARIES = {5: "bullmq5", 6: "bullmq"}


def bullmq_version(major: int) -> str:
    """The installed version of npm bullmq."""
    package = json.loads((NODE / LIBRARIES[major] / "package.json").read_text("utf-8"))
    return str(package["version"])


def server_title(program: str) -> str:
    """`Valkey 9.1` for a program that calls itself `Valkey server v=9.1.2 …`."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    name, version = re.match(r"(\w+) server v=(\d+\.\d+)", said).groups()  # type: ignore[union-attr]
    return f"{name} {version}"


def try_out(server: str, program: str) -> list[Result]:
    """Run the tests on this server; what they found."""
    columns = {major: Column(bullmq_version(major), server_title(program)) for major in LIBRARIES}
    with tempfile.TemporaryDirectory() as directory:
        found = Path(directory) / "found.jsonl"
        environment = {**os.environ, "FLEET_CONFORM": str(found)}
        if server != "valkey":
            environment["FLEET_TEST_SERVER"] = program
        command = [sys.executable, "-m", "pytest", "-p", "tests.conform.recorder", "-m", "conform", "-q"]
        subprocess.run([*command, "tests/interop"], cwd=ROOT, env=environment, check=False)
        lines = found.read_text("utf-8").splitlines() if found.exists() else []
    rows = [json.loads(line) for line in lines]
    return [Result(group, feature, columns[major], outcome) for group, feature, major, outcome in rows]


def main(servers: list[str]) -> int:
    """Try the servers out one after the other."""
    results: list[Result] = []
    for server in servers:
        program = str(find_binary()) if server == "valkey" else shutil.which(server)
        if program is None:
            sys.stderr.write(f"{server} is not installed: left out\n")
            continue
        results += try_out(server, program)
    if not results:
        sys.stderr.write("no test was run\n")
        return 1
    columns = list(dict.fromkeys(result.column for result in results))
    servers_in_order = list(dict.fromkeys(column.server for column in columns))
    columns.sort(key=lambda column: (servers_in_order.index(column.server), column.bullmq))
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(render(results, columns), "utf-8")
    sys.stdout.write(f"written: {TABLE.relative_to(ROOT)}\n")
    return int(any(result.outcome == "failed" for result in results))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or ["valkey", "redis-server"]))
