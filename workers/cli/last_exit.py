"""The end of the process, also where a processor ignores its cancellation or blocks a thread for good.

`asyncio.run` waits at its end for every task and for the threads of `to_thread`. A job of such a processor was handed
back or failed long before; only the process would stay, until somebody kills it and takes that for a failed drain.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

#: How long what was left behind may take to end, once everything else has ended, seconds.
LEFT_BEHIND_S = 1.0


def run_to_exit(main: Coroutine[Any, Any, int]) -> int:
    """`asyncio.run` that ends the process with the coroutine's exit code where its loop can't be closed.

    Raises what the coroutine raises; then, too, the process ends (with 1).
    """
    runner = asyncio.Runner()
    code = 1
    try:
        code = runner.run(main)
        return code
    finally:
        last = threading.Timer(LEFT_BEHIND_S, _leave, (code,))
        last.daemon = True
        last.start()
        runner.close()
        last.cancel()


def _leave(code: int) -> None:
    log.error("a processor still runs although it was cancelled; the process ends without it")
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # closed already
    os._exit(code)
