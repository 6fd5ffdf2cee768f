"""The contract's rules find what they are there for: a sound module passes, each broken one fails where it should."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.queues.contract import at_rest, flawed, modules, rules
from tests.queues.contract.case import Case, surroundings_of
from tests.queues.contract.flawed import Open
from tests.queues.contract.modules import QUEUE, SECRET, Trash
from tests.queues.contract.rules import RULES, Rule, name


@pytest.fixture
async def trash() -> AsyncIterator[Trash]:
    trash = Trash()
    yield trash
    await trash.empty()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    file = tmp_path / "echo.py"
    file.write_text("from __future__ import annotations\nimport asyncio\nfrom workers.contract import QueueModule\n")
    return file


@pytest.mark.parametrize("rule", RULES, ids=name)
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_sound_module_passes(rule: Rule, kind: str, trash: Trash, sources: Path) -> None:
    made = modules.module(trash) if kind == "async" else modules.module(trash, open=modules.open_sync)
    await rule(replace(modules.case(made, sources), patience_s=15.0))


@dataclass(frozen=True)
class Flaw:
    """A module with one thing wrong, the rule that it breaks, and what is said then."""

    rule: Rule
    said: str
    changed: dict[str, Any] = field(default_factory=dict)
    """Fields of the module; an `opens` gets the trash and makes its `open`."""
    example: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    queue: str = QUEUE

    def case(self, trash: Trash, sources: Path) -> Case:
        changed = dict(self.changed)
        if opens := changed.pop("opens", None):
            changed["open"] = opens(trash)
        sources.write_text(f"from __future__ import annotations\n{self.source}\n")
        return modules.case(modules.module(trash, **changed), sources, queue=self.queue, **self.example)


def opens(make: Callable[[Trash], Open]) -> dict[str, Any]:
    return {"opens": make}


def works(work: Any) -> dict[str, Any]:
    return {"work": work}


JOB = {"type": QUEUE, "id": "1"}
FLAWS = (
    Flaw(at_rest.type_is_the_queues, "other-send", {"task": flawed.OtherType}),
    Flaw(at_rest.type_is_the_queues, "Literal", {"task": flawed.LooseType}),
    Flaw(at_rest.type_is_known_to_others_if_tasks_has_it, "OwnMail", {"task": flawed.OwnMail}, queue="email-send"),
    Flaw(at_rest.imports_nothing_forbidden, "imports redis.asyncio", source="from redis.asyncio import Redis"),
    Flaw(at_rest.imports_nothing_forbidden, "imports workers.broker", source="import workers.broker.keys as k"),
    Flaw(at_rest.imports_nothing_forbidden, "imports workers.broker", source="from workers import broker"),
    Flaw(
        at_rest.imports_nothing_forbidden,
        "imports workers.queues.email_send",
        source="import workers.queues.email_send",
    ),
    Flaw(at_rest.imports_nothing_forbidden, "imports config", source="def late():\n    import config.schema"),
    Flaw(at_rest.imports_nothing_forbidden, "relative", source="from . import neighbour"),
    Flaw(at_rest.options_refuse_what_they_do_not_know, "DID NOT RAISE", {"options": flawed.TakesAll}),
    Flaw(at_rest.options_refuse_what_they_do_not_know, "DID NOT RAISE", {"options": flawed.TakesAllInside}),
    Flaw(at_rest.options_show_no_secret, "password='<the secret>'", {"options": flawed.ShowsPassword}),
    Flaw(at_rest.options_show_no_secret, "input_value='<the secret>", {"options": flawed.ShowsInput}),
    Flaw(at_rest.classify_is_total_and_pure, "range", {"classify": flawed.picky}),
    Flaw(at_rest.classify_is_total_and_pure, "no Verdict", {"classify": flawed.speechless}),
    Flaw(at_rest.classify_is_total_and_pure, "says two things", {"classify": flawed.moody}),
    Flaw(at_rest.classify_is_total_and_pure, "changes a", {"classify": flawed.meddling}),
    Flaw(at_rest.classify_is_total_and_pure, "two things|waits nan", {"classify": flawed.timeless}),
    Flaw(at_rest.classify_is_total_and_pure, "no class: strange", {"classify": flawed.vague}),
    Flaw(at_rest.decodes_its_fixtures, "changes on its way", {"task": flawed.Forgetful}),
    Flaw(at_rest.decodes_its_fixtures, "DID NOT RAISE", {"task": flawed.Lenient}),
    Flaw(at_rest.decodes_its_fixtures, r"tests/queues/echo_send/examples\.py", example={"data": []}),
    Flaw(at_rest.decodes_its_fixtures, r"data\.words", example={"data": [{**JOB, "words": "no list"}]}),
    Flaw(rules.opening_begins_when_it_is_entered, "left behind: {'tasks'", opens(flawed.eager)),
    Flaw(
        rules.closes_without_a_job,
        "left behind: {'tasks'",
        opens(flawed.leaking(lambda trash: trash.task(modules.for_ever()))),
    ),
    Flaw(rules.closes_without_a_job, "left behind: {'open files'", opens(flawed.leaking(Trash.socket))),
    Flaw(rules.closes_without_a_job, "left behind: {'threads'", opens(flawed.leaking(Trash.thread))),
    Flaw(
        rules.closes_without_a_job, "Python complains.*never awaited", opens(flawed.leaking(lambda _: asyncio.sleep(0)))
    ),
    Flaw(rules.opens_twice_at_once, "the connection is closed", opens(flawed.lonely)),
    Flaw(rules.closes_when_its_host_failed, "DID NOT RAISE", opens(flawed.deaf)),
    Flaw(rules.closes_when_its_host_failed, "left behind: {'open files'", opens(flawed.careless)),
    Flaw(rules.does_its_examples, "not today", works(flawed.raises)),
    Flaw(rules.does_its_examples, "neither JSON nor an outcome", works(flawed.returns_a_set)),
    Flaw(rules.does_its_examples, "changes its task", works(flawed.changes_its_task)),
    Flaw(rules.does_its_examples, "expected a number or an object", works(flawed.says_progress_wrongly)),
    Flaw(rules.does_its_examples, "nobody asks", works(flawed.forgets_an_error)),
    Flaw(rules.does_as_many_at_once_as_it_has_slots, "TimeoutError", works(flawed.works_alone)),
    Flaw(
        rules.stop_before_the_start_is_obeyed,
        r"asked to stop \(pause\) it ended with 'done'",
        works(flawed.never_looks),
    ),
    Flaw(rules.stop_before_the_start_is_obeyed, "it ended with Snooze", works(flawed.snoozes)),
    Flaw(rules.deadline_that_has_passed_ends_the_run, "does not end", works(flawed.waits_for_more_time)),
    Flaw(rules.cancelled_anywhere_it_leaves_nothing, "cancelled at suspension 1", works(flawed.goes_on)),
    Flaw(rules.cancelled_anywhere_it_leaves_nothing, "left behind: {'open files'", works(flawed.leaves_its_connection)),
    Flaw(rules.cancelled_anywhere_it_leaves_nothing, "left behind: {'tasks'", works(flawed.leaves_its_child)),
    Flaw(rules.cancelled_anywhere_it_leaves_nothing, "TimeoutError|does not end", works(flawed.leaves_the_door_shut)),
    Flaw(rules.closes_while_it_works, "does not end after", works(flawed.works_in_a_shelter)),
)


@pytest.mark.parametrize("flaw", FLAWS, ids=[f"{name(flaw.rule)}-{number}" for number, flaw in enumerate(FLAWS)])
async def test_broken_module_is_caught(flaw: Flaw, trash: Trash, sources: Path) -> None:
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        await flaw.rule(flaw.case(trash, sources))
    said = f"{type(caught.value).__name__}: {caught.value}"
    assert re.search(flaw.said, said, re.DOTALL), said
    assert SECRET not in said


def test_every_rule_catches_something() -> None:
    assert {flaw.rule for flaw in FLAWS} == set(RULES)


async def test_module_without_examples_is_told_where_they_belong() -> None:
    expected = r"tests\.queues\.no_such_queue\.examples: expected SURROUNDINGS, what the module works with"
    with pytest.raises(AssertionError, match=expected):
        async with surroundings_of("no-such-queue")():
            raise RuntimeError("not reached")
