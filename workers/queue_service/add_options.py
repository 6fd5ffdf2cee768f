"""How a job is to be added, and what of it is written into the job. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from tasks.priority import Urgency
from workers.broker.new_job import written
from workers.broker.numbers import is_number
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.option_rules import ELSEWHERE, check

#: Characters of an option's name that an error quotes; options that one job may have.
QUOTED, MAX_OPTIONS = 60, 100

Mode: TypeAlias = Literal["simple", "throttle", "debounce", "keep_last_if_active"]


@dataclass(frozen=True, kw_only=True)
class Deduplication:
    """Of several jobs with this id one is added. What is to be done is decided where one is added: Node's 5.53.2, which
    does not know the last two modes, takes a job that it adds for a duplicate all the same. What `keep_last_if_active`
    holds back is added by the worker that ends the job before it: by Fleet's and Node's 6, not by Node's 5.53.2.
    """

    id: str
    mode: Mode = "simple"
    """simple: as long as a job with the id has not ended. throttle: for `ttl_ms` after one was added, ended or not.
    debounce: the last one counts, since it takes the place of one that is still delayed; needs `delay_ms`.
    keep_last_if_active: as simple, but of those that come while one runs, the last is added when it ends."""
    ttl_ms: int | None = None
    """throttle: required. debounce: how long the id holds; None: until its job has ended."""
    extend: bool = True
    """debounce: each one that comes lets `ttl_ms` begin anew."""
    replace: bool = True
    """debounce: false: the first one counts."""


@dataclass(frozen=True, kw_only=True)
class AddOptions:
    """All of it may be left out. None: by the settings of the queue, or computed."""

    job_id: str | None = None
    """None: that of the task, by the rules of `tasks.ids`."""
    priority: int | None = None
    """BullMQ's, 0 to 2,097,151; the lowest comes first, and 0, which is none, before all others. None: by the rule of
    the queue (`task.priority`)."""
    urgency: Urgency | None = None
    """low, normal, high or critical, for the generic rule. None: what the task says."""
    resource_cost: float = 0.0
    """What it will use up, for the generic rule. Defaults to unknown."""
    registered: bool = False
    """Of a run that exists: it is known to this process's registry, for Node's rule."""
    delay_ms: int | None = None
    """How long it waits before it can start."""
    lifo: bool = False
    """Before those that wait, instead of behind them. A priority goes before it."""
    attempts: int | None = None
    """In all, the first included; `over_job` of the queue may say otherwise."""
    deduplication: Deduplication | None = None
    queue: str | None = None
    """None: that of the task's type, see `routes` in fleet.yaml."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """Further options of BullMQ's, as Node writes them, under their long or their short names. What is said by the
    fields above wins over it."""


DEFAULT = AddOptions()


def said(options: AddOptions) -> dict[str, Any]:
    """What the caller says of the job, under the names by which it is written; checked.

    Raises:
        InvalidRequestError: names the field.
    """
    if options is DEFAULT:
        return {}
    _check_factors(options)
    found = _raw(options.raw)
    fields = (
        ("job_id", "jobId", options.job_id),
        ("priority", "priority", options.priority),
        ("delay_ms", "delay", options.delay_ms),
        ("attempts", "attempts", options.attempts),
        ("lifo", "lifo", options.lifo or None),
    )
    for name, key, value in fields:
        if value is not None:
            check(key, value, name)
            found[key] = value
    if options.deduplication is not None:
        found["de"] = _deduplication(options.deduplication, found.get("delay", 0))
    return found


def _check_factors(options: AddOptions) -> None:
    if not isinstance(options, AddOptions):
        raise InvalidRequestError("options", f"expected AddOptions, found a {type(options).__name__[:QUOTED]}")
    if options.urgency is not None and options.urgency not in get_args(Urgency):
        raise InvalidRequestError("urgency", f"expected {', '.join(get_args(Urgency))}")
    if not is_number(options.resource_cost) or options.resource_cost < 0:
        raise InvalidRequestError("resource_cost", "expected a finite number from 0 up")
    if not isinstance(options.lifo, bool):
        raise InvalidRequestError("lifo", "expected true or false")


def _raw(raw: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(raw, Mapping) or not all(isinstance(name, str) for name in raw):
        raise InvalidRequestError("raw", "expected a mapping by the names of options")
    if len(raw) > MAX_OPTIONS:
        raise InvalidRequestError("raw", f"expected at most {MAX_OPTIONS} options, found {len(raw):,}")
    if not raw:
        return {}
    found = written(raw)
    if "attempts" not in raw:
        del found["attempts"]  # which `written` adds
    for name, value in found.items():
        if len(name) > QUOTED or not name.isprintable():
            raise InvalidRequestError("raw", f"expected printable names of at most {QUOTED} characters")
        if (why := ELSEWHERE.get(name)) is not None:
            raise InvalidRequestError(f"raw.{name}", why)
        check(name, value, f"raw.{name}")
    return found


def _deduplication(chosen: Deduplication, delay: float) -> dict[str, Any]:
    """As BullMQ writes it.

    Raises:
        InvalidRequestError
    """
    where = "deduplication"
    if not isinstance(chosen, Deduplication):
        raise InvalidRequestError(where, f"expected a Deduplication, found a {type(chosen).__name__[:QUOTED]}")
    if chosen.mode not in get_args(Mode):
        raise InvalidRequestError(f"{where}.mode", f"expected {', '.join(get_args(Mode))}")
    if chosen.mode == "throttle" and not chosen.ttl_ms:
        raise InvalidRequestError(f"{where}.ttl_ms", "throttle needs it: how long the id holds, in ms")
    if chosen.mode in ("simple", "keep_last_if_active") and chosen.ttl_ms is not None:
        raise InvalidRequestError(f"{where}.ttl_ms", f"{chosen.mode} has none: its id holds until its job has ended")
    replaces = chosen.mode == "debounce" and chosen.replace
    if replaces and not delay:
        raise InvalidRequestError("delay_ms", "debounce needs it: a job that is not delayed is not replaced")
    flags = {
        "extend": chosen.mode == "debounce" and chosen.extend and bool(chosen.ttl_ms),
        "replace": replaces,
        "keepLastIfActive": chosen.mode == "keep_last_if_active",
    }
    form: dict[str, Any] = {"id": chosen.id} | {name: True for name, is_set in flags.items() if is_set}
    if chosen.ttl_ms is not None:
        form["ttl"] = chosen.ttl_ms
    check("de", form, where)
    return form
