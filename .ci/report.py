"""Print what each ring of the tests may take and took, and the sum of their results.

Reads dist/reports, where `.ci/ring` writes. Going over a budget warns; it fails nothing, since machines differ.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

#: Minutes that each ring may take on a machine with two cores.
BUDGETS = {"set-up": 4, "static": 2, "unit": 1, "integration": 4, "interop": 4, "acceptance": 2, "chaos": 2}


def table(reports: Path) -> list[str]:
    """The rings with their budget, time and result, in the order in which they run."""
    lines = [f"{'ring':<12} {'budget min':>10} {'spent min':>10}  result"]
    total = 0.0
    for ring, budget in BUDGETS.items():
        took = reports / f"{ring}.took"
        if not took.exists():
            lines.append(f"{ring:<12} {budget:>10} {'':>10}  not run")
            continue
        seconds, status = map(int, took.read_text().split())
        total += seconds / 60
        result = "FAILED" if status else "passed"
        over = ", WARNING: over budget" if seconds > budget * 60 else ""
        lines.append(f"{ring:<12} {budget:>10} {seconds / 60:>10.1f}  {result}{over}")
    lines.append(f"{'total':<12} {sum(BUDGETS.values()):>10} {total:>10.1f}")
    return lines


def results(reports: Path) -> Counter[str]:
    """How many tests passed, failed and were skipped, over all rings."""
    count: Counter[str] = Counter()
    for report in sorted(reports.glob("*.xml")):
        for suite in ElementTree.parse(report).iter("testsuite"):  # noqa: S314 -- pytest on this machine wrote it
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            count["failed"] += failed
            count["skipped"] += skipped
            count["passed"] += int(suite.get("tests", 0)) - failed - skipped
    return count


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dist/reports")
    sum_of = results(folder)
    print("\n".join(["", *table(folder), ""]))
    print(f"{sum_of['passed']} passed, {sum_of['failed']} failed, {sum_of['skipped']} skipped")
