"""Every queue module keeps the contract. A new one is tried as soon as its folder is there."""

from __future__ import annotations

import pytest

from tests.queues.contract.case import Case, cases
from tests.queues.contract.rules import RULES, Rule, name

CASES = cases()


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.parametrize("case", CASES, ids=[case.queue for case in CASES])
async def test_module_keeps_the_contract(case: Case, rule: Rule) -> None:
    await rule(case)
