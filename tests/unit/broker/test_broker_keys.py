"""Names in Redis, as BullMQ for Node writes and reads them."""

from __future__ import annotations

import base64
import fnmatch

import pytest
from redis.crc import key_slot

from workers.broker.keys import checkpoint, client_name, own_pattern


@pytest.mark.parametrize(
    ("prefix", "queue", "worker", "name"),
    [
        # made with Node: `${prefix}:${Buffer.from(queue).toString('base64')}:w:${worker}`
        ("bull", "email-send", "alpha", "bull:ZW1haWwtc2VuZA==:w:alpha"),
        ("{fleet}", "é😀", "mail-0@host", "{fleet}:w6nwn5iA:w:mail-0@host"),
        ("bull", "a?>", "w", "bull:YT8+:w:w"),
    ],
)
def test_client_name_is_the_one_that_node_looks_for(prefix: str, queue: str, worker: str, name: str) -> None:
    assert client_name(prefix, queue, worker) == name


def test_queue_can_be_read_back_from_the_name() -> None:
    encoded = client_name("bull", "run/start:ä", "w").split(":")[1]
    assert base64.b64decode(encoded).decode() == "run/start:ä"


@pytest.mark.parametrize(
    ("prefix", "key", "pattern"),
    [
        ("bull", "fleet:bull:email-send:checkpoint:a:b", "fleet:bull:*"),
        ("{fleet}", "fleet:{fleet}:email-send:checkpoint:a:b", "fleet:{fleet}:*"),
    ],
)
def test_keys_of_fleets_own_lie_beside_bullmqs_and_in_their_slot(prefix: str, key: str, pattern: str) -> None:
    assert checkpoint(prefix, "email-send", "a:b") == key
    assert own_pattern(prefix) == pattern and fnmatch.fnmatchcase(key, pattern)
    if "{" in prefix:
        assert key_slot(key.encode()) == key_slot(f"{prefix}:email-send:a:b".encode())
