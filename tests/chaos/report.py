"""A run's outcome as a Markdown page."""

from __future__ import annotations

from collections import Counter

from tests.chaos.hostile_verdict import HostileVerdict
from tests.chaos.hostility import ACTS
from tests.chaos.latency import share_of
from tests.chaos.run import Outcome

#: Lines of what went wrong that are shown.
SHOWN = 30


def page(outcome: Outcome) -> str:
    """What was done, what came of it, and what is wrong."""
    verdict, plan = outcome.verdict, outcome.plan
    named = "hostile acts alone" if plan.only == tuple(ACTS) else ",".join(plan.only)
    only = f" --only '{','.join(plan.only)}'" if plan.only else ""
    rows = {
        "mails added": verdict.added,
        "delivered": verdict.delivered,
        "failed, with a reason": verdict.failed.total(),
        "**lost, completed twice or in a wrong state**": len(outcome.wrong),
        "delivered once more, by a start after an interrupted one": verdict.extra,
        "starts after one that was interrupted, or lacked a descriptor": verdict.restarted,
        "hostile jobs added, and ended": outcome.hostile.added,
        "of those quarantined, since their process died each time": outcome.hostile.quarantined,
        "starts of theirs after an interrupted one": outcome.hostile.interrupted,
        "jobs put back by the stalled check": verdict.stalled,
        "completed, and the process killed before it could say so": verdict.untold,
        "late: p50": f"{verdict.late(0.5):.2f} s",
        "late: p99": f"{verdict.late(0.99):.2f} s",
        "late: max": f"{max(verdict.late_s, default=0.0):.2f} s",
    }
    lines = [
        f"# Chaos: {named}" if plan.only else "# Chaos",
        "",
        f'`make chaos ARGS="--seed {plan.seed} --minutes {plan.seconds / 60:g}{only}"`: {plan.fleets} fleets of '
        f"{plan.processes} processes on {outcome.server}, {plan.rate:g} mails a second and in every other ten seconds "
        f"a hostile job every {plan.hostile_every_s:g} s from a {outcome.producer} producer; locks of 3 s, AOF with "
        f"fsync always. "
        f"{outcome.seconds / 60:.1f} minutes in all.",
        "",
        "A mail is late from being due (added, plus its delay) to its acceptance by the mail server; outages count.",
        "",
        *_table("outcome", {name: str(value) for name, value in rows.items()}),
        "",
        "Beside hostile acts, without what the mail server took of its own will and without the mails it put off; the "
        "row of an act has the mails in whose process it ran, whatever else did:",
        "",
        *lateness(outcome.late_s),
        "",
        *_endings(outcome.hostile),
        "",
        *([*_table("fault", _counts(outcome.faults)), ""] if outcome.faults else []),
        f"Of the broken exchanges {outcome.breaks} met one. Exit codes of the supervisors that were asked to drain: "
        + (", ".join(f"{code} ({times}×)" for code, times in sorted(outcome.exit_codes.items())) or "none")
        + f". Producer restarts: {outcome.producer_restarts}.",
    ]
    if verdict.failed:
        lines += ["", *_table("failed because", _counts(verdict.failed))]
    if outcome.wrong:
        lines += ["", "## Wrong", "", *(f"- {said}" for said in outcome.wrong[:SHOWN])]
        if len(outcome.wrong) > SHOWN:
            lines.append(f"- and {len(outcome.wrong) - SHOWN} more")
    return "\n".join([*lines, ""])


def lateness(late_s: dict[str, list[float]]) -> list[str]:
    """How late mails were, by what ran meanwhile."""
    rows = (
        f"| {name} | {len(values)} | {share_of(values, 0.5):.2f} s | {share_of(values, 0.99):.2f} s |"
        for name, values in late_s.items()
    )
    return [
        "| while they were due there ran | mails | late: p50 | late: p99 |",
        "|---|---:|---:|---:|",
        *rows,
    ]


def _endings(hostile: HostileVerdict) -> list[str]:
    rows = (
        f"| {name} | {_escaped(ending)} | {times} |"
        for name, ends in sorted(hostile.ends.items())
        for ending, times in sorted(ends.items())
    )
    return ["| hostile act | its end | jobs |", "|---|---|---:|", *rows]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:200]


def _counts(counter: Counter[str]) -> dict[str, str]:
    return {_escaped(name): str(times) for name, times in sorted(counter.items())}


def _table(head: str, rows: dict[str, str]) -> list[str]:
    return [f"| {head} | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())]
