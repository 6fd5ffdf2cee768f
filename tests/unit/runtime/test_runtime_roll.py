"""What a new configuration means for each process that runs."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.supervision.recycle import Limits
from workers.runtime.supervision.roll import Roll, plan
from workers.runtime.supervision.spec import ChildSpec


def spec(name: str, brief: str = "same", **fields: Any) -> ChildSpec:
    return ChildSpec(name=name, argv=("python",), stdin=brief.encode(), **fields)


def named(*specs: ChildSpec) -> dict[str, ChildSpec]:
    return {each.name: each for each in specs}


def test_each_process_is_in_the_list_that_its_change_asks_for() -> None:
    present = named(spec("a-0"), spec("a-1"), spec("b-0"), spec("c-0"), spec("gone-0"))
    wanted = named(
        spec("a-0"),
        spec("a-1", "another"),
        spec("b-0", grace_s=5.0),
        spec("c-0", env={"X": "1"}),
        spec("new-0"),
    )
    assert plan(present, wanted) == Roll(
        added=("new-0",), removed=("gone-0",), replaced=("a-1", "c-0"), adjusted=("b-0",), kept=("a-0",)
    )


def test_limits_alone_replace_nothing() -> None:
    present, wanted = named(spec("a-0")), named(spec("a-0", limits=Limits(memory=1), silence_s=9.0))
    assert plan(present, wanted) == Roll(adjusted=("a-0",))


def test_summary_names_what_happens_and_what_does_not() -> None:
    roll = Roll(added=("a-1",), removed=("b-0", "b-1"), replaced=("c-0",), adjusted=("d-0",), kept=("e-0",))
    assert str(roll) == "started: a-1; drained: b-0, b-1; replaced: c-0; adjusted: d-0; left alone: e-0"
    assert str(Roll(kept=("e-0",))) == "left alone: e-0"


def test_process_belongs_to_the_pool_of_its_name() -> None:
    assert [spec(name).pool for name in ("my-pool-12", "alone")] == ["my-pool", "alone"]
    assert spec("x-0", pool="y").pool == "y"


def test_brief_is_never_shown() -> None:
    assert "hunter2" not in repr(spec("a-0", "hunter2"))


specs = st.builds(spec, st.sampled_from(["a-0", "a-1", "b-0"]), st.sampled_from(["x", "y"]))
sets = st.lists(specs, max_size=5).map(lambda found: named(*found))


@given(sets, sets)
def test_every_process_is_in_exactly_one_list(present: dict[str, ChildSpec], wanted: dict[str, ChildSpec]) -> None:
    roll = plan(present, wanted)
    lists = [*roll.added, *roll.removed, *roll.replaced, *roll.adjusted, *roll.kept]
    assert sorted(lists) == sorted({*present, *wanted})
    assert plan(wanted, wanted) == Roll(kept=tuple(wanted))
