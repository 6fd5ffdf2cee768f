"""What is measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass

#: In the order of the tables. stock: the package's Worker; worker: FleetWorker with a function as its execution;
#: fleet: with executor, metrics and log lines, as it is shipped; node: Node's worker.
NAMES = ("stock", "worker", "fleet", "node")


@dataclass(frozen=True, slots=True)
class Load:
    """A queue that is full when the worker opens it."""

    work_ms: int
    slots: int
    jobs: int

    @property
    def title(self) -> str:
        return f"{f'{self.work_ms} ms' if self.work_ms else 'no-op'}, {self.slots} slot{'s' * (self.slots > 1)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the benchmark."""

    rounds: int = 15
    """Each measures all contestants once, in turn; a ratio is taken within a round."""
    loads: tuple[Load, ...] = (
        Load(0, 1, 800),
        Load(0, 10, 1500),
        Load(0, 50, 1500),
        Load(0, 100, 1500),
        Load(1, 1, 400),
        Load(1, 10, 1500),
        Load(1, 50, 1500),
        Load(1, 100, 1500),
    )
    light_rounds: int = 5
    light_slots: tuple[int, ...] = (1, 10, 100)
    light_jobs: int = 50
    light_gap_s: float = 0.03
    idle_s: tuple[float, ...] = (1, 3, 6, 13)
    idle_rounds: int = 3

    def shorter(self, rounds: int) -> Plan:
        """The same with fewer rounds."""
        return Plan(rounds=rounds, light_rounds=min(rounds, self.light_rounds), idle_rounds=min(rounds, 1))
