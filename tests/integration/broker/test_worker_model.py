"""Whatever happens to workers, connections and server in whatever order: each job ends once, where the model says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.conftest import Server
from tests.fault_plan import POINTS, Direction, Point, named
from tests.integration.broker.model_rig import Planned, Rig

#: The exchanges that break: each writes something, and a lost reply leaves open whether it did.
EXCHANGES = (
    "moveToActive",
    "moveToFinished",
    "moveToDelayed",
    "retryJob",
    "moveJobFromActiveToWait",
    "extendLocks",
    "moveStalledJobsToWait",
    "BZPOPMIN",
)
MOMENTS = st.sampled_from([0.0, 0.02, 0.1])  # seconds; the rest happens while other rules run
PLANS = st.one_of(
    st.just(Planned("plain")),
    st.just(Planned("long")),
    st.just(Planned("snoozes")),
    st.just(Planned("cancelled")),
    st.builds(Planned, st.just("fails"), fails=st.integers(1, 4), attempts=st.integers(1, 4)),
)


class WorkerMachine(RuleBasedStateMachine):
    """Adds jobs and disturbs their workers; at the end everything is left alone and must come out right."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.rig = self.runner.run(self._made())
        self.restarted = False

    async def _made(self) -> Rig:
        rig = Rig(self.server)
        await rig.proxy.start()
        return rig

    def _run(self, *steps: Callable[[], Coroutine[Any, Any, None]], then_s: float = 0.0) -> None:
        async def run() -> None:
            for step in steps:
                await step()
            await asyncio.sleep(then_s)

        self.runner.run(run())

    @initialize(slots=st.integers(1, 4))
    def begin(self, slots: int) -> None:
        self._run(lambda: self.rig.start_worker(slots))

    # ------------------------------------------------------------------ work

    @rule(plans=st.lists(PLANS, min_size=1, max_size=4), delay=st.sampled_from([0, 0, 40]), then_s=MOMENTS)
    def add(self, plans: list[Planned], delay: int, then_s: float) -> None:
        async def step() -> None:
            for plan in plans:
                await self.rig.add(plan, {"delay": delay} if delay else {})

        self._run(step, then_s=then_s)

    @rule(plan=PLANS, priority=st.integers(1, 3))
    def add_urgent(self, plan: Planned, priority: int) -> None:
        self._run(lambda: self.rig.add(plan, {"priority": priority}))

    @rule(then_s=MOMENTS)
    def pause(self, then_s: float) -> None:
        self._run(self.rig.pause, then_s=then_s)

    @rule(then_s=MOMENTS)
    def resume(self, then_s: float) -> None:
        self._run(self.rig.resume, then_s=then_s)

    # --------------------------------------------------------------- workers

    @precondition(lambda self: len(self.rig.workers) < 3)
    @rule(slots=st.integers(1, 4), then_s=MOMENTS)
    def start_worker(self, slots: int, then_s: float) -> None:
        self._run(lambda: self.rig.start_worker(slots), then_s=then_s)

    @precondition(lambda self: self.rig.workers)
    @rule(index=st.integers(0, 2), within_s=st.sampled_from([0.0, 0.3, 2.0]))
    def stop_worker(self, index: int, within_s: float) -> None:
        self._run(lambda: self.rig.stop_worker(index, within_s))

    # ---------------------------------------------------------------- faults

    @rule(then_s=MOMENTS)
    def kill_connections(self, then_s: float) -> None:
        self._run(self.rig.kill_connections, then_s=then_s)

    @rule(point=st.sampled_from(POINTS), exchange=st.sampled_from(EXCHANGES), nth=st.integers(1, 3))
    def plan_a_break(self, point: Point, exchange: str, nth: int) -> None:
        self.rig.proxy.break_at(point, named(exchange), nth)

    @rule(count=st.integers(0, 2000), direction=st.sampled_from(["up", "down"]))
    def plan_a_cut(self, count: int, direction: Direction) -> None:
        self.rig.proxy.cut_after(count, direction)

    @rule(fault=st.sampled_from(["reset", "black_hole", "freeze", "refuse"]), for_s=st.sampled_from([0.1, 0.7, 1.3]))
    def disturb(self, fault: str, for_s: float) -> None:
        """For less than a time-out, more than one, and more than a lock lives."""

        async def step() -> None:
            getattr(self.rig.proxy, fault)()
            await asyncio.sleep(for_s)
            self.rig.proxy.heal()

        self._run(step)

    @precondition(lambda self: not self.restarted and len(self.rig.planned) > 3)
    @rule()
    def restart_server(self) -> None:
        self.restarted = True
        self._run(self.rig.restart_server)

    # --------------------------------------------------------------- the end

    def teardown(self) -> None:
        try:
            problems = self.runner.run(self.rig.problems())
            for event in self.rig.events if problems else ():
                note(str(event))
            assert not problems, "\n".join(problems)
        finally:
            self.runner.run(self.rig.close())
            self.runner.close()


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that loses nothing it has answered to when it is restarted."""
    directory = tmp_path_factory.mktemp("durable")
    server = Server(directory, "--appendonly", "yes", "--appendfsync", "always", "--hz", "50")
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(240)
def test_every_job_ends_once_where_the_model_says(durable: Server) -> None:
    class Machine(WorkerMachine):
        server = durable

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=int(os.environ.get("FLEET_MODEL_EXAMPLES", "12")),
            stateful_step_count=25,
            deadline=None,
            derandomize=bool(os.environ.get("CI")),
            database=None,
            # An example takes seconds, and the same steps need not fail twice: the steps are printed, not shrunk.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
