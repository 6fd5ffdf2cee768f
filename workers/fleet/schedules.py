"""The schedules of fleet.yaml: what is wrong with them, and who makes them those that BullMQ runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.accept_section import module_of, types_of
from config.errors import ConfigIssue
from config.loader import LoadedConfig
from config.schema import FleetConfig
from tasks import TASKS
from tasks.base import Task
from workers import queues as modules
from workers.broker.endpoint import Endpoint
from workers.broker.schedulers import NewSchedule, Schedulers
from workers.ops.schedule_sync import ScheduleSync
from workers.queue_service import QueueServiceError
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.new_schedules import NewSchedules
from workers.queue_service.queue_names import QueueNames
from workers.queue_service.reach import Reach
from workers.queue_service.reconcile import Key
from workers.queue_service.routes import Routes
from workers.queue_service.schedule import ScheduleSpec
from workers.queue_service.scheduling import Scheduling
from workers.queues import QueueModuleError

#: Where in an entry the parts of a schedule stand that are not called so there.
_PLACES = {"every_ms": "every", "start_ms": "start", "end_ms": "end", "type": "data", "id": ""}


def check_schedules(loaded: LoadedConfig) -> list[ConfigIssue]:
    """What BullMQ, the cron libraries and the queues say about each entry of `schedules`; empty when all is well."""
    config, issues = loaded.config, list[ConfigIssue]()
    if not config.schedules:
        return issues
    make = _maker(config).make
    for name, entry in sorted(config.schedules.items()):
        try:
            make(entry.queue, name, ScheduleSpec.of(entry))
        except InvalidRequestError as error:
            place = _place(error.field)
            issues.append(loaded.issue(("schedules", name, *place), _text(error, place)))
        except QueueServiceError as error:
            issues.append(loaded.issue(("schedules", name, "queue"), str(error)))
    return issues


def declared(config: FleetConfig) -> Mapping[Key, NewSchedule] | None:
    """The schedules that a checked configuration declares. None: it has no such section, and none is to be touched."""
    if config.schedules is None:
        return None
    make = _maker(config).make
    entries = config.schedules.items()
    return {(entry.queue, name): make(entry.queue, name, ScheduleSpec.of(entry)) for name, entry in entries}


def scheduling(config: FleetConfig, endpoint: Endpoint, client: Any) -> Scheduling:
    """The schedules of the configuration's queues.

    Args:
        client: commands of the endpoint; closed by the caller.
    """
    timeout_s = config.redis.command_timeout
    return Scheduling(
        Schedulers(client, endpoint.prefix, timeout_s=timeout_s),
        QueueNames(client, endpoint.prefix, tuple(config.queues), Reach(timeout_s)),
        _maker(config),
        declared=declared(config),
        queues=tuple(config.queues),
    )


def keeper(config: FleetConfig, endpoint: Endpoint, client: Any) -> ScheduleSync:
    """Who makes them those that BullMQ runs, at start and for each new configuration: one in each pod."""
    return ScheduleSync(scheduling(config, endpoint, client), reconnect=endpoint.reconnect)


def adopt(sync: ScheduleSync, config: FleetConfig) -> None:
    """Let it go by another configuration."""
    sync.scheduling.declared, sync.scheduling.queues = declared(config), tuple(config.queues)
    sync.ask()


def _maker(config: FleetConfig) -> NewSchedules:
    return NewSchedules(Routes.of(config), {**TASKS, **_own_types(config)})


def _own_types(config: FleetConfig) -> dict[str, type[Task]]:
    """The task models of modules that are not Fleet's own, of the queues that have a schedule. One that can't be loaded
    is told with its queue."""
    found = {}
    for queue in sorted({entry.queue for entry in (config.schedules or {}).values()} & config.queues.keys()):
        entry = config.queues[queue]
        for kind in types_of(queue, entry):
            module = module_of(queue, entry, kind)
            if module is None:
                continue
            try:
                found[kind] = modules.load(kind, module).task
            except QueueModuleError:
                continue
    return found


def _place(field: str) -> tuple[str, ...]:
    head, *below = field.split(".")
    head = _PLACES.get(head, head)
    return tuple(part for part in (head, *below) if part)


def _text(error: InvalidRequestError, place: tuple[str, ...]) -> str:
    """Without the field, which the place says."""
    return str(error).removeprefix(f"{error.field}: ") if place else str(error)
