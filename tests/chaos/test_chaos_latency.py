"""How late mails are beside hostile acts, from when both were under way and where."""

from __future__ import annotations

import pytest

from tests.chaos.latency import ALL, ALONE, ELSEWHERE, IN_CHILDREN, ON_LOOP, Mail, Spell, neighbours, share_of


def _mail(due: float, late_s: float, process: str = "p", server_s: float = 0.0) -> Mail:
    return Mail(due, due + late_s, process, server_s)


def test_mail_is_in_the_group_of_what_ran_while_it_was_due() -> None:
    spells = [
        Spell("block", 10.0, 12.0, True, "p"),
        Spell("hog", 20.0, 22.0, True, "other"),
        Spell("bomb", 11.5, 13.0, False, "p"),
    ]
    mails = [
        _mail(5.0, 1.0),  # before all
        _mail(9.0, 1.0),  # delivered as the first began
        _mail(11.0, 2.0),  # beside two
        _mail(12.5, 3.0),  # beside the child alone
        _mail(21.0, 4.0),  # another process
    ]
    found = neighbours(mails, spells)
    assert found == {
        ALL: [1.0, 1.0, 2.0, 3.0, 4.0],
        ALONE: [1.0, 1.0],
        ELSEWHERE: [4.0],
        IN_CHILDREN: [3.0],
        ON_LOOP: [2.0],
        "block": [2.0],
        "bomb": [2.0, 3.0],
        "hog": [],
    }


@pytest.mark.parametrize(("mail", "spell"), [("", "p"), ("p", ""), ("", "")])
def test_what_was_not_told_may_have_been_in_the_same_process(mail: str, spell: str) -> None:
    found = neighbours([_mail(1.0, 1.0, mail)], [Spell("block", 0.0, 9.0, True, spell)])
    assert (len(found[ON_LOOP]), len(found[ELSEWHERE])) == (1, 0)


def test_run_without_an_end_goes_on() -> None:
    found = neighbours([_mail(100.0, 1.0)], [Spell("block", 0.0, float("inf"), True, "p")])
    assert found[ON_LOOP] == [1.0]


def test_what_the_mail_server_takes_of_its_own_will_does_not_count() -> None:
    assert neighbours([_mail(1.0, 3.0, server_s=2.5), _mail(1.0, 1.0, server_s=1.1)], [])[ALL] == [0.5, 0.0]


def test_shares() -> None:
    assert share_of([], 0.99) == 0.0
    assert share_of([3.0], 0.5) == 3.0
    assert share_of([float(n) for n in range(101)], 0.5) == 50.0
    assert share_of([float(n) for n in range(101)], 0.99) == pytest.approx(99.0)
