"""The account that a run is held to would tell whatever went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import plan_of
from tests.chaos.hostile_verdict import HostileVerdict
from tests.chaos.ledger import Ledger
from tests.chaos.report import page
from tests.chaos.run import Outcome
from tests.chaos.verdict import Verdict, judge
from tests.queue_view import QueueView


class Account:
    """One good run of three jobs, which a test may spoil."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        for job in ("plain", "late", "bounce"):
            ledger.sent(job, delay_s=0.5 if job == "late" else 0.0, bounces=job == "bounce")
            ledger.acknowledged(job)
            if job != "bounce":
                ledger.delivered(job, f"<{job}>")
        for job in ("plain", "late"):
            added_at = ledger.entries[job].added_at
            assert added_at is not None
            ledger.entries[job].deliveries = [added_at + 0.75]
        self.places = {"plain": ["completed"], "late": ["completed"], "bounce": ["failed"]}
        self.rows = {"plain", "late", "bounce"}
        self.locks: set[str] = set()
        self.reasons = {"bounce": "SMTP server 127.0.0.1:4242: bounce-1@example.com: 550"}
        self.events = {job: Counter(active=1, completed=int(job != "bounce")) for job in self.places}
        self.told = Counter({"plain": 1, "late": 1})

    def judge(self) -> Verdict:
        view = QueueView(self.places, frozenset(self.rows), frozenset(self.locks))
        return judge(self.ledger, view, self.reasons, self.events, self.told)


@pytest.fixture
def account(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        yield Account(ledger)


def test_good_run_is_counted_and_nothing_is_wrong(account: Account) -> None:
    verdict = account.judge()
    assert (verdict.added, verdict.delivered, verdict.extra, verdict.restarted) == (3, 2, 0, 0)
    assert verdict.failed == {"SMTP server 127.0.0.1:…: …: 550": 1}
    assert sorted(verdict.late_s) == pytest.approx([0.25, 0.75])
    assert not verdict.wrong
    assert len(account.ledger.path.read_text().splitlines()) == 8


def test_start_after_an_interrupted_one_may_deliver_again(account: Account) -> None:
    account.events["plain"] += Counter(active=2, stalled=1)
    account.ledger.put_off("plain")
    account.ledger.delivered("plain", "<plain>")  # the third of its starts
    verdict = account.judge()
    assert not verdict.wrong
    assert (verdict.extra, verdict.restarted, verdict.stalled) == (1, 1, 1)


def test_completion_that_a_killed_process_kept_to_itself_is_counted(account: Account) -> None:
    account.told.clear()
    verdict = account.judge()
    assert not verdict.wrong and verdict.untold == 2


def _loses(account: Account) -> None:
    del account.places["plain"]


def _leaves_active(account: Account) -> None:
    account.places["plain"] = ["active"]
    account.locks.add("plain")


def _is_in_two_places(account: Account) -> None:
    account.places["plain"] = ["completed", "wait"]


def _completes_twice(account: Account) -> None:
    account.events["plain"]["completed"] = 2


def _tells_twice(account: Account) -> None:
    account.told["plain"] = 2


def _delivers_nothing(account: Account) -> None:
    account.ledger.entries["plain"].deliveries.clear()


def _delivers_twice_in_one_start(account: Account) -> None:
    account.ledger.delivered("plain", "<plain>")


def _delivers_again_where_only_a_put_off_called_for_it(account: Account) -> None:
    account.events["plain"]["active"] = 2
    account.ledger.put_off("plain")
    account.ledger.delivered("plain", "<plain>")


def _changes_the_message_id(account: Account) -> None:
    account.events["plain"]["active"] = 2
    account.ledger.delivered("plain", "<other>")


def _fails_what_can_be_delivered(account: Account) -> None:
    account.places["plain"] = ["failed"]
    account.reasons["plain"] = "job stalled more than allowable limit"


def _fails_without_a_reason(account: Account) -> None:
    account.reasons.clear()


def _delivers_what_nobody_added(account: Account) -> None:
    account.ledger.delivered("stranger", "<stranger>")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_loses, "plain is in no place"),
        (_leaves_active, "plain is still locked"),
        (_is_in_two_places, r"plain is in \['completed', 'wait'\]"),
        (_completes_twice, "plain: completed 2 times"),
        (_tells_twice, "plain: told of as completed 2 times"),
        (_delivers_nothing, "plain: completed, but its mail was never delivered"),
        (_delivers_twice_in_one_start, "plain: started 1 times, put off 0 times and delivered 2 times"),
        (
            _delivers_again_where_only_a_put_off_called_for_it,
            "plain: started 2 times, put off 1 times and delivered 2 times",
        ),
        (_changes_the_message_id, "plain: delivered under several Message-IDs"),
        (_fails_what_can_be_delivered, "plain: failed although its mail can be delivered: job stalled"),
        (_fails_without_a_reason, "bounce: failed without a reason"),
        (_delivers_what_nobody_added, "a mail to stranger, which was never added"),
    ],
)
def test_whatever_goes_wrong_is_told(account: Account, spoil: Callable[[Account], None], said: str) -> None:
    spoil(account)
    wrong = account.judge().wrong
    with pytest.raises(AssertionError, match=said):
        assert not wrong, "\n".join(wrong)


def test_report_shows_the_counts_and_what_is_wrong(account: Account) -> None:
    plan, _ = plan_of(["--seed", "7", "--minutes", "1.5", "--only", "reset,cut"])
    verdict = account.judge()
    outcome = Outcome(
        plan=plan,
        verdict=verdict,
        hostile=HostileVerdict({"fill disk": Counter({"[Errno 27] a|b": 2}), "block loop": Counter(quarantined=1)}),
        late_s={"all mails": [0.5, 0.25], "fill disk": []},
        faults=Counter(reset=3),
        breaks=1,
        exit_codes=Counter({0: 2}),
        producer="Node",
        producer_restarts=0,
        server="valkey 9",
        seconds=100.0,
        wrong=["plain is in no place"],
    )
    text = page(outcome)
    assert """--seed 7 --minutes 1.5 --only 'reset,cut'""" in text
    assert "| mails added | 3 |" in text and "| reset | 3 |" in text
    assert "| hostile jobs added, and ended | 3 |" in text
    assert "| of those quarantined, since their process died each time | 1 |" in text
    assert "| fill disk | [Errno 27] a\\|b | 2 |" in text
    assert "| all mails | 2 | 0.38 s | 0.50 s |" in text and "| fill disk | 0 | 0.00 s | 0.00 s |" in text
    assert "- plain is in no place" in text


@pytest.mark.parametrize(
    "arguments", [["--minutes", "0"], ["--hostile-every", "0"], ["--only", "earthquake"], ["--seed", "x"]]
)
def test_plan_that_makes_no_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        plan_of(arguments)
    assert arguments[0].removeprefix("--") in capsys.readouterr().err
