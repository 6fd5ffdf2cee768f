"""A full queue is told with its health, and stays healthy: it needs its workers."""

from __future__ import annotations

import time

from workers.broker.stats import QueueStats
from workers.ops.queue_watch import QueueWatch
from workers.ops.watched import RECENT_S, Watched
from workers.queue_service import Admission, Pressure, QueueState
from workers.runtime.process import State


class Runner:
    """Notes what is done with it."""

    name = "runner"

    def __init__(self, states: list[State]) -> None:
        self.drained = True
        self.done: list[str] = []
        self._states = states

    async def start(self) -> None:
        self.done.append("start")

    async def wait(self) -> None:
        self.done.append("wait")

    async def stop(self, *, by: float) -> None:
        self.done.append("stop")
        self.drained = False

    @property
    def started(self) -> bool:
        return True

    @property
    def ready(self) -> bool:
        return all(state.ok for state in self._states)

    def states(self) -> list[State]:
        return self._states

    def health(self) -> State:
        return State(self.name, self.ready, "all in one")


class Queues(Admission):
    def __init__(self, **states: QueueState) -> None:
        self.seen = states
        self.closed = 0

    def states(self) -> dict[str, QueueState]:
        return self.seen

    async def refresh(self) -> None:
        return None

    async def close(self) -> None:
        self.closed += 1


def full(*, age_s: float = 0.0) -> QueueState:
    pressure = Pressure(True, "12,000 waiting, limit 10,000", "depth", 30.0)
    return QueueState(QueueStats(queue="q"), pressure, time.monotonic() - age_s)


def watched(runner: Runner, queues: Queues) -> Watched:
    async def close() -> None:
        return None

    return Watched(runner, QueueWatch(queues, close=close), queues)


def test_full_queue_says_so_in_each_of_its_states() -> None:
    states = [
        State("redis", True, "redis://host"),
        State("mail", True, "5 of 5 slots busy"),
        State("mail-0.mail", False, "draining"),
        State("mail-0.other", True, "0 of 5 slots busy"),
        State("mail-0", True, "not ready"),
    ]
    other = QueueState(QueueStats(queue="other"), Pressure(), time.monotonic())
    seen = watched(Runner(states), Queues(mail=full(), other=other)).states()
    told = "; full: 12,000 waiting, limit 10,000"
    assert [(state.ok, state.detail) for state in seen] == [
        (True, "redis://host"),
        (True, f"5 of 5 slots busy{told}"),
        (False, f"draining{told}"),
        (True, "0 of 5 slots busy"),
        (True, "not ready"),
    ]


def test_what_was_seen_long_ago_is_not_told() -> None:
    state = State("mail", True, "busy")
    assert watched(Runner([state]), Queues(mail=full(age_s=RECENT_S + 5))).states() == [state]


async def test_runner_is_started_watched_and_stopped() -> None:
    runner, queues = Runner([]), Queues()
    service = watched(runner, queues)
    assert [service.drained, service.started, service.ready, service.name] == [True, True, True, "runner"]
    await service.start()
    await service.wait()
    await service.stop(by=time.monotonic() + 5)
    await service.stop(by=time.monotonic() + 5)
    assert runner.done == ["start", "wait", "stop", "stop"]
    assert [service.drained, queues.closed] == [False, 1]
    assert service.health() == State("runner", True, "all in one")
