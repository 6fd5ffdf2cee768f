"""A process with one kind of worker in it, told what to do in JSON lines on its standard input:

    {"do": "open", "queue": …, "slots": …, "work_s": …, "note": …}   {}
    {"do": "until", "jobs": …}                                       {"seconds": …, "cpu_s": …}
    {"do": "starts"}                                                 {job id: seconds since the epoch}
    {"do": "close"}                                                  {}
    {"do": "loop"}                                                   {"package": …}

`python -m tests.benchmarks.contest.child KIND redis://… [LOOP]` answers each with a line; LOOP is asyncio (the default)
or uvloop. A Node process speaks the same, but for the loop (tests/interop/node/contest.mjs).
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tests.benchmarks.contest.kind import Kind
from tests.benchmarks.contest.tally import Tally
from workers.runtime.supervision.event_loop import LoopName, use


def made(name: str, url: str) -> Kind:
    """A worker of this kind. Only its own modules are imported, since the process is also weighed."""
    if name == "stock":
        from tests.benchmarks.contest.stock import Stock

        return Stock(url)
    from tests.benchmarks.contest.fleet import Bare, Whole

    return {"worker": Bare, "fleet": Whole}[name](url)


async def obey(kind: Kind, command: dict[str, Any]) -> dict[str, Any]:
    """Do one thing."""
    match command["do"]:
        case "open":
            kind.tally = Tally(command["work_s"])
            kind.tally.note_starts = command["note"]
            await kind.open(command["queue"], command["slots"])
        case "until":
            return dict(await kind.tally.until(command["jobs"]))
        case "starts":
            return dict(kind.tally.starts)
        case "close":
            await kind.close()
        case "loop":
            return {"package": type(asyncio.get_running_loop()).__module__.partition(".")[0]}
        case unknown:
            raise ValueError(unknown)
    return {}


async def serve(name: str, url: str) -> None:
    """Until the input ends."""
    kind = made(name, url)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    answers, sys.stdout = sys.stdout, sys.stderr
    while line := await reader.readline():
        answers.write(json.dumps(await obey(kind, json.loads(line))) + "\n")
        answers.flush()


def main(name: str, url: str, loop: LoopName = "asyncio") -> None:
    use(loop)
    asyncio.run(serve(name, url))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
