"""The page: what was measured, as Markdown. Ratios come first; absolute numbers are of one machine. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from tests.benchmarks.contest.measure import Light, Measured, Run
from tests.benchmarks.contest.plan import NAMES, Load, Plan

TITLES = {"stock": "`bullmq.Worker`", "worker": "FleetWorker", "fleet": "Fleet, whole", "node": "Node"}
#: Below this share of the package's worker a median counts as slower: repeats of one contestant differ by more.
TOLERANCE = 0.97
#: The same after silence, where each number is the median of a few single jobs.
IDLE_TOLERANCE_MS = 1.0


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio(runs: dict[str, list[Run]], over: str, under: str, of: Callable[[Run], float]) -> tuple[float, float, float]:
    """Median and quartiles of the ratios within each round."""
    ratios = [of(a) / of(b) for a, b in zip(runs[over], runs[under], strict=True)]
    return statistics.median(ratios), quantile(ratios, 0.25), quantile(ratios, 0.75)


def times(of: tuple[float, float, float]) -> str:
    return f"×{of[0]:.2f} ({of[1]:.2f}–{of[2]:.2f})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *(list(row) for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def slower(measured: Measured, name: str) -> list[str]:
    """Where this contestant has fewer jobs a second or starts them later than the package's worker."""
    found = [f"hung while closing idle ({measured.hangs[name]} times)"] if name in measured.hangs else []
    for load, runs in measured.loads.items():
        middle = ratio(runs, name, "stock", lambda run: run.jobs_per_s)[0]
        if middle < TOLERANCE:
            found.append(f"{load.title} (×{middle:.2f})")
    for slots, light in measured.light.items():
        ours, theirs = (quantile(_late(light[side]), 0.5) for side in (name, "stock"))
        if ours * TOLERANCE > theirs:
            found.append(f"light load with slots: {slots} ({ours:.2f} ms, not {theirs:.2f})")
    for seconds, idle in measured.idle.items():
        ours, theirs = (statistics.median(idle[side]) for side in (name, "stock"))
        if ours > theirs + IDLE_TOLERANCE_MS:
            found.append(f"after {seconds:g} s of silence ({ours:.1f} ms, not {theirs:.1f})")
    return found


def _late(rounds: list[Light]) -> list[float]:
    return [late for each in rounds for late in each.latencies_ms]


def page(measured: Measured, plan: Plan, about: str) -> str:
    """All of it."""
    verdicts = [f"- {TITLES[name]}: {', '.join(slower(measured, name)) or 'nowhere'}" for name in ("worker", "fleet")]
    return "\n".join(
        [
            "# Workers under load, at light load and idle",
            "",
            f"`make bench worker`. {about}",
            "",
            "- `bullmq.Worker`: the package's, with its defaults and a processor that is a function.",
            "- FleetWorker: ours with a function as its execution.",
            "- Fleet, whole: FleetWorker with executor (data decoded, time-out, retry decision), metrics and two log "
            "lines a job, as it is shipped.",
            "- Node: npm bullmq's Worker.",
            "",
            f"Each in a process of its own, in turn, {plan.rounds} rounds on one Valkey over loopback; each round "
            "begins with another one. A ratio is taken within a round; shown are the median and the quartiles. Rows "
            "are kept, a listener counts completions, the clock runs from the first start to the last completion.",
            "",
            "Below the package's worker, by medians:",
            "",
            *verdicts,
            "",
            *_hangs(measured),
            *_throughput(measured),
            *_cost(measured),
            *_light(measured, plan),
            *_idle(measured, plan),
            *_memory(measured),
        ]
    )


def _hangs(measured: Measured) -> list[str]:
    if not measured.hangs:
        return []
    counts = ", ".join(f"{TITLES[name]} {count}×" for name, count in measured.hangs.items())
    return [f"Hung while closing an idle worker, and was replaced: {counts}.", ""]


def _throughput(measured: Measured) -> list[str]:
    def speed(run: Run) -> float:
        return run.jobs_per_s

    pairs = (("worker", "stock"), ("fleet", "stock"), ("node", "stock"), ("worker", "node"), ("fleet", "node"))
    ratios = table(
        ["jobs", *(f"{TITLES[over]} / {TITLES[under]}" for over, under in pairs)],
        [[load.title, *(times(ratio(runs, *pair, speed)) for pair in pairs)] for load, runs in measured.loads.items()],
    )
    absolute = table(
        ["jobs a second here", *(TITLES[name] for name in NAMES)],
        [[load.title, *_medians(runs, speed, ",.0f")] for load, runs in measured.loads.items()],
    )
    return ["## Jobs a second", "", *ratios, *absolute]


def _medians(runs: dict[str, list[Run]], of: Callable[[Run], float], form: str) -> list[str]:
    return [format(statistics.median(map(of, runs[name])), form) for name in NAMES]


def _cost(measured: Measured) -> list[str]:
    def rows(of: Callable[[Run], float], form: str) -> list[list[str]]:
        return [[load.title, *_medians(runs, of, form)] for load, runs in measured.loads.items() if _tells(load)]

    def head(what: str) -> list[str]:
        return [what, *(TITLES[name] for name in NAMES)]

    return [
        "## What a job costs under load",
        "",
        *table(head("commands that a worker sends"), rows(lambda run: run.commands, ".2f")),
        *table(head("CPU of the worker's process here, µs"), rows(lambda run: run.cpu_us, ".0f")),
        *table(head("CPU of the server here, µs"), rows(lambda run: run.server_us, ".0f")),
    ]


def _tells(load: Load) -> bool:
    """Where jobs take time, the worker's own share is not seen better."""
    return load.work_ms == 0


def _light(measured: Measured, plan: Plan) -> list[str]:
    gap_ms = plan.light_gap_s * 1000
    latencies = [
        [f"slots: {slots}", *(_spread(_late(light[name])) for name in NAMES)] for slots, light in measured.light.items()
    ]
    commands = [
        [f"slots: {slots}", *(f"{statistics.median(each.commands for each in light[name]):.1f}" for name in NAMES)]
        for slots, light in measured.light.items()
    ]
    return [
        "## At light load",
        "",
        f"One job each {gap_ms:.0f} ms, {plan.light_jobs} of them, {plan.light_rounds} rounds. From before the job is "
        "added to its start, the adding included.",
        "",
        *table(["ms: median (99 %)", *(TITLES[name] for name in NAMES)], latencies),
        *table(["commands a job", *(TITLES[name] for name in NAMES)], commands),
    ]


def _spread(late: list[float]) -> str:
    return f"{quantile(late, 0.5):.2f} ({quantile(late, 0.99):.1f})"


def _idle(measured: Measured, plan: Plan) -> list[str]:
    rows = [
        [f"{seconds:g} s", *(f"{statistics.median(idle[name]):.1f}" for name in NAMES)]
        for seconds, idle in measured.idle.items()
    ]
    return [
        "## After silence",
        "",
        f"10 slots, all silent side by side; from before the job is added to its start, median of {plan.idle_rounds}.",
        "",
        *table(["ms after", *(TITLES[name] for name in NAMES)], rows),
    ]


def _memory(measured: Measured) -> list[str]:
    jobs = sum(load.jobs * len(next(iter(runs.values()))) for load, runs in measured.loads.items())
    rows = [
        ["before the first job", *(f"{measured.idle_mb[name]:.0f}" for name in NAMES)],
        [f"after {jobs:,} jobs", *(f"{measured.used_mb[name]:.0f}" for name in NAMES)],
    ]
    return ["## Resident memory of an idle process, 10 slots", "", *table(["MB", *(TITLES[n] for n in NAMES)], rows)]
