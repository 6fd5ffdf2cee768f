"""The `fleet` command. One file a command group; this one puts them together."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; the entry point of the console script."""
    # Until a command takes over, there is nothing to drain: a stop during the imports is a clean one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    from workers.cli.ownership import strangers

    # Before anything else of ours is imported: what is imported must be ours.
    if message := strangers():
        print(message, file=sys.stderr)
        raise SystemExit(1)
    if find_spec("redis") is None:
        print("fleet: only the tasks are installed: pip install 'fleet-workers[worker]'", file=sys.stderr)
        raise SystemExit(78)
    from workers.broker import compat

    if message := compat.refusal_of(compat.version()):
        print(f"fleet: {message}", file=sys.stderr)
        raise SystemExit(78)  # EX_CONFIG, as for a server that must not be used
    from workers.cli.commands import app

    app()
