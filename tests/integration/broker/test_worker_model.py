"""Whatever happens to workers, connections and server in whatever order: each job ends once, where the model says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
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
#: A fault's length: shorter than a time-out, longer, and longer than a lock lives in the impatient examples.
SHORT_S, LONG_S = (0.1, 0.6), (0.1, 0.6, 1.3)
SOME_PLANS = st.lists(
    st.one_of(
        st.just(Planned("plain")),
        st.just(Planned("long")),
        st.just(Planned("snoozes")),
        st.just(Planned("cancelled")),
        st.builds(Planned, st.just("fails"), fails=st.integers(1, 4), attempts=st.integers(1, 4)),
    ),
    min_size=1,
    max_size=4,
)
NUMBERS = st.integers(0, 3)


class WorkerMachine(RuleBasedStateMachine):
    """Adds jobs and disturbs their workers; at the end everything is left alone and must come out right."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.rig: Rig | None = None
        self.restarted = False

    @property
    def world(self) -> Rig:
        assert self.rig is not None
        return self.rig

    def _run(self, *steps: Callable[[], Coroutine[Any, Any, None]], then_s: float = 0.0) -> None:
        async def run() -> None:
            for step in steps:
                await step()
            await asyncio.sleep(then_s)

        self.runner.run(run())

    async def _add(self, plans: list[Planned], **options: int) -> None:
        for plan in plans:
            await self.world.add(plan, dict(options))

    @initialize(patient=st.booleans(), slots=st.integers(1, 4))
    def begin(self, patient: bool, slots: int) -> None:
        async def make() -> None:
            self.rig = Rig(self.server, patient=patient)
            await self.rig.start_worker(slots)

        self._run(make)

    # ------------------------------------------------------------------ work

    @rule(plans=SOME_PLANS, then_s=MOMENTS)
    def add(self, plans: list[Planned], then_s: float) -> None:
        self._run(lambda: self._add(plans), then_s=then_s)

    @rule(plans=SOME_PLANS, delay=st.integers(1, 60), priority=st.integers(0, 3))
    def add_for_later(self, plans: list[Planned], delay: int, priority: int) -> None:
        self._run(lambda: self._add(plans, delay=delay, priority=priority))

    @rule(then_s=MOMENTS)
    def pause(self, then_s: float) -> None:
        self._run(self.world.pause, then_s=then_s)

    @rule(then_s=MOMENTS)
    def resume(self, then_s: float) -> None:
        self._run(self.world.resume, then_s=then_s)

    # --------------------------------------------------------------- workers

    @precondition(lambda self: len(self.world.workers) < 3)
    @rule(slots=st.integers(1, 4), then_s=MOMENTS)
    def start_worker(self, slots: int, then_s: float) -> None:
        self._run(lambda: self.world.start_worker(slots), then_s=then_s)

    @precondition(lambda self: self.world.workers)
    @rule(index=NUMBERS, within_s=st.sampled_from([0.0, 0.3, 2.0]))
    def stop_worker(self, index: int, within_s: float) -> None:
        self._run(lambda: self.world.stop_worker(index, 2.0 if self.world.patient else within_s))

    # ---------------------------------------------------------------- faults

    @rule(plans=SOME_PLANS, then_s=MOMENTS)
    def kill_connections(self, plans: list[Planned], then_s: float) -> None:
        self._run(lambda: self._add(plans), self.world.kill_connections, then_s=then_s)

    @precondition(lambda self: self.world.workers)
    @rule(
        index=NUMBERS, point=st.sampled_from((*POINTS, "late")), exchange=st.sampled_from(EXCHANGES), plans=SOME_PLANS
    )
    def break_an_exchange(self, index: int, point: Point, exchange: str, plans: list[Planned]) -> None:
        self.world.proxy(index).break_at(point, named(exchange))
        self._run(lambda: self._add(plans), then_s=0.05)

    @rule()
    def late_requests_arrive(self) -> None:
        for running in self.world.workers:
            for planned in running.proxy.breaks:
                planned.release()
        self._run(then_s=0.02)

    @precondition(lambda self: self.world.workers)
    @rule(index=NUMBERS, count=st.integers(0, 2000), direction=st.sampled_from(["up", "down"]), plans=SOME_PLANS)
    def cut(self, index: int, count: int, direction: Direction, plans: list[Planned]) -> None:
        self.world.proxy(index).cut_after(count, direction)
        self._run(lambda: self._add(plans), then_s=0.05)

    @precondition(lambda self: self.world.workers)
    @rule(
        index=NUMBERS,
        fault=st.sampled_from(["reset", "black_hole", "freeze", "refuse"]),
        length=NUMBERS,
        plans=SOME_PLANS,
    )
    def disturb(self, index: int, fault: str, length: int, plans: list[Planned]) -> None:
        lengths = SHORT_S if self.world.patient else LONG_S
        proxy = self.world.proxy(index)

        async def step() -> None:
            await self._add(plans)
            await asyncio.sleep(0.02)
            getattr(proxy, fault)()
            await asyncio.sleep(lengths[length % len(lengths)])
            proxy.heal()

        self._run(step)

    @precondition(lambda self: not self.restarted)
    @rule(plans=SOME_PLANS)
    def restart_server(self, plans: list[Planned]) -> None:
        self.restarted = True
        self._run(lambda: self._add(plans), self.world.restart_server)

    # --------------------------------------------------------------- the end

    def teardown(self) -> None:
        try:
            if self.rig is not None:
                problems = self.runner.run(self.rig.problems())
                assert not problems, "\n".join([*problems, "", *self.rig.story()])
        finally:
            if self.rig is not None:
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
