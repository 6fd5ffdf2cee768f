"""The forms of `timeout` and `ladder`, and what is said of those that lead nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from config.errors import ConfigError
from config.json_schema import fleet_schema
from config.loader import DEFAULT_FILE, LoadedConfig, load
from config.rung_section import RungConfig, TimeoutConfig
from config.schema import FleetConfig
from config.task_section import TaskConfig
from config.units import HUMAN

HEAD = "pools: {p: {}}\nqueues:\n  q:\n    pool: p\n    concurrency: 1\n    task:\n"
EVERYONE = ("free", "premium", "enterprise")

Task = Callable[..., LoadedConfig]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A configuration whose one task has these lines."""

    def loaded(lines: str, **options: Any) -> LoadedConfig:
        path = tmp_path / "fleet.yaml"
        path.write_text(HEAD + "".join(f"      {line}\n" for line in lines.splitlines()), encoding="utf-8")
        return load(path, **{"env": {}, **options})

    return loaded


def of(loaded: LoadedConfig) -> TaskConfig:
    return loaded.config.queues["q"].task


SWARM = """\
ladder:
  - {at: 1m, for: free, do: pause, tries: 2}
  - {at: 5m, for: [premium, enterprise], do: pause}
  - {at: 10m, do: stop, wait: 20s}
  - {do: kill}
job_may_set: 20m"""


def test_one_time_is_a_time_out(task: Task) -> None:
    found = of(task("timeout: 30s"))
    assert (found.timeout, found.ladder, found.job_may_set) == (30.0, None, None)


def test_times_of_rungs_are_the_short_form_of_a_ladder(task: Task) -> None:
    found = of(task("timeout: {kill: 61m, warn: 50m, stop: 1h, job_may_set: 2h}")).timeout
    assert isinstance(found, TimeoutConfig)
    assert found.job_may_set == 7200
    assert found.rungs == (
        RungConfig(do="warn", at=3000),
        RungConfig(do="stop", at=3600),
        RungConfig(do="kill", at=3660),
    )


def test_rungs_are_a_ladder(task: Task) -> None:
    found = of(task(SWARM))
    assert (found.timeout, found.job_may_set) == (None, 1200)
    assert found.ladder is not None
    assert [(rung.do, rung.at, rung.whose, rung.tries, rung.wait) for rung in found.ladder] == [
        ("pause", 60, ("free",), 2, None),
        ("pause", 300, ("premium", "enterprise"), 1, None),
        ("stop", 600, EVERYONE, 1, 20),
        ("kill", None, EVERYONE, 1, None),
    ]


@pytest.mark.parametrize("lines", ["timeout: 30s", "timeout: {stop: 1h, kill: 61m, job_may_set: 2h}", SWARM])
def test_children_read_what_was_written(task: Task, lines: str) -> None:
    config = task(lines).config
    assert FleetConfig.model_validate_json(config.model_dump_json()) == config
    assert FleetConfig.model_validate(config.model_dump(mode="json", context=HUMAN)) == config


def test_each_value_is_explained_where_it_was_written(task: Task) -> None:
    leaves = {leaf.path: (leaf.value, leaf.origin) for leaf in task(SWARM).explain(("queues", "q", "task", "ladder"))}
    assert leaves["queues.q.task.ladder[0].for"] == ('["free"]', "fleet.yaml:8:20")
    assert leaves["queues.q.task.ladder[2].wait"] == ("20s", "fleet.yaml:10:31")
    assert leaves["queues.q.task.ladder[3].at"] == ("null", "default")
    loaded = task("timeout: {stop: '${STOP:-1h}', kill: 61m}")
    leaves = {leaf.path: (leaf.value, leaf.origin) for leaf in loaded.explain(("queues", "q", "task", "timeout"))}
    assert leaves["queues.q.task.timeout.stop"] == ("1h", "fleet.yaml:7:17 default of ${STOP}")


def test_single_times_are_set_from_outside(task: Task) -> None:
    env = {"FLEET__QUEUES__Q__TASK__TIMEOUT__STOP": "2h"}
    found = of(task("timeout: {stop: 1h, kill: 61m}", env=env, overrides=["queues.q.task.timeout.kill=3h"])).timeout
    assert isinstance(found, TimeoutConfig)
    assert (found.stop, found.kill) == (7200, 10_800)
    assert of(task("timeout: {stop: 1h, kill: 61m}", overrides=["queues.q.task.timeout=5s"])).timeout == 5
    both = ["queues.q.task.ladder=null", "queues.q.task.timeout=5s", "queues.q.task.job_may_set=null"]
    assert of(task(SWARM, overrides=both)).timeout == 5
    steps = of(
        task("timeout: 5s", overrides=["queues.q.task.timeout=null", "queues.q.task.ladder=[{at: 5s, do: kill}]"])
    )
    assert steps.ladder == (RungConfig(at=5, do="kill"),)


