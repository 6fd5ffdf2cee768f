"""The bundled Valkey that a fleet on this machine runs already: it is found, never started."""

from __future__ import annotations

from pathlib import Path

from workers.dev import DevError
from workers.dev.ports import LOOPBACK
from workers.dev.resp import serving_pid
from workers.dev.server_directory import ServerDirectory


async def running_url(data_dir: str) -> str:
    """Where it is.

    Args:
        data_dir: the configuration's `redis.data_dir`.

    Raises:
        DevError: none runs there.
    """
    record = ServerDirectory(Path(data_dir, "valkey")).read()
    if record is None or await serving_pid(record.port) != record.pid:
        raise DevError(
            f"redis.url is `embedded`, and no Valkey runs in {data_dir}: start `fleet run` or `fleet dev` in this "
            "directory, set redis.data_dir to where it runs, or set REDIS_URL to the server that Node uses"
        )
    return f"redis://{LOOPBACK}:{record.port}/0"
