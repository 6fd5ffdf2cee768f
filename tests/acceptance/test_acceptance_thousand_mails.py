"""The show of thousand_mails.py with sixty, and that it would tell if something went wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.acceptance.conftest import StartFleet
from tests.acceptance.mail_host import MailHost
from tests.acceptance.thousand_mails import PROCESSES, Plan, Tally, deliver, missing
from tests.conftest import Server

GOOD = Tally(added=60, delivered=58, failed={"a": "x", "b": "y"}, retried=1, twice=0, lost=0, exit_code=0, seconds=1)


@pytest.mark.node
async def test_mails_of_a_node_producer_are_all_delivered_once_or_failed_with_a_reason(
    start_fleet: StartFleet, valkey: Server, prefix: str, mail_host: MailHost
) -> None:
    if lacking := missing():
        pytest.skip(f"needs {lacking}")
    plan = Plan.draw(60, seed=2)
    fleet = start_fleet(
        *("--set", f"pools.communication.processes={PROCESSES}"),
        *("--set", "queues.email-send.task.retry.backoff=100ms"),
    )

    tally = await deliver(plan, redis_url=valkey.url, prefix=prefix, host=mail_host, fleet=fleet)

    assert tally.is_complete, tally.table()
    assert tally.added == 60
    assert {f"{job}@example.com" for job in tally.failed} == plan.never
    assert all("550 5.7.1 not wanted here" in reason for reason in tally.failed.values())
    assert tally.retried == len(plan.later) == 1
    assert len(plan.never) == 2


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, delivered=57),
        replace(GOOD, failed={"a": "x"}),
        replace(GOOD, twice=1),
        replace(GOOD, lost=1),
        replace(GOOD, exit_code=1),
    ],
)
def test_any_mail_unaccounted_for_spoils_the_tally(bad: Tally) -> None:
    assert GOOD.is_complete
    assert not bad.is_complete