WRONG = [
    ("retry: never", ["6:5: queues.q.task.timeout: this key is required: a duration like 30s, 5m or 1h30m"]),
    ("timeout: null", ["7:7: queues.q.task.timeout: this key is required: a duration like 30s, 5m or 1h30m"]),
    ("timeout: fast", ["7:7: queues.q.task.timeout: expected a duration like 30s, 5m or 1h30m, found 'fast'"]),
    ("timeout: [1]", ["7:7: queues.q.task.timeout: expected a duration like 30s, 5m or 1h30m, found a list"]),
    (
        "timeout: {stpo: 1h, kill: fast}",
        [
            "7:17: queues.q.task.timeout.stpo: unknown key; did you mean 'stop'?",
            "7:27: queues.q.task.timeout.kill: expected a duration like 30s, 5m or 1h30m, found 'fast'",
        ],
    ),
    ("timeout: {}", ["7:7: queues.q.task.timeout: expected at least one rung, the last of them cancel or kill"]),
    (
        "timeout: {stop: 1h}",
        ["7:7: queues.q.task.timeout: expected cancel or kill as the last rung, since a run may go on after stop"],
    ),
    (
        "timeout: {stop: 1h, kill: 59m, job_may_set: 30m}",
        [
            "7:27: queues.q.task.timeout.kill: expected a time after 1h, when stop begins at the latest",
            "7:38: queues.q.task.timeout.job_may_set: expected at least 1h, when stop begins anyway",
        ],
    ),
    (
        "timeout: 30s\nladder: [{at: 5s, do: kill}]",
        ["8:7: queues.q.task.ladder: expected either timeout or ladder, found both; null takes one of them back"],
    ),
    (
        "timeout: 30s\njob_may_set: 1m",
        ["8:7: queues.q.task.job_may_set: expected it inside timeout: {cancel: 30s, job_may_set: 5m}"],
    ),
    ("ladder: []", ["7:7: queues.q.task.ladder: expected at least one rung, the last of them cancel or kill"]),
    ("ladder: 30s", ["7:7: queues.q.task.ladder: expected a list, found '30s'"]),
    ("ladder: [{at: 5s}]", ["7:16: queues.q.task.ladder[0].do: this key is required: warn, checkpoint, pause, stop, "
                            "cancel or kill"]),
    (
        "ladder: [{at: 5s, do: jump, for: rich}]",
        [
            "7:25: queues.q.task.ladder[0].do: expected warn, checkpoint, pause, stop, cancel or kill, found 'jump'",
            "7:35: queues.q.task.ladder[0].for: expected free, premium or enterprise or a list, found 'rich'",
        ],
    ),
    (
        "ladder: [{at: 5s, do: kill, for: []}]",
        ["7:35: queues.q.task.ladder[0].for: expected one or more of free, premium and enterprise, found a list"],
    ),
    ("ladder: [{at: 5s, do: kill, whose: free}]", ["7:35: queues.q.task.ladder[0].whose: unknown key; known here: at, "
                                                   "for, do, tries, wait"]),
    (
        "ladder: [{at: 5s, do: warn, wait: 1s, tries: 2}, {do: kill}]",
        [
            "7:35: queues.q.task.ladder[0].wait: expected no wait for warn, which asks nothing",
            "7:45: queues.q.task.ladder[0].tries: expected tries for checkpoint, pause and stop alone, not for warn",
        ],
    ),
    ("ladder: [{do: kill}]", ["7:16: queues.q.task.ladder[0]: expected a time, at: this is the first rung"]),
    (
        "ladder: [{at: 5s, do: kill, for: free}]",
        ["7:7: queues.q.task.ladder: expected at least one rung for premium, the last of them cancel or kill"],
    ),
    (
        "ladder: [{at: 1s, do: warn, for: premium}, {do: kill}]",
        ["7:50: queues.q.task.ladder[1]: expected a time, at: this is the first rung for free"],
    ),
    (
        "ladder: [{at: 1s, do: stop}, {do: kill, for: [free, premium]}]",
        [
            "7:25: queues.q.task.ladder[0].do: expected cancel or kill as the last rung for enterprise, since a run "
            "may go on after stop"
        ],
    ),
    (
        "ladder: [{at: 1s, do: cancel}, {do: stop}]",
        [
            "7:39: queues.q.task.ladder[1].do: expected stop before cancel",
        ],
    ),
    ("ladder: [{at: 1s, do: kill}, {at: 2s, do: kill}]", ["7:45: queues.q.task.ladder[1].do: expected kill once"]),
    (
        "ladder: [{at: 1s, do: stop}, {at: 2s, do: pause}, {do: kill}]",
        ["7:45: queues.q.task.ladder[1].do: expected pause before stop"],
    ),
    (
        "ladder: [{at: 1s, do: cancel}, {at: 2s, do: warn}, {do: kill}]",
        ["7:47: queues.q.task.ladder[1].do: expected nothing but kill behind cancel, found warn"],
    ),
    # a rung that could never be tried
    (
        "ladder: [{at: 1m, do: pause, tries: 3}, {do: stop}, {at: 90s, do: kill}]",
        ["7:60: queues.q.task.ladder[2].at: expected a time after 1m30s, when stop begins at the latest"],
    ),
    (
        "ladder: [{at: 1m, do: stop, for: free}, {at: 2m, do: stop}, {do: kill}]\njob_may_set: 90s",
        ["8:7: queues.q.task.job_may_set: expected at least 2m, when stop begins for premium anyway"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "said"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_leads_nowhere_is_refused_at_its_place(task: Task, lines: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        task(lines)
    assert str(caught.value).splitlines() == [f"fleet.yaml:{line}" for line in said]


@pytest.mark.parametrize(
    "lines",
    [
        "ladder: [{at: 5s, do: kill}]",
        "ladder: [{at: 5s, do: warn}, {do: cancel}]",
        "ladder: [{at: 5s, do: pause}, {at: 60s, do: pause}, {do: cancel, wait: 30s}, {do: kill}]",
        "ladder: [{at: 5s, do: stop}, {at: 6s, do: warn}, {at: 7s, do: checkpoint}, {do: cancel}]",
        "ladder: [{at: 1m, do: pause, tries: 3}, {do: stop}, {at: 91s, do: kill}]",
        "ladder: [{at: 1s, do: kill, for: free}, {at: 2s, do: cancel, for: [premium, enterprise]}]",
        "timeout: {cancel: 30s, job_may_set: 30s}",
    ],
)
def test_odd_ladders_that_lead_somewhere_are_taken(task: Task, lines: str) -> None:
    assert task(lines)


# ------------------------------------------------------------------ for editors


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"timeout": "30s"}, True),
        ({"timeout": "${T:-30}s"}, True),
        ({"timeout": {"stop": "1h", "kill": "${KILL:-61m}"}}, True),
        ({"ladder": [{"at": "1m", "for": "free", "do": "pause"}, {"do": "kill"}], "job_may_set": "2h"}, True),
        ({"ladder": [{"at": 1, "for": ["free"], "do": "kill"}], "timeout": None}, True),
        ({"ladder": None, "timeout": 5}, True),
        ({}, False),
        ({"retry": "never"}, False),
        ({"timeout": {}}, False),
        ({"timeout": {"stpo": "1h"}}, False),
        ({"timeout": "30s", "ladder": [{"at": 1, "do": "kill"}]}, False),
        ({"ladder": [{"at": 1, "whose": "free", "do": "kill"}]}, False),
        ({"ladder": [{"at": 1, "for": "rich", "do": "kill"}]}, False),
        ({"ladder": [{"at": 1}]}, False),
    ],
)
def test_schema_for_editors_knows_the_forms(value: Any, fits: bool) -> None:
    tree = {"pools": {"p": {}}, "queues": {"q": {"pool": "p", "concurrency": 1, "task": value}}}
    assert Draft202012Validator(fleet_schema()).is_valid(tree) is fits


