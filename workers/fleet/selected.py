"""Which queues are served, and what is wrong with what is configured for them."""

from __future__ import annotations

from collections.abc import Collection

from config.errors import ConfigError, ConfigIssue
from config.loader import LoadedConfig
from config.schema import FleetConfig
from tasks.notification_create import NotificationCreate
from workers import queues as modules
from workers.broker.endpoint import EndpointError
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
        if queue not in available and entry.module is None:
            continue
        try:
            module = modules.load(queue, entry.module)
            if entry.task.on_failed == "notify" and module.on_failed is None and NOTES not in loaded.config.queues:
                problem = f"notify: notes go to queue {NOTES}, which is not configured: set queues.{NOTES}"
                issues.append(loaded.issue(("queues", queue, "task", "on_failed"), problem))
            loaded.options(queue, module.options)
        except ConfigError as error:
            issues.extend(error.issues)
        except QueueModuleError as error:
            issues.append(loaded.issue(("queues", queue, "module"), str(error)))
    return issues
