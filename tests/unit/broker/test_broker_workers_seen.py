"""Workers are read out of a server's list of clients, and told apart by what their libraries say."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.keys import client_name
from workers.broker.workers_seen import LIBRARY, seen

LINE = (
    "id={id} addr=127.0.0.1:{id} laddr=127.0.0.1:6379 fd=8 name={name} age=12 idle=3 flags={flags} capa= db=0 sub=0 "
    "psub=0 multi=-1 qbuf=0 cmd=bzpopmin user=default redir=-1 resp=2 lib-name={lib} lib-ver={version}"
)


def client(name: str, lib: str = "", version: str = "", flags: str = "N", number: int = 1) -> str:
    return LINE.format(id=number, name=name, lib=lib, version=version, flags=flags)


@pytest.mark.parametrize(
    ("name", "lib", "side"),
    [
        (client_name("bull", "mail", "w1"), LIBRARY, "fleet"),
        (client_name("bull", "mail", "w1"), "ioredis", "node"),
        (client_name("bull", "mail", "w1"), "ioredis(tag)", "node"),
        (client_name("bull", "mail", "w1"), "node-redis", "node"),
        (client_name("bull", "mail", "w1"), "GlideJS", "node"),
        (client_name("bull", "mail", "w1"), "redis-py", "python"),
        (client_name("bull", "mail", "w1"), "", "unknown"),
        (client_name("bull", "mail", "w1"), "lettuce", "unknown"),
        ("bull:mail:w:w1", "redis-py", "python"),
        ("bull:mail:w:w1", "", "python"),
    ],
)
def test_side_of_a_worker(name: str, lib: str, side: str) -> None:
    (worker,) = seen(client(name, lib, "1.2"), "bull", ["mail"])["mail"]
    assert (worker.name, worker.side, worker.address) == ("w1", side, "127.0.0.1:1")
    assert (worker.connected_s, worker.idle_s, worker.is_waiting) == (12, 3, False)


def test_worker_without_a_name_is_one() -> None:
    name = client_name("bull", "mail", "").removesuffix(":w:")
    (worker,) = seen(client(name, "ioredis", flags="b"), "bull", ["mail"])["mail"]
    assert (worker.name, worker.is_waiting) == ("", True)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "fleet:0123456789abcdef",
        f"bull:{base64.b64encode(b'mail').decode()}:qe",
        client_name("other", "mail", "w"),
        client_name("bull", "other", "w"),
        "bull:mail:7",
    ],
)
def test_other_clients_are_no_workers(name: str) -> None:
    assert seen(client(name, "ioredis"), "bull", ["mail"]) == {}


def test_workers_are_listed_by_queue_and_in_order() -> None:
    lines = [
        client(client_name("bull", "b", "z"), "ioredis", number=1),
        client(client_name("bull", "a", "y"), "ioredis", number=2),
        client(client_name("bull", "a", "x:w:x"), LIBRARY, number=3),
    ]
    found = seen("\n".join(lines), "bull", ["a", "b", "c"])
    assert {queue: [worker.name for worker in workers] for queue, workers in found.items()} == {
        "a": ["x:w:x", "y"],
        "b": ["z"],
    }


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(["id=1", "name=bull:a:w:x", " ", "\n", "=", "age=x", "b"])).map("".join))
def test_no_list_is_an_error(text: str) -> None:
    seen(text, "bull", ["a"])
