"""A process that serves queue `hostile` until SIGTERM: `python -m tests.hostile.host`, its configuration on stdin."""

from __future__ import annotations

import asyncio
import sys

from config.schema import FleetConfig
from workers.cli.shutdown import serve
from workers.fleet import build_process


async def main() -> int:
    config = FleetConfig.model_validate_json(sys.stdin.read())
    return await serve(build_process(config, name="host"), grace_s=5.0)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
