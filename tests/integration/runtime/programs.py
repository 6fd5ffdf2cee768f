"""Small Python programs that a supervisor runs: they beat, die, refuse, hang and disobey."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from workers.runtime.supervision.spec import ChildSpec

PRELUDE = """
import json, os, signal, sys, time
fd = int(sys.argv[1])
terms = []
def heed(): signal.signal(signal.SIGTERM, lambda *_: terms.append(1))
def beat(started=True, ready=True, ok=True, detail="fine", **report):
    state = {"name": "q", "ok": ok, "detail": detail}
    said = {"started": started, "ready": ready, "states": [state], "report": {"pid": os.getpid(), **report}}
    os.write(fd, json.dumps(said).encode() + b"\\n")
"""
#: Works until it is asked to end.
OBEYS = "heed()\nwhile not terms: beat(); time.sleep(0.01)\n"


def spec(code: str, name: str = "p-0", **fields: Any) -> ChildSpec:
    """Runs this code after PRELUDE."""
    argv = (sys.executable, "-I", "-S", "-c", PRELUDE + textwrap.dedent(code), "{beat_fd}")
    return ChildSpec(**{"name": name, "argv": argv, "stdin": b"brief\n", **fields})
