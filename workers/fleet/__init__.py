"""The composition root: from a configuration to a running fleet. The only package that knows everybody.

`build_process` serves queues in this process; `build_fleet` supervises processes that each do so (`serve_pool`).
"""

from __future__ import annotations

from workers.broker.producer import adder as producer
from workers.fleet.queues import OpenError
from workers.fleet.selected import check_options, select
from workers.fleet.single import build_process, serve_pool
from workers.fleet.supervised import build_fleet
from workers.runtime.selection import SelectionError
from workers.runtime.supervision.brief import PoolBrief

__all__ = [
    "OpenError",
    "PoolBrief",
    "SelectionError",
    "build_fleet",
    "build_process",
    "check_options",
    "producer",
    "select",
    "serve_pool",
]
