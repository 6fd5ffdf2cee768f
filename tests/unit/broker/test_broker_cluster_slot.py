"""Finding the one node that owns the prefix's slot."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from workers.broker.address import EndpointError
from workers.broker.cluster_slot import SlotLocator, owner_of, slot_of
from workers.broker.connection import Node


def slots(*ranges: tuple[int, int, Any]) -> list[Any]:
    """A reply to CLUSTER SLOTS: each range with its primary, and one replica."""
    return [[first, last, [host, 7000, "id", []], [f"{host}-replica", 7001, "id", []]] for first, last, host in ranges]


HALVES = slots((0, 8191, "low"), (8192, 16383, "high"))


@pytest.mark.parametrize(
    ("slot", "reply", "owner"),
    [
        (0, HALVES, ("low", 7000)),
        (8191, HALVES, ("low", 7000)),
        (8192, HALVES, ("high", 7000)),
        (16383, HALVES, ("high", 7000)),
        (5, slots((6, 9, "h")), None),
        (5, [], None),
        (5, slots((0, 9, "")), ("asked", 7000)),
        (5, slots((0, 9, None)), ("asked", 7000)),
        (5, slots((0, 9, "?")), None),
    ],
)
def test_owner_is_the_primary_of_the_range(slot: int, reply: Any, owner: Node | None) -> None:
    assert owner_of(slot, reply, "asked") == owner


tags = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1, max_size=8)
texts = st.text(st.characters(exclude_characters="{", exclude_categories=["Cs"]), max_size=5)


@given(texts, tags, st.text(max_size=5).filter(lambda t: t.isascii()), st.text(st.characters(codec="utf-8")))
def test_every_key_of_a_prefix_with_a_tag_lies_in_its_slot(before: str, tag: str, after: str, rest: str) -> None:
    prefix = f"{before}{{{tag}}}{after}"
    assert key_slot(f"{prefix}:{rest}".encode()) == slot_of(prefix)


@pytest.mark.parametrize("prefix", ["bull", "{}", "{}{a}", "}bull{", "{bull", "bull}"])
def test_prefix_without_a_tag_is_refused_with_the_fix(prefix: str) -> None:
    with pytest.raises(EndpointError, match=r"redis\.prefix: .*put the prefix in braces, `\{bull\}` for `bull`"):
        slot_of(prefix)


class Nodes:
    """What each node answers; errors are raised, and nodes without an answer are not there."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask(self, node: Node, *words: str) -> Any:
        assert words == ("CLUSTER", "SLOTS")
        self.asked.append(node[0])
        answer = self.answers.get(node[0], OSError("not there"))
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_seeds_are_asked_until_one_knows_the_owner() -> None:
    nodes = Nodes(b=[], c=HALVES)
    locator = SlotLocator(9000, [("a", 1), ("b", 2), ("c", 3)], nodes.ask)
    assert await locator.locate() == ("high", 7000) == locator.address
    assert nodes.asked == ["a", "b", "c"]


async def test_all_refusals_are_told() -> None:
    nodes = Nodes(a=ResponseError("This instance has cluster support disabled"), b=[])
    locator = SlotLocator(7, [("a", 1), ("b", 2), ("c", 3)], nodes.ask)
    with pytest.raises(RedisConnectionError) as failure:
        await locator.locate()
    assert str(failure.value) == (
        "no node of the cluster helps (redis.url): a:1: it is no cluster; write redis:// or rediss://; "
        "b:2 knows no owner of slot 7; c:3: not there"
    )


async def test_nodes_that_were_learned_help_when_every_seed_is_gone() -> None:
    nodes = Nodes(seed=HALVES)
    locator = SlotLocator(9000, [("seed", 1)], nodes.ask)
    await locator.locate()
    nodes.answers = {"high-replica": slots((0, 16383, "high-replica"))}
    locator.doubt(("high", 7000), None)
    assert await locator.locate() == ("high-replica", 7000)


async def test_node_that_a_redirection_names_is_asked_first_and_the_doubted_one_last() -> None:
    nodes = Nodes(seed=HALVES, high=HALVES, new=slots((0, 16383, "new")))
    locator = SlotLocator(9000, [("seed", 1)], nodes.ask)
    await locator.locate()
    nodes.asked.clear()
    locator.doubt(("high", 7000), ("new", 7000))
    assert await locator.locate() == ("new", 7000)
    assert nodes.asked == ["new"]  # the others may not have heard of it yet
    nodes.answers["new"] = OSError("gone")
    nodes.asked.clear()
    locator.doubt(("new", 7000), None)
    assert await locator.locate() == ("high", 7000)
    assert nodes.asked == ["new-replica", "seed"]


async def test_doubt_about_an_address_that_was_left_changes_nothing() -> None:
    locator = SlotLocator(9000, [("seed", 1)], Nodes(seed=HALVES).ask)
    await locator.locate()
    locator.doubt(("elsewhere", 7000), ("wrong", 1))
    assert locator.address == ("high", 7000)
