"""Reproduces the known hazards of the package's worker beside ours: `make hazards`, or ARGS="H4 H6" for some of them.
Writes results/hazards.md. Fails when ours shows one; the table says which are gone upstream.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from redis.asyncio import Redis

from tests.conftest import Server
from tests.hazards.reproduce import ALL
from tests.hazards.reproduction import Reproduction, Seen

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "hazards.md"


@dataclass(frozen=True, slots=True)
class Pair:
    """One hazard on both sides; None: it could not be played."""

    number: str
    stock: Seen | None
    fleet: Seen | None


async def side_of(number: str, side: str) -> Seen | None:
    """Play one side against a server of its own."""
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as errors:
        server = Server(Path(directory), "--appendonly", "no")
        server.start()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.hazards.reproduce", number, side, server.url),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
            seen = await _outcome(process, ALL[number])
        finally:
            server.stop()
        if seen is None:
            errors.seek(0)
            sys.stderr.write(errors.read().decode(errors="replace")[-2000:])
    return seen


async def _outcome(process: asyncio.subprocess.Process, reproduction: Reproduction) -> Seen | None:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), reproduction.limit_s)
    except TimeoutError:
        line = b""
    hung = process.returncode is None and not line
    if process.returncode is None:
        process.kill()
    await process.wait()
    if line:
        return Seen(**json.loads(line))
    if hung and reproduction.hang:
        return Seen(True, reproduction.hang)
    return None


async def play(numbers: list[str]) -> list[Pair]:
    """All of them, one after the other, the two sides at the same time."""
    pairs = []
    for number in numbers:
        pair = Pair(number, *await asyncio.gather(side_of(number, "stock"), side_of(number, "fleet")))
        sys.stderr.write(f"{number} {ALL[number].title}: {_cell(pair.stock)} | {_cell(pair.fleet)}\n")
        pairs.append(pair)
    return pairs


def _cell(seen: Seen | None) -> str:
    if seen is None:
        return "could not be played"
    return f"{'**seen**' if seen.seen else 'not seen'}: {seen.said}".replace("|", "\\|").replace("\n", " ")


def page(pairs: list[Pair], server_version: str) -> str:
    """The table, as Markdown."""
    gone = [pair.number for pair in pairs if pair.stock is not None and not pair.stock.seen]
    ours = [pair.number for pair in pairs if pair.fleet is None or pair.fleet.seen]
    rows = [
        f"| {pair.number} {shown.title} | {_cell(pair.stock)} | {_cell(pair.fleet)} | {shown.test} |"
        for pair, shown in ((pair, ALL[pair.number]) for pair in pairs)
    ]
    return "\n".join(
        [
            "# Hazards of the package's worker, beside ours",
            "",
            "`make hazards`. The same course of events for both, each in a process of its own against a server of its "
            "own, with short timers (lock 1 s) where the hazard is not in the default timers themselves.",
            "",
            f"bullmq {version('bullmq')} and redis-py {version('redis')} from PyPI; server {server_version}.",
            "",
            f"Gone from the package's worker: {', '.join(gone) or 'none'}. Seen on ours: {', '.join(ours) or 'none'}.",
            "",
            "| hazard | `bullmq.Worker` | FleetWorker | test |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


async def server_version() -> str:
    """Of the server that the reproductions use."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--appendonly", "no")
        server.start()
        try:
            async with Redis.from_url(server.url, decode_responses=True) as redis:
                info = await redis.info("server")
        finally:
            server.stop()
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


def main() -> None:
    wanted = sys.argv[1:] or list(ALL)
    unknown = [number for number in wanted if number not in ALL]
    if unknown:
        raise SystemExit(f"no such hazard: {', '.join(unknown)} (known: {', '.join(ALL)})")
    pairs = asyncio.run(play(wanted))
    text = page(pairs, asyncio.run(server_version()))
    if wanted == list(ALL):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)
    sys.stdout.write(text)
    if any(pair.fleet is None or pair.fleet.seen for pair in pairs):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
