"""Bounds that a producer computes as a share of its own may be fractions; what is counted may not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tasks.codec import DecodeError, decode, encode
from tasks.number import MAX_SAFE
from tests.unit.tasks.producers import PRODUCERS
from tests.unit.tasks.wire_data import EXAMPLES

#: The MCP tools' child of a swarm (node-stack, 1.6): so many per cent of 3,600,000 ms.
SPAWN = next(each.data for each in PRODUCERS if each.name == "MCP spawn, simple")
FLAT = next(job["data"] for job in EXAMPLES if "swarmId" in job["data"])
SHARES = [3_600_000 * 0.333, 3_600_000 / 7, 512 * 0.6, 0.1, 0.0, 5e-324, 900_000.0]


def written(data: dict[str, Any]) -> str:
    """What becomes of its JSON."""
    return json.dumps(encode(decode(json.loads(json.dumps(data)))), sort_keys=True)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("field", ["maxDurationMs", "maxMemoryMB"])
def test_share_of_a_swarms_bounds_is_kept(field: str, share: float) -> None:
    data = SPAWN | {"allocation": SPAWN["allocation"] | {field: share}}
    task: Any = decode(data)
    assert (task.allocation.max_duration_ms, task.allocation.max_memory_mb) == (
        data["allocation"]["maxDurationMs"],
        data["allocation"]["maxMemoryMB"],
    )
    assert written(data) == json.dumps(data, sort_keys=True)


@pytest.mark.parametrize("share", [*SHARES, 0, 3_600_000])
def test_share_of_a_flat_swarms_time_is_kept_and_renewed(share: float) -> None:
    config = FLAT["config"] | {"resources": FLAT["config"]["resources"] | {"maxTime": share}}
    data = FLAT | {"config": config}
    assert written(data) == json.dumps(data, sort_keys=True)
    renewed = encode(decode(data).renewed())["allocation"]["maxDurationMs"]  # type: ignore[attr-defined]
    assert (renewed, type(renewed)) == (share, type(share))


@pytest.mark.parametrize("whole", [0, 1, 900_000, MAX_SAFE])
def test_integer_is_written_as_one(whole: int) -> None:
    data = SPAWN | {"allocation": SPAWN["allocation"] | {"maxDurationMs": whole, "maxMemoryMB": whole}}
    assert f'"maxDurationMs": {whole}' in written(data)
    assert f'"maxMemoryMB": {whole}' in written(data)
    assert "." not in json.dumps(encode(decode(data))["allocation"])


@pytest.mark.parametrize("number", [-1, -0.5, -5e-324, math.nan, math.inf, -math.inf, 2**53, 1e300, True, "7", [7], {}])
@pytest.mark.parametrize("field", ["maxDurationMs", "maxMemoryMB"])
def test_what_bounds_nothing_is_refused(field: str, number: Any) -> None:
    with pytest.raises(DecodeError) as error:
        decode(SPAWN | {"allocation": SPAWN["allocation"] | {field: number}})
    assert (error.value.path, error.value.expected) == (
        f"data.allocation.{field}",
        "a number from 0 to 9007199254740991",
    )


@pytest.mark.parametrize("field", ["maxConcurrentSteps", "maxTokens"])
def test_what_is_counted_is_whole(field: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(SPAWN | {"allocation": SPAWN["allocation"] | {field: 2.5}})
    assert error.value.path == f"data.allocation.{field}"
