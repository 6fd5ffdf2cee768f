"""One child of the supervisor: `python -m workers.cli.pool_process FD`. Not for people; `fleet run` starts it.

A module of its own instead of a command of `fleet`, so that a child imports no more than it needs.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from workers.cli.hangup import Hangup, ignored
from workers.cli.last_exit import run_to_exit
from workers.cli.lifeline import Lifeline
from workers.cli.shutdown import serve
from workers.cli.standard_streams import StandardStreams
from workers.fleet import PoolBrief, serve_pool
from workers.runtime.supervision import beat
from workers.runtime.supervision.event_loop import NoSuchLoopError, use
from workers.runtime.supervision.life import EXIT_REFUSED
from workers.telemetry import logs

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
    lifeline = Lifeline.of_stdin(brief.pool.grace)
    try:
        use(brief.pool.loop)
    except NoSuchLoopError as error:
        logs.configure(brief.config.log, process=brief.name)
        log.error("%s", error)
        return EXIT_REFUSED
    return run_to_exit(_serve(brief, lifeline, beat_fd=int(sys.argv[1])))


async def _serve(brief: PoolBrief, lifeline: Lifeline, beat_fd: int) -> int:
    hangup = Hangup(ignored("this is one process of a pool; the supervisor reads the configuration"))
    async with serve_pool(brief) as (process, tell):
        beats = asyncio.create_task(beat.send(beat_fd, tell))
        streams = StandardStreams()
        try:
            return await serve(process, brief.pool.grace, lifeline.end())
        finally:
            beats.cancel()
            streams.close()
            hangup.close()


if __name__ == "__main__":
    raise SystemExit(main())
