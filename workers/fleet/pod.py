"""What one pod does for its queues beside its workers, once, however many processes it has: it sees how much waits, who
has paused them and who else works on them, and keeps the schedules of fleet.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from config.pause_section import ResumeConfig
from config.schema import FleetConfig, QueueConfig
from workers.broker.endpoint import Endpoint
from workers.broker.global_pause import GlobalPauses
from workers.broker.stats import StatsReader
from workers.fleet import schedules
from workers.fleet.depths import admission, depth_limits
from workers.ops.competitors import Competitors
from workers.ops.fleet_service import Runner
from workers.ops.global_pauses import GlobalPauseWatch
from workers.ops.queue_watch import QueueWatch
from workers.ops.schedule_sync import ScheduleSync
from workers.ops.watched import Watched
from workers.queue_service import Admission
from workers.runtime.selection import Selection


@dataclass(frozen=True, slots=True)
class Pod:
    """These parts, over one connection."""

    queues: Admission
    """How much waits, as last seen."""
    pauses: GlobalPauseWatch
    others: Competitors
    schedules: ScheduleSync
    watch: QueueWatch

    @classmethod
    def of(cls, config: FleetConfig, chosen: Selection, endpoint: Endpoint) -> Pod:
        """For these queues. Connects to nothing until it is started."""
        client = endpoint.commands()
        queues = admission(config, client, chosen.served)
        seen = GlobalPauses(client, endpoint.prefix, timeout_s=config.redis.command_timeout)
        pauses = GlobalPauseWatch(seen, resume_after_s(config, chosen.served))
        others = Competitors(StatsReader(client, endpoint.prefix))
        watch = QueueWatch(queues, close=client.aclose, after=(pauses.look, others.look))
        return cls(queues, pauses, others, schedules.keeper(config, endpoint, client), watch)

    def beside(self, runner: Runner) -> Watched:
        """The runner with all of it."""
        notes = (self.pauses.told, self.others.told)
        return Watched(runner, self.watch, self.queues, notes=notes, beside=(self.schedules,))

    def adopt(self, config: FleetConfig, chosen: Selection) -> None:
        """Go by another configuration from now on."""
        self.queues.adopt(*depth_limits(chosen.served))
        self.pauses.policies = resume_after_s(config, chosen.served)
        schedules.adopt(self.schedules, config)


def resume_after_s(config: FleetConfig, queues: Mapping[str, QueueConfig]) -> dict[str, float | None]:
    """After how many seconds each queue is resumed that somebody has paused for everyone; None: it is not."""
    said = {queue: entry.on_global_pause or config.on_global_pause for queue, entry in queues.items()}
    return {queue: what.resume_after if isinstance(what, ResumeConfig) else None for queue, what in said.items()}
