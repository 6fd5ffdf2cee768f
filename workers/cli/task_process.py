"""A child that runs jobs: `python -m workers.cli.task_process FD`. Not for people; isolation `process` starts it.

A module of its own instead of a command of `fleet`, so that a child imports no more than its queue's module needs.
"""

from __future__ import annotations

import socket
import sys

from workers.queues import load
from workers.runtime.isolation.served import serve


def main() -> int:
    """Perform what comes over the socket that is descriptor FD, until told to end; returns the exit code."""
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        return serve(channel, load)


if __name__ == "__main__":
    raise SystemExit(main())
