"""Taking over a new configuration: what takes effect, what can't, and what is refused as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from config.schema import FleetConfig
from workers.runtime.selection import Selection, SelectionError, select
from workers.runtime.supervision.reload import Reload, postponed
from workers.runtime.supervision.spec import ChildSpec
from workers.runtime.supervision.supervisor import Supervisor

TREE: dict[str, Any] = {
    "redis": {"url": "redis://host/0"},
    "pools": {"a": {"grace": "10s"}, "b": {"grace": "20s"}},
    "queues": {
        "one": {"pool": "a", "concurrency": 1, "task": {"timeout": "1s"}},
        "two": {"pool": "b", "concurrency": 1, "task": {"timeout": "1s"}},
    },
}


def config(changes: Mapping[str, Any] | None = None) -> FleetConfig:
    """TREE with the values at some paths replaced."""
    tree = deepcopy(TREE)
    for path, value in (changes or {}).items():
        *keys, last = path.split(".")
        node = tree
        for key in keys:
            node = node.setdefault(key, {})
        node[last] = value
    return FleetConfig.model_validate(tree)


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, ()),
        ({"queues.one.concurrency": 5, "pools.a.processes": 4, "log.level": "debug"}, ()),
        ({"http.port": 1, "http.host": "0.0.0.0"}, ("http.host", "http.port")),
        ({"redis.url": "redis://other/0"}, ("redis.url",)),
        ({"redis.prefix": "x", "redis.reconnect": {"max": "9s"}}, ("redis.prefix", "redis.reconnect")),
        ({"queues.one.limits": {"depth": 9}}, ()),
        ({"pools.a.grace": "19s"}, ()),
        ({"pools.b.grace": "5s"}, ()),
        ({"pools.a.grace": "21s"}, ("pools.a.grace (of the fleet as a whole)",)),
    ],
)
def test_what_is_read_at_start_alone_is_named(changes: dict[str, Any], keys: tuple[str, ...]) -> None:
    assert postponed(config(), config(changes)) == keys


class Rig:
    """A Reload over a supervisor that was not started: what it is told is what counts."""

    def __init__(self) -> None:
        self.adopted: list[tuple[FleetConfig, Selection]] = []
        self.results: list[str] = []
        self.supervisor = Supervisor(self.specs(config(), select(config(), ("one", "two"))))
        self.reload = Reload(
            config(),
            self.supervisor,
            choose=lambda new: select(new, ("one", "two")),
            specs=self.specs,
            adopt=lambda new, chosen: self.adopted.append((new, chosen)),
            on_result=lambda result, at: self.results.append(result),
        )

    @staticmethod
    def specs(new: FleetConfig, chosen: Selection) -> list[ChildSpec]:
        return [
            ChildSpec(name=f"{pool}-0", argv=("x",), stdin=new.redis.url.encode() + str(chosen.served).encode())
            for pool in chosen.pools
        ]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_valid_configuration_takes_effect_and_is_told(rig: Rig) -> None:
    result = rig.reload.apply(config({"queues.one.concurrency": 5, "queues.two.concurrency": 5}))
    assert result.roll.replaced == ("a-0", "b-0")
    assert result.later == ()
    (adopted, chosen) = rig.adopted[0]
    assert adopted.queues["one"].concurrency == 5
    assert tuple(chosen.served) == ("one", "two")
    assert rig.results == ["applied"]
    assert rig.supervisor.reload is not None
    assert (rig.supervisor.reload.result, rig.supervisor.reload.detail) == ("applied", "replaced: a-0, b-0")


def test_what_can_not_change_stays_as_it_was_for_all_parts(rig: Rig) -> None:
    """Else the processes would go to another server than the supervisor that gives back their jobs."""
    result = rig.reload.apply(config({"redis.url": "redis://other/0", "http.port": 5, "log.level": "debug"}))
    assert result.later == ("http.port", "redis.url")
    assert result.roll.replaced == ()
    assert rig.adopted[0][0].redis.url == "redis://host/0"
    assert rig.adopted[0][0].log.level == "debug"
    # said again at the next reload, since it still waits for a restart
    assert rig.reload.apply(config({"redis.url": "redis://other/0"})).later == ("redis.url",)


def test_configuration_with_nothing_to_serve_changes_nothing(rig: Rig) -> None:
    others = {"other": {"pool": "a", "concurrency": 1, "task": {"timeout": "1s"}}}
    with pytest.raises(SelectionError):
        rig.reload.apply(config({"queues": others}))
    assert rig.adopted == []
    assert rig.reload.config == config()
    rig.reload.refuse("nothing to serve")
    assert rig.results == ["refused"]
    assert rig.supervisor.reload is not None
    assert (rig.supervisor.reload.result, rig.supervisor.reload.detail) == ("refused", "nothing to serve")
