"""Who is blamed for a blocked loop, and when nobody is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import INVALID_SPAN

from workers.broker.running import Running
from workers.runtime.blockage import COLLECTOR, STOPPED, UNKNOWN, Block, Finding, Look, find
from workers.runtime.stack import Stack


def job(job_id: str, task_type: str = "parse") -> Running:
    return Running("documents", task_type, job_id, INVALID_SPAN)


def stack(*functions: str, line: int = 1) -> Stack:
    return Stack(tuple(("/app/parse.py", line, name) for name in functions))


ONE, TWO, MAIL = job("1"), job("2"), job("3", "mail")
IDLE = Look(1.0, Stack(()), None)
BUSY = Look(1.0, stack("run", "parse"), ONE)
#: One second, in which the loop's thread computed and the looks were in time.
CALM = Block(
    blocked_s=1.0,
    threshold_s=0.5,
    watched_s=0.75,
    held_up_s=0.0,
    process_s=1.0,
    loop_s=1.0,
    collector_s=0.0,
    looks=(BUSY,),
)


def who(finding: Finding) -> tuple[str, str, str]:
    return finding.queue, finding.task_type, finding.running.job_id if finding.running else ""


NOBODY = (UNKNOWN, UNKNOWN, "")
CASES: dict[str, tuple[Block, tuple[str, str, str], str]] = {
    "a job that computes": (CALM, ("documents", "parse", "1"), ""),
    "a job that waits without the loop": (replace(CALM, process_s=0.0, loop_s=0.0), ("documents", "parse", "1"), ""),
    "it goes on: the time of the loop's thread is not known": (
        replace(CALM, loop_s=None), ("documents", "parse", "1"), "",
    ),
    "code of no job": (replace(CALM, looks=(Look(1.0, stack("refresh"), None),)), NOBODY, ""),
    "a job that held the GIL, seen right after": (
        replace(CALM, held_up_s=0.7, looks=(replace(BUSY, exact=True), replace(IDLE, for_s=0.1))),
        ("documents", "parse", "1"), "the GIL was held",
    ),
    "a job that held the GIL, seen soon after": (
        replace(CALM, held_up_s=0.7), ("documents", "parse", "1"), "and may be of another job",
    ),
    "a job that held the GIL on a machine that is too busy": (
        replace(CALM, held_up_s=0.7, process_s=0.15, loop_s=0.15, looks=(replace(BUSY, exact=True),)),
        ("documents", "parse", "1"), "the GIL was held",
    ),
    "a job that held the GIL while others computed without it": (
        replace(CALM, held_up_s=0.7, process_s=4.0, loop_s=0.9, looks=(replace(BUSY, exact=True),)),
        ("documents", "parse", "1"), "the GIL was held",
    ),
    "the process was stopped": (
        replace(CALM, held_up_s=0.7, process_s=0.01, loop_s=0.0), (UNKNOWN, STOPPED, ""), "0.01 s of processor time",
    ),
    "it was stopped, and the looks came too late": (
        replace(CALM, held_up_s=0.7, process_s=0.01, loop_s=0.0, looks=()), (UNKNOWN, STOPPED, ""), "no job's doing",
    ),
    "garbage collection": (
        replace(CALM, collector_s=0.9, held_up_s=0.7), (UNKNOWN, COLLECTOR, ""), "garbage collection took 0.90 s",
    ),
    "garbage collection, in which the process hardly ran": (
        replace(CALM, collector_s=0.9, held_up_s=0.7, process_s=0.01), (UNKNOWN, COLLECTOR, ""), "garbage collection",
    ),
    "garbage collection, in a job that blocks without it too": (
        replace(CALM, blocked_s=4.0, collector_s=2.5), ("documents", "parse", "1"), "garbage collection took 2.50 s of",
    ),
    "a job at the very beginning of its block, some of which was garbage collection": (
        replace(CALM, blocked_s=0.505, collector_s=0.01), ("documents", "parse", "1"), "",
    ),
    "a thread of a job held the GIL": (
        replace(CALM, held_up_s=0.7, loop_s=0.0, looks=(replace(BUSY, threads={TWO: stack("match")}),)),
        ("documents", "parse", "2"), "another thread held the GIL",
    ),
    "one of several threads held the GIL": (
        replace(CALM, held_up_s=0.7, loop_s=0.0, looks=(replace(IDLE, threads={ONE: Stack(()), TWO: Stack(())}),)),
        NOBODY, "another thread held the GIL; 2 jobs have one",
    ),
    "a thread of nobody held the GIL": (
        replace(CALM, held_up_s=0.7, loop_s=0.0, looks=(BUSY,)), NOBODY, "another thread held the GIL",
    ),
    "nothing was seen": (replace(CALM, held_up_s=0.7, looks=()), NOBODY, "no stack"),
    "most looks met one job": (
        replace(CALM, looks=(BUSY, BUSY, Look(1.0, stack("x"), TWO))), ("documents", "parse", "1"), "",
    ),
    "a look that stands for longer counts more": (
        replace(CALM, looks=(BUSY, BUSY, Look(5.0, stack("x"), TWO))), ("documents", "parse", "2"), "",
    ),
    "many short steps of one type": (
        replace(CALM, looks=tuple(Look(1.0, stack("parse"), job(str(n))) for n in range(4))),
        ("documents", "parse", ""), "4 jobs one after the other",
    ),
    "many short steps of several types": (
        replace(CALM, looks=(BUSY, Look(1.0, stack("send"), MAIL), IDLE)), NOBODY, "jobs of several types",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("block", "culprit", "note"), CASES.values(), ids=CASES)
def test_blame_is_where_it_belongs(block: Block, culprit: tuple[str, str, str], note: str) -> None:
    finding = find(block)
    assert who(finding) == culprit
    assert note in finding.note
    assert bool(finding.note) is bool(note)


def test_stack_is_that_of_the_functions_seen_longest_as_it_was_last() -> None:
    looks = (
        Look(1.0, stack("parse", "read", line=1), ONE),
        Look(2.0, stack("parse", "match", line=2), ONE),
        Look(2.0, stack("parse", "match", line=3), ONE),
        Look(1.0, stack("parse", "write", line=4), ONE),
    )
    assert find(replace(CALM, looks=looks)).stack == stack("parse", "match", line=3)


def test_stack_is_never_that_of_another_job() -> None:
    looks = (Look(3.0, stack("innocent"), TWO), Look(4.0, stack("guilty"), ONE))
    finding = find(replace(CALM, looks=looks))
    assert (finding.running, finding.stack) == (ONE, stack("guilty"))


def test_text_is_the_note_then_the_stack() -> None:
    assert Finding(note="why").text() == "(why)"
    assert Finding(note="why", stack=stack("parse")).text().splitlines()[0] == "(why)"
    assert Finding(stack=stack("parse")).text() == '  File "/app/parse.py", line 1, in parse'
    assert Finding().text() == ""


times = st.floats(0, 1e4)


@given(
    st.builds(
        Block,
        blocked_s=st.floats(0.5, 1e4),
        threshold_s=st.just(0.5),
        watched_s=times,
        held_up_s=times,
        process_s=times,
        loop_s=times | st.none(),
        collector_s=times,
        looks=st.lists(
            st.builds(
                Look,
                times,
                st.sampled_from([stack("a"), stack("a", "b"), Stack(())]),
                st.sampled_from([None, ONE, TWO, MAIL]),
                st.dictionaries(st.sampled_from([ONE, TWO]), st.just(stack("t"))),
                st.booleans(),
            ),
            max_size=6,
        ),
    )
)
def test_only_a_job_that_was_seen_is_blamed(block: Block) -> None:
    finding = find(block)
    seen = {look.running for look in block.looks} | {job for look in block.looks for job in look.threads}
    if finding.running is not None:
        assert finding.running in seen
        assert (finding.queue, finding.task_type) == (finding.running.queue, finding.running.task_type)
    elif finding.queue != UNKNOWN:
        assert (finding.queue, finding.task_type) in {(job.queue, job.task_type) for job in seen if job}
    assert block.looks or finding.running is None
