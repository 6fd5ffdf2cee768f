"""The numbers of a show as a Markdown page. Pure."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.benchmarks.neighbourhood.acts import Scene


@dataclass(frozen=True)
class Shown:
    """One act: how its jobs ended, and what the mails felt meanwhile."""

    title: str
    expected: str
    ends: tuple[str, ...]
    """Of its jobs, one after the other: `completed`, or `failed: ` and the reason."""
    classes: tuple[str, ...]
    """Of those that failed."""
    mails_s: tuple[float, ...]
    """Latencies of the mails that were added while it went on, seconds."""

    @property
    def as_expected(self) -> bool:
        """Whether all of its jobs ended as they have to."""
        return bool(self.ends) and all(re.match(self.expected, end) for end in self.ends)


@dataclass
class Played:
    """One scene."""

    scene: Scene
    quiet_s: list[float] = field(default_factory=list)
    after_s: list[float] = field(default_factory=list)
    acts: list[Shown] = field(default_factory=list)
    mails: int = 0
    lost: int = 0
    twice: int = 0
    exit_code: int = 0
    """Of the fleet, when it was asked to drain in the end."""

    def faults(self) -> list[str]:
        """What must not be. A mail may come twice where its process died between the server's 250 and the job's end:
        that is what at-least-once means, and such a scene kills the process of the mails.
        """
        found = [f"{act.title}: ended as {set(act.ends)}" for act in self.acts if not act.as_expected]
        if self.lost:
            found.append(f"{self.lost} mails lost")
        if self.twice and self.scene.isolation == "process":
            found.append(f"{self.twice} mails sent twice")
        if self.exit_code:
            found.append(f"the fleet ended with {self.exit_code}")
        return [f"{self.scene.title}: {each}" for each in found]


def failed(end: str) -> bool:
    """Whether a job has ended so."""
    return end.startswith("failed: ")


def share_of(values: Sequence[float], share: float) -> float:
    """The least value that is not exceeded by this share of them; 0.0 of none."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 1e6) * len(ordered) // 1_000_000) - 1)] if ordered else 0.0


def milliseconds(values: Sequence[float]) -> str:
    """Median, 99 % and most."""
    if not values:
        return "none arrived"
    figures = (statistics.median(values), share_of(values, 0.99), max(values))
    return " / ".join(_figure(value * 1000) for value in figures)


def _figure(ms: float) -> str:
    return f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"


def _ending(shown: Shown) -> str:
    """How the jobs ended, the commonest first; what is different from time to time in a reason is left out."""
    texts = Counter(re.sub(r"\b\d{4,}\b", "N", end) for end in shown.ends)
    told = [end if len(end) <= 110 else end[:109] + "…" for end, _ in texts.most_common(2)]
    more = f" (and {len(texts) - 2} others)" if len(texts) > 2 else ""
    cell = " · ".join(told) + more + ("" if shown.as_expected else " **NOT AS EXPECTED**")
    return cell.replace("|", "\\|").replace("\n", " ")


def table(played: Played) -> list[str]:
    """The lines of one scene."""
    scene = played.scene
    during = [value for act in played.acts for value in act.mails_s]
    return [
        f"## {scene.title}",
        "",
        scene.about,
        "",
        f"Mails: {played.mails:,} added, {played.lost} lost, {played.twice} sent twice. "
        f"The fleet drained and ended with {played.exit_code}.",
        "",
        "| the neighbour | jobs | how they ended | class | mails meanwhile | ms: median / 99 % / most |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| *none, before* | | | | {len(played.quiet_s)} | {milliseconds(played.quiet_s)} |",
        *(
            f"| {act.title} | {len(act.ends)} | {_ending(act)} | {', '.join(sorted(set(act.classes)))} | "
            f"{len(act.mails_s)} | {milliseconds(act.mails_s)} |"
            for act in played.acts
        ),
        f"| *all of them* | {sum(len(act.ends) for act in played.acts)} | | | {len(during)} | {milliseconds(during)} |",
        f"| *none, after* | | | | {len(played.after_s)} | {milliseconds(played.after_s)} |",
        "",
    ]


def page(shows: Sequence[Played], head: str) -> str:
    """All of it."""
    lines = ["# An innocent stream of mails beside a hostile neighbour", "", head, ""]
    faults = [fault for played in shows for fault in played.faults()]
    lines += [f"- {fault}" for fault in faults] + [""] if faults else []
    for played in shows:
        lines += table(played)
    return "\n".join(lines)
