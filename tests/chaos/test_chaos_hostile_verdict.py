"""The account that the hostile jobs are held to, and what is drawn for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos import hostile_child_module, hostile_module
from tests.chaos.__main__ import parts, plan_of
from tests.chaos.hostile_verdict import HostileVerdict, judge_hostile
from tests.chaos.hostility import ACTS, BESIDE, CHILDREN, EXCUSES, LONGEST, QUEUES, Acts
from tests.chaos.ledger import Ledger
from tests.chaos.mischief import NAMES
from tests.chaos.watcher import Watcher
from tests.hostile import acts
from tests.queue_view import QueueView

POISON = "poison: its process died 3 times while it ran (last: SIGKILL)"
#: Job → act, state, reason, deaths of its process.
JOBS = {
    "block": ("block loop", "completed", "", 0),
    "disk": ("fill disk", "failed", "[Errno 27] File too large", 0),
    "kill": (LONGEST, "failed", POISON, 3),
    "bomb": ("child: memory bomb", "failed", "MemoryError", 0),
    "hang": ("child: block for ever", "failed", "timed out after 5.0 s at rung kill", 1),
}


class Account:
    """One good run, which a test may spoil."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.states = {job: [state] for job, (_, state, _, _) in JOBS.items()}
        self.reasons = {job: reason for job, (_, _, reason, _) in JOBS.items()}
        self.events = {
            job: Counter({"active": deaths + 1, "stalled": deaths, state: 1})
            for job, (_, state, _, deaths) in JOBS.items()
        }
        self.faults: set[str] = set()
        self.queues = {job: ACTS[act].queue for job, (act, *_) in JOBS.items()}
        for job, (act, *_) in JOBS.items():
            ledger.sent_hostile(job, act=act, queue=self.queues[job])
            ledger.acknowledged(job)

    def judge(self) -> HostileVerdict:
        views = {}
        for queue in QUEUES:
            places = {job: places for job, places in self.states.items() if self.queues[job] == queue}
            views[queue] = QueueView(places, frozenset(places))
        return judge_hostile(self.ledger, views, self.reasons, self.events, self.faults)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        yield Account(ledger)


def test_each_end_is_counted_by_act_without_what_differs_from_job_to_job(account: Account) -> None:
    verdict = account.judge()
    assert not verdict.wrong
    assert (verdict.added, verdict.quarantined, verdict.interrupted) == (5, 1, 4)
    assert verdict.ends[LONGEST] == {"quarantined": 1}
    assert verdict.ends["child: block for ever"] == {"timed out after … at rung kill": 1}


def test_job_that_was_not_acknowledged_need_not_be_there(account: Account) -> None:
    account.ledger.sent_hostile("unheard", act="block loop", queue=BESIDE)
    assert not account.judge().wrong


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("kill children", "its process was killed by SIGKILL"),
        ("kill children", "no child process could be started: its process was killed by SIGKILL"),
        (
            "exhaust descriptors",
            "no child process could be started: it can't be started: [Errno 24] Too many open files",
        ),
    ],
)
def test_what_was_done_to_the_children_of_a_run_excuses_any_act_there(
    account: Account, fault: str, reason: str
) -> None:
    account.reasons["bomb"] = reason
    assert account.judge().wrong == [f"bomb (child: memory bomb): failed with {reason}"]
    account.faults.add(fault)
    assert not account.judge().wrong
    account.states["block"], account.reasons["block"] = ["failed"], reason
    assert account.judge().wrong == [f"block (block loop): failed with {reason}"]


def test_act_that_uses_up_what_its_process_has_excuses_as_a_fault_does(account: Account) -> None:
    account.reasons["bomb"] = "no child process could be started: [Errno 24] Too many open files"
    assert account.judge().wrong
    account.ledger.sent_hostile("unheard", act="exhaust descriptors", queue=BESIDE)
    assert not account.judge().wrong


def _loses(account: Account) -> None:
    del account.states["bomb"]


def _is_stuck(account: Account) -> None:
    account.states["block"] = ["active"]


def _ends_twice(account: Account) -> None:
    account.events["disk"]["completed"] = 1


def _completes_what_can_not(account: Account) -> None:
    account.states["disk"] = ["completed"]


