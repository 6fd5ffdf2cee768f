"""The workers side by side: the package's, ours and Node's. `make bench worker` takes about ten minutes and writes
results/worker.md; with ROUNDS=2 it is shorter and only prints.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import psutil
from redis.asyncio import Redis

from tests.benchmarks.contest.measure import Contest
from tests.benchmarks.contest.plan import Plan
from tests.benchmarks.contest.report import page
from tests.conftest import Server

RESULTS = Path(__file__).parent / "results" / "worker.md"


async def about(url: str) -> str:
    """What took part, and how busy the machine was besides."""
    async with Redis.from_url(url, decode_responses=True) as redis:
        info = await redis.info("server")
    node = await asyncio.create_subprocess_exec("node", "--version", stdout=asyncio.subprocess.PIPE)
    node_version = (await node.communicate())[0].decode().strip()
    server = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"bullmq {version('bullmq')} and redis-py {version('redis')} on CPython {python}; npm bullmq 6 on Node "
        f"{node_version}; {server}. {psutil.cpu_count()} cores, load average {psutil.getloadavg()[0]:.1f} before the "
        "first round: trust ratios, not absolutes."
    )


async def bench(url: str, plan: Plan) -> str:
    """The page."""
    head = await about(url)
    return page(await Contest(url, plan).hold(), plan, head)


def main() -> None:
    rounds = os.environ.get("ROUNDS")
    if rounds is not None and not (rounds.isdecimal() and int(rounds) > 0):
        raise SystemExit(f"ROUNDS={rounds}: a whole number above 0 is needed")
    plan = Plan().shorter(int(rounds)) if rounds else Plan()
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--appendonly", "no")
        server.start()
        try:
            text = asyncio.run(bench(server.url, plan))
        finally:
            server.stop()
    if not rounds:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
