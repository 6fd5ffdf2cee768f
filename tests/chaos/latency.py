"""How late mails were while hostile jobs ran, and while none did. Pure.

A mail is late from being due to its acceptance, less what the mail server took of its own will.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Groups of mails, by what ran while they were due and not delivered.
ALL, ALONE, ELSEWHERE = "all mails", "nothing hostile anywhere", "acts in other processes alone"
IN_CHILDREN, ON_LOOP = "acts in children of their process, none on its loop", "acts on the loop of their process"


@dataclass(frozen=True)
class Mail:
    """A mail that was delivered."""

    due: float
    """Seconds since the epoch, as all times here."""
    delivered: float
    process: str
    """Where its job ended; empty: it was not told."""
    server_s: float = 0.0
    """What the mail server took of its own will."""

    @property
    def late_s(self) -> float:
        return max(0.0, self.delivered - self.due - self.server_s)


@dataclass(frozen=True)
class Spell:
    """A run of a hostile job."""

    act: str
    begin: float
    end: float
    on_loop: bool
    """It ran on the loop of its process; else in a child of that."""
    process: str
    """Where it ran; empty: not told, since its process died, say. It may have been beside any mail."""

    def beside(self, mail: Mail) -> bool:
        """Whether it may have run in the mail's process."""
        return not self.process or not mail.process or self.process == mail.process

    def meets(self, mail: Mail) -> bool:
        """Whether it ran while the mail was due and not delivered."""
        return self.begin < mail.delivered and mail.due < self.end


def share_of(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0.0 of none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, round(share * 1000) - 1)]


def neighbours(mails: Iterable[Mail], spells: Sequence[Spell]) -> dict[str, list[float]]:
    """How late the mails of each group were, seconds: those above, then for each act those in whose process it ran. A
    mail that meets several acts is with each of them.
    """
    groups: dict[str, list[float]] = {name: [] for name in (ALL, ALONE, ELSEWHERE, IN_CHILDREN, ON_LOOP)}
    acts: dict[str, list[float]] = {name: [] for name in sorted({spell.act for spell in spells})}
    for mail in mails:
        met = [spell for spell in spells if spell.meets(mail)]
        beside = [spell for spell in met if spell.beside(mail)]
        groups[ALL].append(mail.late_s)
        groups[_group(met, beside)].append(mail.late_s)
        for name in {spell.act for spell in beside}:
            acts[name].append(mail.late_s)
    return {**groups, **acts}


def _group(met: Sequence[Spell], beside: Sequence[Spell]) -> str:
    if beside:
        return ON_LOOP if any(spell.on_loop for spell in beside) else IN_CHILDREN
    return ELSEWHERE if met else ALONE
