"""Torment a few fleets for some minutes and account for every job: `make chaos`, or `python -m tests.chaos`.

Writes tests/chaos/results/chaos.md. Exit code 1 when a job was lost, ended twice, or ended in a wrong state; hostile
jobs are jobs, too.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.chaos.hostility import ACTS
from tests.chaos.mischief import NAMES
from tests.chaos.report import page
from tests.chaos.run import ChaosRun, Outcome, Plan

#: What `--only` may name.
KNOWN = (*NAMES, *ACTS)
RESULTS = Path(__file__).parent / "results" / "chaos.md"


def plan_of(arguments: list[str]) -> tuple[Plan, Path]:
    """The plan that the command line asks for, and where the report goes."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="decides the faults; random")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the faults go on; 5")
    parser.add_argument("--fleets", type=int, default=2, help="supervisors, each behind its own proxy; 2")
    parser.add_argument("--processes", type=int, default=2, help="processes of each fleet; 2")
    parser.add_argument("--rate", type=float, default=20.0, help="mails a second; 20")
    parser.add_argument("--hostile-every", type=float, default=1.0, help="seconds between two hostile jobs; 1")
    parser.add_argument("--only", default="", help=f"some of these faults alone: {', '.join(KNOWN)}")
    parser.add_argument("--report", type=Path, default=RESULTS, help=f"where the report goes; {RESULTS.name}")
    given = parser.parse_args(arguments)
    if min(given.minutes, given.fleets, given.processes, given.rate, given.hostile_every) <= 0:
        parser.error("minutes, fleets, processes, rate and hostile-every must be more than 0")
    only = tuple(name.strip() for name in given.only.split(",") if name.strip())
    if unknown := set(only) - set(KNOWN):
        parser.error(f"--only: no such fault: {', '.join(sorted(unknown))}; there are {', '.join(KNOWN)}")
    plan = Plan(
        seed=given.seed,
        seconds=given.minutes * 60,
        fleets=given.fleets,
        processes=given.processes,
        rate=given.rate,
        only=only,
        hostile_every_s=given.hostile_every,
    )
    return plan, given.report


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    plan, report = plan_of(sys.argv[1:])
    folder = Path(tempfile.mkdtemp(prefix="fleet-chaos-"))
    _say(f"seed {plan.seed}, {plan.seconds / 60:g} minutes; ledger and logs in {folder}")
    outcomes = [_run(each, folder / name) for name, each in parts(plan).items()]
    text = "\n".join(page(outcome) for outcome in outcomes)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(text)
    _say(text)
    if any(outcome.wrong for outcome in outcomes):
        return 1
    shutil.rmtree(folder)
    return 0


def parts(plan: Plan) -> dict[str, Plan]:
    """What is run one after the other: all of it, and for a fifth of that time the hostile acts alone, since a mail
    that waits for a fault says little about its neighbours. What the plan names, where it names something.
    """
    if plan.only:
        return {"named": plan}
    return {"everything": plan, "acts": replace(plan, seconds=plan.seconds / 5, only=tuple(ACTS))}


def _run(plan: Plan, folder: Path) -> Outcome:
    folder.mkdir()
    return asyncio.run(ChaosRun(plan, folder, _say).run())


if __name__ == "__main__":
    raise SystemExit(main())