def _fails_with_something_else(account: Account) -> None:
    account.reasons["disk"] = "KeyError: 'seconds'"


def _fails_without_a_reason(account: Account) -> None:
    account.reasons.clear()


def _is_quarantined_too_early(account: Account) -> None:
    account.events["kill"]["stalled"] = 2


def _is_quarantined_below_the_limit(account: Account) -> None:
    account.reasons["kill"] = POISON.replace("3", "1")
    account.events["kill"]["stalled"] = 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_loses, f"{CHILDREN}: bomb is in no place"),
        (_is_stuck, rf"{BESIDE}: block is in \['active'\]"),
        (_ends_twice, r"disk \(fill disk\): ended 2 times"),
        (_completes_what_can_not, r"disk \(fill disk\): completed, which it can't"),
        (_fails_with_something_else, r"disk \(fill disk\): failed with KeyError"),
        (_fails_without_a_reason, r"bomb \(child: memory bomb\): failed without a reason"),
        (_is_quarantined_too_early, rf"kill \({LONGEST}\): quarantined after 2 deaths"),
        (_is_quarantined_below_the_limit, rf"kill \({LONGEST}\): quarantined after 1 deaths"),
    ],
)
def test_whatever_goes_wrong_is_told(account: Account, spoil: Callable[[Account], None], said: str) -> None:
    spoil(account)
    wrong = account.judge().wrong
    with pytest.raises(AssertionError, match=said):
        assert not wrong, "\n".join(wrong)


# --------------------------------------------------------------------- the draw


def test_each_act_comes_once_in_a_round_and_the_longest_first_in_every_fourth() -> None:
    drawn, others = Acts("seed"), [name for name in ACTS if name != LONGEST]
    assert drawn.next()[0] == LONGEST
    rounds = [[drawn.next()[0] for _ in others] for _ in range(4)]
    assert all(Counter(names) == Counter(others) for names in rounds)
    assert len({tuple(names) for names in rounds}) == 4
    assert drawn.next()[0] == LONGEST


def test_the_longest_alone_comes_again_and_again() -> None:
    drawn = Acts("seed", [LONGEST])
    assert [drawn.next()[0] for _ in range(3)] == [LONGEST] * 3


def test_one_seed_draws_the_same_jobs() -> None:
    first, second, other = Acts("seed"), Acts("seed"), Acts("other")
    jobs = [first.next() for _ in range(30)]
    assert jobs == [second.next() for _ in range(30)]
    assert jobs != [other.next() for _ in range(30)]


def test_plan_may_name_acts_and_faults() -> None:
    plan, _ = plan_of(["--only", "fill disk, kill process"])
    assert Acts("seed", plan.only).names == ("fill disk",)
    plan, _ = plan_of(["--only", "kill process"])
    assert Acts("seed", plan.only).names == ()


def test_run_of_everything_is_followed_by_one_of_the_acts_alone() -> None:
    plan, _ = plan_of(["--minutes", "5", "--seed", "7"])
    alone = parts(plan)["acts"]
    assert parts(plan)["everything"] == plan
    assert (alone.seed, alone.seconds, alone.only) == (7, 60.0, tuple(ACTS))
    plan, _ = plan_of(["--only", "reset"])
    assert list(parts(plan).values()) == [plan]


def test_each_act_is_one_that_the_modules_can_do() -> None:
    modules = {hostile_module.MODULE.task.type_name(), hostile_child_module.MODULE.task.type_name()}
    assert modules == set(QUEUES)
    assert {act.act for act in ACTS.values()} <= set(acts.ACTS)
    assert set(EXCUSES) <= {*NAMES, *ACTS}


# -------------------------------------------------------------------- the spells


def test_watcher_tells_when_a_job_was_active() -> None:
    watcher = Watcher("redis://unused", "bull", BESIDE)
    for event, at in (("waiting", 1), ("active", 2), ("progress", 3), ("stalled", 4), ("active", 6), ("completed", 7)):
        watcher._note("a", event, at)
    watcher._note("b", "active", 5)
    assert watcher.runs["a"] == [(2, 4), (6, 7)]
    assert watcher.runs["b"] == [(5, float("inf"))]
