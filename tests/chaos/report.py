"""A run's outcome as a Markdown page."""

from __future__ import annotations

from collections import Counter

from tests.chaos.run import Outcome

#: Lines of what went wrong that are shown.
SHOWN = 30


def page(outcome: Outcome) -> str:
    """What was done, what came of it, and what is wrong."""
    verdict, plan = outcome.verdict, outcome.plan
    only = f" --only '{','.join(plan.only)}'" if plan.only else ""
    rows = {
        "jobs added": verdict.added,
        "delivered": verdict.delivered,
        "failed, with a reason": verdict.failed.total(),
        "**lost, completed twice or in a wrong state**": len(outcome.wrong),
        "delivered once more, by a start after an interrupted one": verdict.extra,
        "starts after one that was interrupted": verdict.restarted,
        "jobs put back by the stalled check": verdict.stalled,
        "completed, and the process killed before it could say so": verdict.untold,
        "late: p50": f"{verdict.late(0.5):.2f} s",
        "late: p99": f"{verdict.late(0.99):.2f} s",
        "late: max": f"{max(verdict.late_s, default=0.0):.2f} s",
    }
    lines = [
        "# Chaos",
        "",
        f'`make chaos ARGS="--seed {plan.seed} --minutes {plan.seconds / 60:g}{only}"`: {plan.fleets} fleets of '
        f"{plan.processes} processes on {outcome.server}, {plan.rate:g} jobs a second from a {outcome.producer} "
        f"producer; locks of 3 s, AOF with fsync always. {outcome.seconds / 60:.1f} minutes in all.",
        "",
        "A job is late from being due (added, plus its delay) to the mail server's acceptance of its mail; outages "
        "count.",
        "",
        *_table("outcome", {name: str(value) for name, value in rows.items()}),
        "",
        *_table("fault", _counts(outcome.faults)),
        "",
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


def _counts(counter: Counter[str]) -> dict[str, str]:
    return {name.replace("|", "\\|"): str(times) for name, times in sorted(counter.items())}


def _table(head: str, rows: dict[str, str]) -> list[str]:
    return [f"| {head} | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())]