# ----------------------------------------------------------------- what ships


def test_shipped_ladders_are_those_of_the_long_tasks() -> None:
    queues = load(DEFAULT_FILE, env={}).config.queues
    swarm, run = queues["swarm-execution"].task, queues["run-start"].task
    assert swarm.ladder is not None and isinstance(run.timeout, TimeoutConfig)
    rungs = [(rung.do, rung.at, rung.whose) for rung in swarm.ladder]
    assert rungs == [
        ("pause", 60, ("free",)), ("pause", 300, ("premium",)), ("stop", 600, EVERYONE), ("kill", None, EVERYONE),
    ]  # fmt: skip
    assert (run.timeout.stop, run.timeout.kill, run.timeout.job_may_set) == (3600, 3660, 7200)


# ------------------------------------------------------------------ whatever comes

anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["1m", "2h"])
rungs = st.fixed_dictionaries(
    {},
    optional={
        "at": anything,
        "for": anything | st.lists(st.sampled_from(EVERYONE) | anything, max_size=4),
        "do": st.sampled_from(["warn", "checkpoint", "pause", "stop", "cancel", "kill"]) | anything,
        "tries": anything,
        "wait": anything,
        "x": anything,
    },
)
names = st.sampled_from(["warn", "checkpoint", "pause", "stop", "cancel", "kill", "job_may_set", "x"])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "timeout": anything | st.dictionaries(names, anything),
            "ladder": anything | st.lists(rungs | anything, max_size=5),
            "job_may_set": anything,
        },
    )
)
def test_whatever_is_written_is_taken_or_refused_and_taken_for_the_same_again(value: Any) -> None:
    adapter = TypeAdapter(TaskConfig)
    try:
        found = adapter.validate_python(value)
    except ValidationError:
        return
    assert adapter.validate_json(adapter.dump_json(found)) == found
    assert (found.timeout is None) is not (found.ladder is None)
