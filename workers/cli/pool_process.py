"""One child of the supervisor: `python -m workers.cli.pool_process FD`. Not for people; `fleet run` starts it.

A module of its own instead of a command of `fleet`, so that a child imports no more than it needs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from workers.cli.last_exit import run_to_exit
from workers.cli.shutdown import serve
from workers.fleet import PoolBrief, serve_pool
from workers.runtime import beat

log = logging.getLogger(__name__)


def command() -> tuple[str, ...]:
    """How a supervisor starts it; the descriptor of the beat pipe follows.

    `python -m` would import a folder of the working directory that is called like one of our packages, which the
    `fleet` command itself does not; -P keeps it from that. Only where the working directory is the source tree, the
    packages may be importable from nowhere else.
    """
    here = Path("workers/cli/pool_process.py")
    at_home = here.exists() and here.samefile(__file__)
    return (sys.executable, *(() if at_home else ("-P",)), "-m", "workers.cli.pool_process")


def main() -> int:
    """Serve the queues that standard input names until it closes or a signal comes; returns the exit code."""
    brief = PoolBrief.model_validate_json(sys.stdin.buffer.readline())
    return run_to_exit(_serve(brief, beat_fd=int(sys.argv[1])))


async def _serve(brief: PoolBrief, beat_fd: int) -> int:
    pools = {brief.config.queues[queue].pool for queue in brief.queues}
    grace_s = max(brief.config.pools[pool].grace for pool in pools)
    async with serve_pool(brief) as process:
        beats = asyncio.create_task(beat.send(beat_fd, lambda: process.started, lambda: process.ready, process.states))
        orphan = asyncio.create_task(_drain_when_orphaned())
        try:
            return await serve(process, grace_s)
        finally:
            beats.cancel()
            orphan.cancel()


async def _drain_when_orphaned() -> None:
    """The supervisor holds our standard input open; its end means that the supervisor is gone."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin.buffer)
    try:
        await reader.read()
        log.warning("the supervisor is gone")
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        transport.close()


if __name__ == "__main__":
    raise SystemExit(main())
