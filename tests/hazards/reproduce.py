"""One hazard on one worker, in a process of its own: `python -m tests.hazards.reproduce H4 stock redis://…`.

Prints what was seen as one JSON line. It may hang; whoever started it kills it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict

from tests.hazards import closing, jobs, network, quiet
from tests.hazards.reproduction import Reproduction, Seen
from tests.hazards.subject import Fleet, Lab, Stock

ALL: dict[str, Reproduction] = dict(
    sorted(
        {**quiet.REPRODUCTIONS, **closing.REPRODUCTIONS, **network.REPRODUCTIONS, **jobs.REPRODUCTIONS}.items(),
        key=lambda item: int(item[0][1:]),
    )
)
SIDES = {"stock": Stock, "fleet": Fleet}


async def play(reproduction: Reproduction, side: str, url: str) -> Seen:
    """Play it; where a hang is not the hazard itself, say at once what was seen, since the loop's end may hang too."""
    seen = await reproduction.play(SIDES[side], Lab(url))
    if not reproduction.hang:
        tell(seen)
    return seen


def tell(seen: Seen) -> None:
    sys.stdout.write(json.dumps(asdict(seen)) + "\n")
    sys.stdout.flush()


def main() -> None:
    number, side, url = sys.argv[1:]
    seen = asyncio.run(play(ALL[number], side, url))
    if ALL[number].hang:
        tell(seen)


if __name__ == "__main__":
    main()
