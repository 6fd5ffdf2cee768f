"""Which queues are served, and what is wrong with what is configured for them."""

from __future__ import annotations

from collections.abc import Collection

from config.accept_section import module_of, queue_of, task_of, task_place, types_of
from config.errors import ConfigError, ConfigIssue
from config.loader import LoadedConfig
from config.schema import FleetConfig
from tasks.notification_create import NotificationCreate
from workers import queues as modules
from workers.broker.endpoint import EndpointError
from workers.fleet.schedules import check_schedules
from workers.queues import QueueModuleError
from workers.runtime import selection, settings
from workers.runtime.selection import Selection
from workers.runtime.supervision.event_loop import missing as missing_loop

#: Where the notes of `on_failed: notify` go whose module makes none of its own.
NOTES = NotificationCreate.type_name()


def select(
    config: FleetConfig, pools: Collection[str] | None = None, queues: Collection[str] | None = None
) -> Selection:
    """The queues to serve; see `workers.runtime.selection.select`."""
    return selection.select(config, modules.available(), pools, queues)


def check_options(loaded: LoadedConfig) -> list[ConfigIssue]:
    """What the parts that use them say about `redis` and each `task.options`; empty when all is well."""
    issues: list[ConfigIssue] = []
    try:
        if loaded.config.redis.url != "embedded":
            settings.endpoint(loaded.config)
    except EndpointError as error:
        issues.append(loaded.issue(error.path, error.problem))
    for name, pool in sorted(loaded.config.pools.items()):
        if missing := missing_loop(pool.loop):
            issues.append(loaded.issue(("pools", name, "loop"), missing))
    available = modules.available()
    for queue, entry in sorted(loaded.config.queues.items()):
        for kind in types_of(queue, entry):
            if kind in available or module_of(queue, entry, kind) is not None:
                issues += _check_kind(loaded, queue, kind)
    issues += check_schedules(loaded)
    return list(dict.fromkeys(issues))


def _check_kind(loaded: LoadedConfig, queue: str, kind: str) -> list[ConfigIssue]:
    """What is wrong with a queue's settings for one of its task types."""
    config = loaded.config
    entry, task, place = config.queues[queue], task_of(config, queue, kind), task_place(config, queue, kind)
    issues: list[ConfigIssue] = []
    try:
        module = modules.load(kind, module_of(queue, entry, kind))
        if task.on_failed == "notify" and module.on_failed is None and queue_of(config, NOTES) is None:
            problem = f"notify: notes go to queue {NOTES}, which is not configured: set queues.{NOTES}"
            issues.append(loaded.issue((*place, "on_failed"), problem))
        loaded.options_at((*place, "options"), task.options, module.options)
    except ConfigError as error:
        issues.extend(error.issues)
    except QueueModuleError as error:
        where = ("queues", queue, "module") if entry.accepts is None else ("queues", queue, "accepts", kind, "module")
        issues.append(loaded.issue(where, str(error)))
    return issues
